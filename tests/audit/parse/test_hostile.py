"""Hostile input: nothing raises, nothing is lost silently, and no process text becomes an access of another domain."""

from __future__ import annotations

import gzip
import io
import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sepolicyd.audit.model import Unparsed, UnparsedReason
from sepolicyd.audit.parse import fields
from sepolicyd.audit.parse.denial import Denials, denials_of, denials_of_line
from sepolicyd.audit.parse.record import Record, parse
from sepolicyd.audit.scan.scan_files import scan_stream
from tests.audit.scan.assembler import MAX_RECORDS, Assembler
from tests.audit.scan.reference import by_records, messages
from tests.paths import DATA as DATA_ROOT

DATA = DATA_ROOT / "jupyterhub"
MUTATED_BYTES = 10_000_000
MARKS = (
    *(
        b"avc:",
        b" denied ",
        b"{",
        b"}",
        b'"',
        b"=",
        b"(",
        b")",
        b"\n",
        b"\x1d",
        b"\0",
        b"\xff",
        b"tclass=",
        b"node=x ",
        b"0x",
        b":",
    ),
    *(b",", b"\xe2\x90\x9d", b"&quot;", b"\\n", b"type=AVC msg=audit(", b"type=SELINUX_ERR msg=audit(1.2:3): op="),
)


def captured_lines() -> list[bytes]:
    lines: list[bytes] = []
    for path in sorted(DATA.glob("0*.log.gz")):
        lines += gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    return lines


def mutate(line: bytes, other: bytes, chance: random.Random) -> bytes:
    """One to four small violations of a line."""
    for _ in range(chance.randrange(1, 5)):
        at, end = sorted((chance.randrange(len(line) + 1), chance.randrange(len(line) + 1)))
        what = chance.randrange(6)
        if what == 0:
            line = line[:at] + line[min(end, at + 12) :]
        elif what == 1:
            line = line[:at] + chance.choice(MARKS) + line[at:]
        elif what == 2:
            line = line[:at] + bytes([chance.randrange(256)]) + line[at + 1 :]
        elif what == 3:
            line = line[:at]
        elif what == 4:
            line = line[:at] + other[at:]
        else:
            line = line[:at] + line[at:end] * 2 + line[end:]
        line = line[:3000]
    return line


def said(found: Denials) -> int:
    return len(found.denials) + len(found.granted) + len(found.notices) + len(found.errors) + found.other + len(found.unparsed)


def test_ten_million_bytes_of_mutated_lines() -> None:
    chance, lines = random.Random(20), captured_lines()
    marked = [line for line in lines if b"avc:" in line]
    text = bytearray()
    while len(text) < MUTATED_BYTES:
        line = mutate(chance.choice(marked if chance.random() < 0.5 else lines), chance.choice(lines), chance)
        text += line if line.endswith(b"\n") else line + b"\n"
    whole = bytes(text)
    for number, line in enumerate(whole.split(b"\n"), 1):
        if b"avc:" in line:
            assert said(denials_of_line(line, number)), line
        else:
            denials_of_line(line, number)
    result = scan_stream(io.BytesIO(whole))
    assert result.lines == whole.count(b"\n")
    slow = by_records(whole)
    assert len(slow.denials) > 2000
    assert len(slow.denials) * 0.999 <= messages(result) == result.denials <= len(slow.denials) * 1.005


@given(st.one_of(st.binary(max_size=400), st.text(max_size=400)))
@example(b"avc: denied { } for scontext= tcontext= tclass=")
@example("type=AVC msg=audit(99999999999999999999999999:99999999999999999999999999): avc:  denied  { a } for ")
@example("type=AVC msg=audit(\u0661.\u0662:\u0663): avc:  denied  { read } for scontext=a:b:c tcontext=a:b:c tclass=file")
def test_no_line_raises(line: bytes | str) -> None:
    record = parse(line, 1)
    assert record is None or isinstance(record, (Record, Unparsed))
    denials_of_line(line)
    fields.read_fields(line if isinstance(line, str) else line.decode("latin-1"))


@given(st.lists(st.tuples(st.sampled_from(MARKS), st.binary(max_size=12)), max_size=30))
def test_no_soup_of_marks_raises(pieces: list[tuple[bytes, bytes]]) -> None:
    text = b"".join(mark + rest for mark, rest in pieces)
    scan_stream(io.BytesIO(text))
    by_records(text)


@given(st.binary(max_size=64), st.text(max_size=40))
def test_addresses_numbers_and_hex_never_raise(data: bytes, text: str) -> None:
    fields.sockaddr(data.hex())
    fields.sockaddr(text)
    fields.integer(text)
    fields.hex_integer(text)
    fields.value_of(text)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60))
def test_hex_as_the_kernel_writes_it_comes_back(text: str) -> None:
    """audit_log_n_untrustedstring: hex where the bytes hold a quote, a blank, a control or anything above 0x7e."""
    data = text.encode()
    written = data.hex().upper() if any(byte < 0x21 or byte > 0x7E or byte == 0x22 for byte in data) else f'"{text}"'
    assert fields.value_of(written) == text


@settings(max_examples=40)
@given(st.randoms(use_true_random=False))
def test_events_do_not_depend_on_the_order_within_their_seconds(chance: random.Random) -> None:
    lines = captured_lines()[:80]
    records = [record for record in map(parse, lines) if isinstance(record, Record)]
    shuffled = list(records)
    chance.shuffle(shuffled)
    results = []
    for order in (records, shuffled):
        assembler = Assembler(expiry=1e12)
        events = [event for record in order for event in assembler.feed(record)] + assembler.flush()
        results.append({event.id: frozenset(event.records) for event in events})
    assert results[0] == results[1]


def test_assembler_is_bounded() -> None:
    assembler = Assembler(max_open=10)
    events = []
    for serial in range(1, 200):
        for number in range(2 if serial > 1 else 2 * MAX_RECORDS):
            events += assembler.feed(Record("", "5.000", serial, "PATH", f"item={number}", ""))
        assert assembler.open <= 10
    events += assembler.flush()
    assert len(events) == 199
    assert max(len(event.records) for event in events) == MAX_RECORDS


def test_assembler_lets_go_by_record_time() -> None:
    assembler = Assembler(expiry=2.0)
    assert assembler.feed(Record("", "5.000", 1, "AVC", "a", "")) == []
    assert assembler.feed(Record("", "6.900", 2, "AVC", "b", "")) == []
    (done,) = assembler.feed(Record("", "7.100", 3, "AVC", "c", ""))
    assert done.id.serial == 1


GENUINE = "scontext=u:r:student_t:s0 tcontext=u:object_r:unit_t:s0 tclass=service permissive=0"


def test_contexts_in_a_command_line_make_a_user_avc_an_attempt() -> None:
    """Which pair libselinux has written and which the client cannot be known where the message may be cut."""
    forged = "scontext=u:r:init_t:s0 tcontext=u:object_r:shadow_t:s0 tclass=file permissive=1"
    for command in (
        forged,
        f'x" {forged} "',
        f"avc:  denied  {{ read }} for {forged}",
        f'" avc:  denied  {{ read }} for {forged}',
        f"x' type=AVC msg=audit(1700000000.000:7): avc:  denied  {{ read }} for  pid=1 {forged}",
    ):
        line = (
            "type=USER_AVC msg=audit(1700000000.000:7): pid=1 uid=0 auid=1 ses=1 subj=u:r:init_t:s0 "
            f'msg=\'avc:  denied  {{ start }} for auid=n/a uid=1000 cmdline="{command}" {GENUINE}  exe="/usr/bin/x" sauid=0\''
        )
        found = denials_of_line(line)
        assert found.denials == found.granted == ()
        assert [(one.reason, one.attempt) for one in found.unparsed] == [(UnparsedReason.CONTEXTS_TWICE, True)]
    line = (
        "type=USER_AVC msg=audit(1700000000.000:7): pid=1 uid=0 auid=1 ses=1 subj=u:r:init_t:s0 "
        f'msg=\'avc:  denied  {{ start }} for auid=n/a uid=1000 gid=1 cmdline="x" avc: denied {{ }}" {GENUINE} exe="/usr/bin/x"'
        " sauid=0'"
    )
    (denial,) = denials_of_line(line).denials
    assert (denial.scontext.type, denial.tcontext.type, denial.tclass) == ("student_t", "unit_t", "service")
    assert (denial.permissions, denial.proctitle) == (("start",), 'x" avc: denied { }')


def test_a_comm_cannot_hide_its_denial_or_forge_another() -> None:
    head = "type=AVC msg=audit(1700000000.000:7): avc:  denied  { read } for  pid=9 "
    tail = ' name="x" scontext=u:r:student_t:s0 tcontext=u:object_r:etc_t:s0 tclass=file permissive=0'
    for comm in ('"apparmor="', '"lsm=SMACK"', '"(XEN)"', '"tclass=dir"', '"avc:denied{x}"', '"scontext=a:b:c"'):
        (denial,) = denials_of_line(f"{head}comm={comm}{tail}").denials
        assert (denial.scontext.type, denial.tclass, denial.comm) == ("student_t", "file", comm.strip('"'))


def test_a_mark_in_a_file_name_is_no_denial() -> None:
    line = 'type=PATH msg=audit(1700000000.000:7): item=0 name="/tmp/avc:" inode=1 dev=fe:00 nametype=NORMAL'
    found = denials_of_line(line)
    assert (found.other, found.denials, found.unparsed) == (1, (), ())
    text = f"{line}\n".encode()
    result = scan_stream(io.BytesIO(text))
    assert (result.other, result.denials) == (1, 0)


def test_only_identifiers_become_types_classes_and_permissions() -> None:
    for bad in ("a;b", "x" * 200, "1t", "t)", "a b"):
        line = f"avc:  denied  {{ read }} for  pid=1 scontext=u:r:{bad}:s0 tcontext=u:r:b:s0 tclass=file"
        assert not denials_of_line(line).denials
    for bad in ("fi;le", "(null)", "9p"):
        line = f"avc:  denied  {{ read }} for  pid=1 scontext=u:r:a:s0 tcontext=u:r:b:s0 tclass={bad}"
        assert not any(bad in one.tclass for one in denials_of_line(line).denials)


def test_denials_of_an_empty_event() -> None:
    assembler = Assembler()
    record = parse("type=EOE msg=audit(1.0:1): ")
    assert isinstance(record, Record)
    assert [denials_of(event) for event in assembler.feed(record) + assembler.flush()] == []
