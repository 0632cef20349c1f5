"""Every text form: the records read from it, and the message if it lacks information for a rule."""

from __future__ import annotations

import io
import json

import pytest

from benchmarks import varied
from sepolicyd.audit.dialects.dialect import Form, Refusal
from sepolicyd.audit.dialects.preprocess import Front
from sepolicyd.audit.model import UnparsedReason
from sepolicyd.audit.scan.scan_files import BLOCK, ScanResult, scan_stream
from tests.audit.parse.three_ways import rows

ACCESS = ("kiosk_t", "etc_t", "file", "read")
FIELDS = (
    'avc:  denied  { read } for  pid=4 comm="kiosk" name="menu" dev="vda1" ino=7 scontext=u:r:kiosk_t:s0 '
    "tcontext=u:object_r:etc_t:s0 tclass=file permissive=0"
)
RECORD = f"type=AVC msg=audit(1800000001.001:1): {FIELDS}"
SYSCALL = (
    "type=SYSCALL msg=audit(1800000001.001:1): arch=c000003e syscall=257 success=no exit=-13 ppid=3 pid=4 auid=1 uid=1 gid=1 "
    'comm="kiosk" exe="/usr/bin/kiosk" subj=u:r:kiosk_t:s0 key=(null)'
)


def read(text: str | bytes) -> tuple[ScanResult, Front]:
    front = Front()
    data = text.encode() if isinstance(text, str) else text
    return scan_stream(io.BytesIO(data), front=front), front


def entry(message: object, **fields: str) -> dict[str, object]:
    return {
        "_TRANSPORT": "audit",
        "_AUDIT_ID": "1",
        "_SOURCE_REALTIME_TIMESTAMP": "1800000001001000",
        "MESSAGE": message,
        **fields,
    }


JOURNAL = {
    "json": json.dumps(entry(f"AVC {FIELDS}")),
    "a list of bytes": json.dumps(entry(list(f"AVC {FIELDS}".encode()))),
    "json-pretty": json.dumps(entry(f"AVC {FIELDS}"), indent=8),
    "json-sse": "data: " + json.dumps(entry(f"AVC {FIELDS}")) + "\n",
    "json-seq": "\x1e" + json.dumps(entry(f"AVC {FIELDS}")),
    "the kernel's": json.dumps(entry(f"audit: type=1400 audit(1800000001.001:1): {FIELDS}", _TRANSPORT="kernel")),
    "audisp-syslog": json.dumps(entry(RECORD, _TRANSPORT="syslog", _UID="0", _COMM="audisp-syslog")),
    "export": f"__CURSOR=s=1\n_TRANSPORT=audit\n_AUDIT_ID=1\nMESSAGE=AVC {FIELDS}\n\n",
    "verbose": f"Mon 2027-01-15 08:00:01 UTC [s=1;i=2]\n    _TRANSPORT=audit\n    MESSAGE=AVC {FIELDS}\n    _AUDIT_ID=1\n",
}


@pytest.mark.parametrize("text", JOURNAL.values(), ids=list(JOURNAL))
def test_entries_of_the_journal(text: str) -> None:
    result, front = read(text + "\n")
    assert rows(result) == {ACCESS: 1}
    assert front.forms[Form.JOURNAL] > 0


@pytest.mark.parametrize("transport", ["stdout", "syslog", "journal"])
def test_an_entry_that_a_process_wrote_is_an_attempt(transport: str) -> None:
    for message in (f"AVC {FIELDS}", RECORD, f"audit: type=1400 audit(1.2:3): {FIELDS}"):
        written = entry(message, _TRANSPORT=transport, _UID="1001", _COMM="audisp-syslog", SYSLOG_IDENTIFIER="audit")
        for text in (json.dumps(written), json.dumps(written, indent=1)):
            result, _ = read(text + "\n")
            assert rows(result) == {}
            assert [line.reason for line in result.unparsed] == [UnparsedReason.FORGED_TRANSPORT]
            assert result.unparsed[0].attempt


def test_records_of_an_event_are_joined_over_entries() -> None:
    entries = [entry(f"AVC {FIELDS}"), entry(SYSCALL.replace("type=SYSCALL msg=audit(1800000001.001:1): ", "SYSCALL "))]
    result, _ = read("\n".join(map(json.dumps, entries)))
    (seen,) = result.sightings
    assert (seen.denial.exe, seen.denial.event.serial, seen.denial.event.time) == ("/usr/bin/kiosk", 1, "1800000001.001")


def test_an_entry_without_its_text_says_how_to_get_it() -> None:
    result, front = read(json.dumps(entry(None, _AUDIT_TYPE_NAME="AVC")))
    assert list(front.refusals) == [Refusal.JOURNAL]
    assert result.unparsed[0].reason is UnparsedReason.NOT_RAW


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16(encoding: str) -> None:
    result, front = read(f"{RECORD}\r\n{SYSCALL}\r\n".encode(encoding))
    assert rows(result) == {ACCESS: 1}
    assert result.sightings[0].denial.exe == "/usr/bin/kiosk"
    assert Form.UTF16 in front.forms


@pytest.mark.parametrize("zeros", [300, 4096, 3_000_000])
@pytest.mark.parametrize("order", ["before", "behind", "between"])
def test_zeros_that_a_crash_left_are_no_utf16(zeros: int, order: str) -> None:
    record, hole = f"{RECORD}\n".encode(), b"\0" * zeros + b"\n"
    text = {"before": hole + record, "behind": record + hole, "between": record + hole + record}[order]
    result, front = read(text)
    assert set(rows(result)) == {ACCESS}
    assert Form.UTF16 not in front.forms


ALERT = """SELinux is preventing {title}.

*****  Plugin catchall (100. confidence) suggests   **************************

Additional Information:
Source Context                u:r:kiosk_t:s0
Target Context                u:object_r:etc_t:s0
Target Objects                menu [ {tclass} ]
Source                        kiosk
"""
TITLES = {
    "one access": ("kiosk from read access on the file menu", "file", {"read"}),
    "two accesses": ("kiosk from 'read, open' accesses on the file menu", "file", {"read", "open"}),
    "a directory": ("kiosk from search access on the directory /etc/menu", "dir", {"search"}),
    "a capability": ("kiosk from using the dac_override capability", "capability", {"dac_override"}),
    "quotation marks": ("kiosk from \u2018write\u2019 access on the sock_file menu", "sock_file", {"write"}),
    "a port": ("kiosk from name_bind access on the tcp_socket port 8888", "tcp_socket", {"name_bind"}),
}


@pytest.mark.parametrize(("title", "tclass", "permissions"), TITLES.values(), ids=list(TITLES))
def test_an_alert_without_its_record(title: str, tclass: str, permissions: set[str]) -> None:
    result, front = read(ALERT.format(title=title, tclass=tclass))
    assert set(rows(result)) == {("kiosk_t", "etc_t", tclass, one) for one in permissions}
    assert front.refusals == {}


def test_the_record_of_an_alert_counts_and_its_prose_does_not() -> None:
    text = (
        ALERT.format(title="kiosk from write access on the file menu", tclass="file")
        + f"\nRaw Audit Messages\n{RECORD}\n{SYSCALL}\n"
    )
    text += "\nHash: kiosk,kiosk_t,etc_t,file,write\n"
    result, _ = read(text)
    assert rows(result) == {ACCESS: 1}


def test_the_hash_of_an_alert_names_class_and_access() -> None:
    text = ALERT.format(title="something in another language", tclass="file") + "Hash: kiosk,kiosk_t,etc_t,file,getattr\n"
    assert rows(read(text)[0]) == {("kiosk_t", "etc_t", "file", "getattr"): 1}


def test_an_alert_that_lacks_something_says_what_to_give() -> None:
    for text in (
        "host setroubleshoot[7]: SELinux is preventing kiosk from read access on the file menu. Run: sealert -l 1234\n",
        ALERT.format(title="x", tclass="file"),
        ALERT.format(title="kiosk from read access on the file menu", tclass="file").replace("u:r:kiosk_t:s0", "broken"),
        "SELinux is preventing a from read access on the file b from write access on the file c.\n",
    ):
        result, front = read(text)
        assert rows(result) == {}
        assert list(front.refusals) == [Refusal.ALERT]
        assert result.unparsed_count == 1


def test_an_alert_beside_the_record_it_is_about_is_no_question() -> None:
    result, front = read(
        f"{RECORD}\nJan 01 setroubleshoot[7]: SELinux is preventing kiosk from read access on the file menu.\n"
    )
    assert (rows(result), front.refusals, result.unparsed_count) == ({ACCESS: 1}, {}, 0)


AUREPORT = """
AVC Report
===============================================================
# date time comm subj syscall class permission obj result event
===============================================================
1. 11/14/22 08:53:15 {comm} u:r:kiosk_t:s0 0 file read u:object_r:etc_t:s0 denied 738
"""


def test_aureport() -> None:
    for comm in ("kiosk", "a b", "u:r"):
        assert rows(read(AUREPORT.format(comm=comm))[0]) == {ACCESS: 1}
    assert rows(read(AUREPORT.format(comm="x").replace("denied", "granted"))[0]) == {}
    forged, _ = read(AUREPORT.format(comm="u:r:hub_t:s0 0 file read u:object_r:shadow_t:s0 denied"))
    assert rows(forged) == {}
    assert forged.unparsed[0].attempt


def test_reports_that_hold_no_denial_are_refused() -> None:
    cases = {
        "NODE,EVENT,DATE,TIME,SERIAL_NUM,EVENT_KIND,SESSION,SUBJ_PRIME,SUBJ_SEC,SUBJ_KIND,ACTION,RESULT,OBJ_PRIME,OBJ_SEC,"
        "OBJ_KIND,HOW\n,AVC,11/14/22,08:53:15,738,mac-decision,unset,system,root,,x,failed,menu,,file,kiosk\n": Refusal.CSV,
        "At 08:53:15 11/14/22 system, acting as root, unsuccessfully violated-policy menu using kiosk\n": Refusal.TEXT,
        "\nSummary Report\n======================\nNumber of AVC's: 3\n": Refusal.REPORT,
    }
    for text, refusal in cases.items():
        result, front = read(text)
        assert rows(result) == {}
        assert list(front.refusals) == [refusal]


def folded(width: int, text: str) -> str:
    return "\n".join(text[at : at + width] for at in range(0, len(text), width)) + "\n"


def test_hard_folds_never_glue_a_permission() -> None:
    text = RECORD.replace("{ read }", "{ name_connect }")
    for width in range(40, 120):
        found = set(rows(read(folded(width, text))[0]))
        assert found <= {("kiosk_t", "etc_t", "file", "name_connect")}
        begin, end = text.index("name_connect"), text.index("name_connect") + len("name_connect")
        if any(begin < at < end for at in range(0, len(text), width)):
            assert found == set(), width
            assert read(folded(width, text))[0].unparsed[0].reason is UnparsedReason.SPLIT_PERMISSION


def test_hard_folds_elsewhere_are_put_together() -> None:
    read_at = {width for width in range(60, 140) if rows(read(folded(width, RECORD))[0]) == {ACCESS: 1}}
    assert len(read_at) > 70
    for width in set(range(60, 140)) - read_at:
        result, _ = read(folded(width, RECORD))
        assert not rows(result)
        assert result.unparsed_count


def wrapped(text: str, width: int, mark: str = "") -> str:
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + len(word) >= width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return "".join(f"{mark}{one}\n" for one in [*lines, line])


@pytest.mark.parametrize("mark", ["", "> ", "> > ", "    ", "| "])
def test_mail_breaks_at_blanks(mark: str) -> None:
    for width in range(64, 100):
        result, front = read(wrapped(RECORD, width, mark) + "\nWhat is it?\n")
        assert rows(result) == {ACCESS: 1}, width
        assert result.sightings[0].denial.permissive is False
        assert front.lines


def test_the_same_record_quoted_again_counts_once() -> None:
    for again in (f"> {RECORD}\n", f"> > {RECORD}\n", wrapped(RECORD, 72, "> "), f"    {RECORD}\n", f"`{RECORD}`\n"):
        assert rows(read(f"{RECORD}\n\nOn Monday somebody wrote:\n{again}")[0]) == {ACCESS: 1}


def test_a_value_is_not_decoded_where_the_record_is_raw() -> None:
    name = "x&nbsp;&quot;#012\\n"
    for before in ("", "> ", "audit.log:3:", "Mar  3 09:00:03 desk audispd: node=desk "):
        (seen,) = read(before + RECORD.replace('"menu"', f'"{name}"') + "\n")[0].sightings
        assert seen.denial.name == name


def test_a_second_header_in_interpreted_text_is_an_attempt() -> None:
    line = f"type=AVC msg=audit(03/28/2027 10:11:12.345:1) : {FIELDS}".replace('"', "")
    forged = line.replace("menu", f"x type=AVC msg=audit(03/28/2027 10:11:12.345:1) : {FIELDS.replace('kiosk_t', 'hub_t')}")
    result, _ = read(forged + "\n")
    assert rows(result) == {}
    assert result.unparsed[0].attempt


def test_line_numbers_are_right_behind_a_large_plain_log() -> None:
    """Plain blocks are not counted twice: the scan's own count says where other text begins."""
    raw = b"".join(varied.lines(4000, 0.02))
    pasted = b"From: somebody\n\navc:  denied  { read } for  pid=1 scontext=a_u:b_r:c_t tcontext=a_u:b_r\n"
    result = scan_stream(io.BytesIO(raw + pasted), front=Front())
    assert len(raw) > 4 * BLOCK
    assert [line.line for line in result.unparsed] == [raw.count(b"\n") + 3]
