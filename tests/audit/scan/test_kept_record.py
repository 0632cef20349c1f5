"""A kept record read in one pass is the Denial that the parser reads, or is left to the parser."""

from __future__ import annotations

import gzip
import io
import random
from pathlib import Path

import pytest

from benchmarks import varied
from sepolicyd.audit.parse.denial import denials_of_lines
from sepolicyd.audit.scan import kept_record
from sepolicyd.audit.scan.avc_patterns import KERNEL_AVC
from tests.paths import DATA

LOGS = sorted(DATA.rglob("*.log.gz"))
AVC = (
    b'type=AVC msg=audit(1700000000.001:5): avc:  denied  { read open } for  pid=7 comm="x"%s dev="vda" ino=5 '
    b"scontext=system_u:system_r:a_t:s0:c1,c2 tcontext=system_u:object_r:b_t:s0 tclass=file permissive=0"
)
SYSCALL = (
    b"type=SYSCALL msg=audit(1700000000.001:5): arch=c000003e syscall=257 success=no exit=-13 a0=1 a1=2 a2=3 a3=0 items=1 "
    b'ppid=1 pid=7 auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=1 comm="x" '
)


def events(text: bytes) -> list[list[bytes]]:
    """Each AVC record of the kernel with the other lines of its event."""
    by_stamp: dict[bytes, list[bytes]] = {}
    every = io.BytesIO(text).read().splitlines()
    for line in every:
        by_stamp.setdefault(line.partition(b"audit(")[2].partition(b")")[0], []).append(line)
    found = []
    for lines in by_stamp.values():
        found += [[line, *(one for one in lines if one is not line)] for line in lines if KERNEL_AVC.match(line + b"\n")]
    return found


def assert_same(lines: list[bytes]) -> bool:
    """Whether it was read in one pass; then it must be what the parser reads."""
    match = KERNEL_AVC.match(lines[0] + b"\n")
    quick = None if match is None else kept_record._denial(match, lines)
    found = denials_of_lines(lines)
    expected = next(iter((*found.denials, *found.granted)), None)
    assert kept_record.read_kept(lines) == expected
    if quick is not None:
        assert quick == expected
        assert expected is not None
        assert quick.raw == expected.raw
    return quick is not None


@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.name)
def test_captured_events(log: Path) -> None:
    read = [assert_same(lines) for lines in events(gzip.decompress(log.read_bytes()))]
    assert sum(read) >= len(read) * 0.9


def test_generated_events() -> None:
    read = [assert_same(lines) for lines in events(b"".join(varied.lines(1500, 1.0, seed=9)))]
    assert len(read) > 1000
    assert all(read)


@pytest.mark.parametrize(
    ("about", "others"),
    [
        (b' name="f"', []),
        (b" name=616263", [SYSCALL + b'exe="/bin/x" subj=system_u:system_r:a_t:s0 key=(null)']),
        (b" path=2F612062", [SYSCALL + b'exe=2F612062 subj=a key=(null)\x1dARCH=x86_64 SYSCALL=openat AUID="unset"']),
        (b' name="f"', [SYSCALL + b"exe=(null) subj=? key=(null)"]),
        (b' name="f"', [SYSCALL + b'comm="y" exe="/bin/x" subj=b key=(null)']),
        (b' name="f"', [b'type=PROCTITLE msg=audit(1700000000.001:5): proctitle="x" type=AVC msg=audit(1.2:3): avc:']),
        (b' name="f"', [b'type=1300 msg=audit(1700000000.001:5): syscall=2 comm="x" exe="/x"']),
        (b' name="f"', [b'type=SYSCALL msg=audit(1700000000.001:5): syscall=2 comm="x" exe="/x" subj=u:r:t']),
        (b' name="f"', [b'node=a type=SYSCALL msg=audit(1700000000.001:5): syscall=2 comm="x" exe="/x" subj=u:r:t']),
        (b' name="a" name="b"', []),
        (b" name=a\x1db", []),
        (b" name=a\tb", []),
        (b" -x=1", []),
        (b' name="\xff"', []),
        (b" name=a\\xff", []),
        (b" type=AVC", []),
        (b" src=8000", [b"type=SOCKADDR msg=audit(1700000000.001:5): saddr=02001F907F0000010000000000000000"]),
    ],
)
def test_unusual_events(about: bytes, others: list[bytes]) -> None:
    assert_same([AVC % about, *others])


def test_mutated_events() -> None:
    chance = random.Random(3)
    tokens = (b'"', b" ", b"=", b"\x1d", b"\t", b"\xff", b"(null)", b" type=AVC ", b" comm=", b"7A", b"a\\x5c", b"\r", b"\0")
    for lines in events(b"".join(varied.lines(1200, 1.0, seed=4))):
        changed = list(lines)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(changed))
            cut = chance.randrange(len(changed[at]))
            changed[at] = changed[at][:cut] + chance.choice(tokens) + changed[at][cut + chance.randint(0, 3) :]
        assert_same(changed)
