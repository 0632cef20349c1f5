"""One denial in every form in which people send it: each is read once, or refused with the form to give instead."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import pytest

from sepolicyd.audit.dialects.preprocess import Front
from sepolicyd.audit.scan.scan_files import scan_files
from sepolicyd.cli.analyze import input_notes, is_unread

MESSAGE = (
    'avc:  denied  { read } for  pid=7 comm="x" name="y" dev="vda1" ino=9 scontext=system_u:system_r:ntpd_t:s0 '
    "tcontext=system_u:object_r:mail_spool_t:s0 tclass=file permissive=0"
)
RAW = f"type=AVC msg=audit(1795373100.123:7): {MESSAGE}"
KERNEL = f"audit: type=1400 audit(1795373100.123:7): {MESSAGE}"
INTERPRETED = f"type=AVC msg=audit(11/25/2026 08:00:00.123:7) : {MESSAGE}".replace('"x"', "x").replace('"y"', "y")
ALERT = """SELinux is preventing ntpd from read access on the file y.

Additional Information:
Source Context                system_u:system_r:ntpd_t:s0
Target Context                system_u:object_r:mail_spool_t:s0
Target Objects                {objects}
"""


def folded(width: int, before: str = "") -> str:
    return "".join(f"{before}{RAW[at : at + width]}\n" for at in range(0, len(RAW), width))


READ = {
    "utf-16 le with mark": f"\ufeff{RAW}\n".encode("utf-16-le"),
    "utf-16 be with mark": f"\ufeff{RAW}\n".encode("utf-16-be"),
    "utf-16 le": f"{RAW}\n".encode("utf-16-le"),
    "utf-16 be": f"{RAW}\n".encode("utf-16-be"),
    "utf-16 crlf": f"\ufeff{RAW}\r\n".encode("utf-16-le"),
    "gzip": gzip.compress(f"{RAW}\n".encode()),
    "xz": lzma.compress(f"{RAW}\n".encode()),
    "crlf": f"{RAW}\r\n".encode(),
    "quoted once more": f"{RAW}\n> {RAW}\n".encode(),
    "comment": folded(70, "# ").encode(),
    "comment of c": f"// {RAW}\n".encode(),
    "list": f" * {RAW}\n".encode(),
    "60 columns": folded(60).encode(),
    "80 columns": folded(80).encode(),
    "ausearch -i": f"----\n{INTERPRETED}\n".encode(),
    "dmesg": f"[   12.345678] {KERNEL}\n".encode(),
    "dmesg -T": f"[Wed Nov 25 08:00:00 2026] {KERNEL}\n".encode(),
    "journalctl -k": f"Nov 25 08:00:00 host kernel: {KERNEL}\n".encode(),
    "html": f"<pre>{RAW}</pre>\n".replace('"', "&quot;").encode(),
    "journal bytes": (json.dumps({"_AUDIT_TYPE_NAME": "AVC", "MESSAGE": list(f"AVC {MESSAGE}".encode())}) + "\n").encode(),
    "sealert": ALERT.format(objects="y [ file ]").encode(),
}
REFUSED = {
    "split permission": (RAW.replace("read", "name_con\nnect") + "\n", "a permission is split"),
    "csv": ("NODE,EVENT,DATE,TIME,SERIAL_NUM\n,AVC,11/25/2026,08:00:00,7\n", "ausearch --raw"),
    "text": ("At 08:00:00 11/25/2026 system, acting as root, unsuccessfully opened-file /x using ntpd\n", "ausearch --raw"),
    "one line of sealert": ("SELinux is preventing ntpd from read access on the file y.\n", "sealert -l"),
    "aureport": ("\nSummary Report\n======\nNumber of AVC's: 12\n", "aureport --avc"),
    "audit2allow": ("allow ntpd_t mail_spool_t:file read;\n", "ausearch --raw"),
}


@pytest.mark.parametrize("name", READ)
def test_it_is_read_once(name: str, tmp_path: Path) -> None:
    file = tmp_path / "pasted"
    file.write_bytes(READ[name])
    front = Front()
    result = scan_files([file], front=front)
    (seen,) = result.sightings
    assert (seen.denial.scontext.type, seen.denial.permissions, seen.denial.tclass) == ("ntpd_t", ("read",), "file")
    assert (result.denials, result.unparsed_count, is_unread(result, front)) == (1, 0, False)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_says_what_to_give(name: str, tmp_path: Path) -> None:
    text, wanted = REFUSED[name]
    file = tmp_path / "pasted"
    file.write_text(text, encoding="utf-8")
    front = Front()
    result = scan_files([file], front=front)
    assert is_unread(result, front) and not result.denials
    assert any(wanted in note for note in input_notes(result, front, [file.name]))


def test_an_alert_is_read_although_another_record_follows(tmp_path: Path) -> None:
    """The record of another event is not the message of the alert; a port of the alert is kept."""
    alert = ALERT.format(objects="port 1707 [ tcp_socket ]").replace(
        "read access on the file y", "name_bind access on the tcp_socket"
    )
    file = tmp_path / "pasted"
    file.write_text(f"{alert}\n{RAW}\n", encoding="utf-8")
    found = {one.denial.permissions: one.denial for one in scan_files([file], front=Front()).sightings}
    assert found.keys() == {("name_bind",), ("read",)}
    assert ("src", 1707) in found["name_bind",].ports


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("system_u:syste m_r:ntpd_t:s0", True),
        ("sys tem_u:system_r:ntpd_t:s0", True),
        ("system_u:system_r:ntpd_t:s0-s0:c0 .c1023", True),
        ("system_u:system_r:ntp d_t:s0", False),
        ("system_u:sys tem:ntpd_t:s0", False),
    ],
)
def test_a_context_is_joined_unless_its_type_is_broken(written: str, read: bool, tmp_path: Path) -> None:
    file = tmp_path / "pasted"
    file.write_text(RAW.replace("system_u:system_r:ntpd_t:s0", written) + "\n", encoding="utf-8")
    result = scan_files([file], front=Front())
    assert (result.denials, result.unparsed_count) == ((1, 0) if read else (0, 1))
    assert not read or result.sightings[0].denial.scontext.type == "ntpd_t"
