"""The daemon reads only auditd's form and does not import the dialects."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.audit.parse.reading import read_text
from tests.audit.parse.three_ways import in_pieces, rows, whole

BODY = (
    b'avc:  denied  { read } for  pid=4 comm="kiosk" name="menu" dev="vda1" ino=7 scontext=u:r:kiosk_t:s0 '
    b"tcontext=u:object_r:etc_t:s0 tclass=file permissive=0"
)
RECORD = b"type=AVC msg=audit(1800000001.001:1): " + BODY
FORMS = {
    "quoted mail": b"> " + RECORD,
    "entities": RECORD.replace(b'"', b"&quot;").replace(b"type=", b" type="),
    "ausearch -i": b"type=AVC msg=audit(03/28/2027 10:11:12.345:1) : " + BODY.replace(b'"', b""),
    "journalctl": b"Mar 03 09:00:01 desk audit[4]: AVC " + BODY,
    "journalctl -o cat": b"AVC " + BODY,
    "the message alone": BODY,
    "grep": b"audit.log:17:" + RECORD,
    "a list": b"['" + RECORD + b"']",
}


def test_what_the_daemon_loads() -> None:
    code = (
        "import sys, sepolicyd.daemon.service, sepolicyd.daemon.intake, sepolicyd.audit.follow.follower;"
        "print([name for name in sys.modules if 'dialects' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("text", FORMS.values(), ids=list(FORMS))
def test_a_form_is_read_by_analyze_alone(text: bytes) -> None:
    access = ("kiosk_t", "etc_t", "file", "read")
    assert rows(read_text(text + b"\n")) == {access: 1}
    for result in (whole(text + b"\n"), in_pieces(text + b"\n")):
        assert rows(result) == {}
        assert result.unparsed_count == 1


def test_the_raw_form_goes_the_same_way_with_and_without() -> None:
    text = RECORD + b"\n"
    assert rows(read_text(text)) == rows(whole(text)) == {("kiosk_t", "etc_t", "file", "read"): 1}
