"""Logs in which nearly every line differs: same accesses, counts and times as the reference, in bounded memory."""

from __future__ import annotations

import io
import random
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.varied import lines
from sepolicyd.audit.scan import access_samples
from sepolicyd.audit.scan.incremental import IncrementalScan
from sepolicyd.audit.scan.scan_files import ScanResult, scan_stream
from tests.audit.parse.test_hostile import mutate
from tests.audit.scan.reference import accesses, by_records, counted, messages
from tests.paths import ROOT

GIVEN = ROOT.parent / "shared" / "bench" / "varied_log.py"


def scan(text: bytes) -> ScanResult:
    return scan_stream(io.BytesIO(text))


def in_pieces(text: bytes, chance: random.Random) -> ScanResult:
    """The same text as the daemon gets it: whole lines, a few hundred at a time."""
    pieces, scanned = text.splitlines(keepends=True), IncrementalScan()
    while pieces:
        size = chance.randint(1, 400)
        scanned.feed(b"".join(pieces[:size]))
        del pieces[:size]
    return scanned.result()


def sums(result: ScanResult) -> tuple[int, ...]:
    names = ("lines", "denials", "granted", "notices", "other", "unparsed_count", "attempts")
    return tuple(getattr(result, name) for name in names)


def assert_exact(text: bytes, seed: int = 0) -> ScanResult:
    result, slow, pieces = scan(text), by_records(text), in_pieces(text, random.Random(seed))
    assert (result.denials, result.granted) == (len(slow.denials), len(slow.granted))
    assert (result.notices, result.unparsed_count, result.attempts) == (slow.notices, slow.unparsed, slow.attempts)
    assert counted(result) == accesses(slow.denials)
    assert messages(result) == result.denials
    assert sums(pieces) == sums(result)
    assert counted(pieces) == counted(result)
    return result


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_every_access_count_and_time_is_exact(share: float) -> None:
    result = assert_exact(b"".join(lines(3000 if share == 1.0 else 9000, share, seed=8)))
    assert result.unparsed_count == 0
    assert share < 1.0 or result.remainders


@pytest.mark.skipif(not GIVEN.exists(), reason="the given generator is not here")
def test_the_given_generators_log_is_exact(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(GIVEN), "3000", "1.0", "20000"])
    runpy.run_path(str(GIVEN))
    result = assert_exact(capsys.readouterr().out.encode())
    assert result.remainders
    assert result.denials == 3000


def shuffled(text: list[bytes], chance: random.Random) -> Iterator[bytes]:
    """Records of neighbouring events out of order, some written twice."""
    for at in range(0, len(text), 12):
        window = text[at : at + 12]
        if chance.random() < 0.3:
            chance.shuffle(window)
        for line in window:
            yield line
            if chance.random() < 0.02:
                yield line


@pytest.mark.parametrize("seed", range(3))
def test_out_of_order_and_written_twice(seed: int) -> None:
    text = list(lines(1200, 0.8, seed=seed))
    assert_exact(b"".join(shuffled(text, random.Random(seed))), seed)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_lines_are_read_as_the_parser_reads_them(seed: int) -> None:
    """A header is left whole: without it the whole-file reader joins lines that the other one reads singly."""
    chance, text = random.Random(seed), list(lines(700, 0.9, seed=100 + seed))
    damaged = []
    for line in text:
        head, mark, rest = line.partition(b"): ")
        if chance.random() < 0.3 and b"AVC" in head:
            rest = mutate(rest, chance.choice(text).partition(b"): ")[2], chance).replace(b"\n", b"") + b"\n"
        damaged.append(head + mark + rest)
    whole = b"".join(damaged)
    result, slow = scan(whole), by_records(whole)
    assert result.denials >= len(slow.denials)
    fast, exact = counted(result), accesses(slow.denials)
    assert {row: one.count for row, one in exact.items() if fast.get(row) is None} == {}
    assert messages(result) == result.denials


def test_a_domain_takes_nothing_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_samples, "MAX_ACCESSES_OF_DOMAIN", 300)
    line = (
        'type=AVC msg=audit(1700000000.%03d:%d): avc:  denied  { read } for  pid=%d comm="x" name="n%d" '
        "scontext=u:r:%s:s0 tcontext=u:object_r:%s:s0 tclass=file permissive=0\n"
    )
    flood = [line % (n % 1000, n + 1, n, n, "student_t", f"t{n}_t") for n in range(2000)]
    late = [line % (0, 9000 + n, n, n, "hub_t", f"t{n}_t") for n in range(40)]
    result = scan("".join([*flood, *late]).encode())
    kept = {one.denial.scontext.type: one for one in result.sightings}
    assert set(kept) == {"student_t", "hub_t"}
    assert sum(one.denial.scontext.type == "hub_t" for one in result.sightings) == 40
    assert all("hub_t" in one.denial.raw[0] for one in result.sightings if one.denial.scontext.type == "hub_t")
    assert result.overflow == {"student_t": 1700}
    assert messages(result) == result.denials == 2040


def test_what_is_kept_is_spread_over_the_log() -> None:
    line = (
        b'type=AVC msg=audit(17000%05d.000:%d): avc:  denied  { read } for  pid=%d comm="x" name="n%d" '
        b"scontext=u:r:hub_t:s0 tcontext=u:object_r:etc_t:s0 tclass=file permissive=0\n"
    )
    result = scan(b"".join(line % (n, n + 1, n, n) for n in range(50_000)))
    serials = [one.denial.event.serial for one in result.sightings]
    assert serials[0] == 1
    assert len(serials) < 80
    assert sum(serial > 1000 for serial in serials) >= 3
    assert max(serials) > 10_000
    (rest,) = result.remainders
    assert (rest.tallies["read"].first, rest.tallies["read"].last) == (1700000048.0, 1700049999.0)


def test_a_class_that_is_cut_is_read_by_the_parser_alone() -> None:
    line = (
        b'type=AVC msg=audit(1700000000.000:%d): avc:  denied  { read } for  pid=5 comm="x" name="n%d" '
        b"scontext=u:r:hub_t:s0 tcontext=u:object_r:etc_t:s0 tclass=unix_stream_sock\n"
    )
    result = scan(b"".join(line % (n, n) for n in range(1, 300)))
    assert (result.denials, result.unparsed_count) == (0, 299)
    assert [one.line for one in result.unparsed] == list(range(1, 300))


def test_peak_memory_does_not_grow_with_a_varied_log(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sepolicyd.audit.scan.scan_files import scan_files;"
        "scan_files([Path(sys.argv[1])]);"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    )
    peaks = []
    for events in (1500, 15_000):
        log = tmp_path / f"{events}.log"
        log.write_bytes(b"".join(lines(events, 1.0)))
        done = subprocess.run([sys.executable, "-c", code, str(log)], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] < 80
    assert peaks[1] < peaks[0] + 24
