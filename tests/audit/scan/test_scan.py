"""The fast scan agrees with the record-by-record reference, on captured and generated logs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.generate import generate
from sepolicyd.audit.model import Denial
from sepolicyd.audit.scan import scan_files as files_of_scan
from sepolicyd.audit.scan.scan_files import ScanResult, scan_files, scan_stream
from sepolicyd.errors import InputError
from tests.audit.scan.reference import accesses, by_records, counted, messages
from tests.paths import DATA as DATA_ROOT

DATA = DATA_ROOT / "jupyterhub"
LOGS = sorted(DATA.glob("0*.log.gz"))
AVC = (
    b'type=AVC msg=audit(1700000000.%03d:%d): avc:  denied  { read } for  pid=%d comm="python3" name="notes" dev="vda" ino=%d '
    b"scontext=system_u:system_r:hub_t:s0:c%d tcontext=system_u:object_r:etc_t:s0 tclass=file permissive=1\n"
)


def text_of(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def scan_bytes(text: bytes) -> ScanResult:
    return scan_stream(io.BytesIO(text))


def assert_agree(text: bytes) -> ScanResult:
    fast, slow = scan_bytes(text), by_records(text)
    assert fast.lines == slow.lines
    assert (fast.denials, fast.granted) == (len(slow.denials), len(slow.granted))
    assert (fast.notices, fast.other, fast.unparsed_count) == (slow.notices, slow.other, slow.unparsed)
    assert fast.attempts == slow.attempts
    assert len(fast.errors) == slow.errors
    assert counted(fast) == accesses(slow.denials)
    assert messages(fast) == fast.denials
    return fast


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.name[:2])
def test_captured_logs_agree_with_the_records(path: Path) -> None:
    text = text_of(path)
    fast = assert_agree(text)
    slow: dict[tuple[object, ...], Denial] = {(one.event, one.raw[0]): one for one in by_records(text).denials}
    for sighting in fast.sightings:
        assert sighting.denial == slow[(sighting.denial.event, sighting.denial.raw[0])]


@pytest.mark.parametrize("kind", ["mixed", "dense"])
def test_generated_logs_agree_with_the_records(kind: str) -> None:
    assert_agree(b"".join(generate(kind, 2_500_000, seed=3)))


def test_node_prefix_goes_the_same_way() -> None:
    text = b"".join(b"node=hub1 " + line for line in text_of(LOGS[0]).splitlines(keepends=True))
    fast = assert_agree(text)
    assert {one.denial.event.node for one in fast.sightings} == {"hub1"}


def test_interleaved_and_shuffled_lines_still_find_their_events() -> None:
    lines = text_of(LOGS[1]).splitlines(keepends=True)
    chance = random.Random(5)
    for at in range(0, len(lines) - 6, 3):
        if chance.random() < 0.5:
            lines[at : at + 6] = chance.sample(lines[at : at + 6], 6)
    straight, shuffled = scan_bytes(text_of(LOGS[1])), scan_bytes(b"".join(lines))
    assert shuffled.denials == straight.denials
    assert counted(shuffled) == counted(straight)
    exes, again = ({one.denial.raw[0]: one.denial.exe for one in result.sightings} for result in (straight, shuffled))
    common = exes.keys() & again.keys()
    assert len(common) > 400
    assert {line: exes[line] for line in common} == {line: again[line] for line in common}


def test_a_record_written_twice_counts_once() -> None:
    text = text_of(LOGS[0])
    doubled = b"".join(line * 2 for line in text.splitlines(keepends=True))
    assert scan_bytes(doubled).denials == scan_bytes(text).denials


def test_two_alike_records_of_one_event_that_differ_in_their_inode_are_two() -> None:
    text = AVC % (1, 7, 50, 1, 1) + AVC % (1, 7, 50, 2, 1)
    assert scan_bytes(text).denials == 2
    assert_agree(text)


def test_events_cut_by_a_rotation_are_joined() -> None:
    parts = [DATA / "rotation" / f"audit.log{suffix}.gz" for suffix in (".4", ".3", ".2", ".1", "")]
    result = scan_files(parts)
    assert result.unparsed_count == 0
    assert all(one.denial.exe for one in result.sightings if one.denial.kind.value == "AVC" and one.denial.syscall)
    whole = b"".join(text_of(part) for part in parts)
    assert result.denials == scan_bytes(whole).denials == len(by_records(whole).denials)


def test_categories_do_not_split_and_floods_stay_small() -> None:
    result = scan_bytes(b"".join(AVC % (n % 1000, n + 1, 300, n, n % 1000) for n in range(20_000)))
    assert result.denials == 20_000
    assert len(result.sightings) == 1
    assert (result.sightings[0].count, result.sightings[0].first) == (20_000, 1700000000.0)


def test_many_processes_are_told_apart_up_to_a_limit() -> None:
    """The process decides whose a denial is, so that the first ones are kept apart."""
    result = scan_bytes(b"".join(AVC % (n % 1000, n + 1, 300 + n % 500, n, n % 1000) for n in range(20_000)))
    assert len(result.sightings) < 60
    assert (messages(result), result.denials, result.sightings[0].first) == (20_000, 20_000, 1700000000.0)
    assert len({one.denial.pid for one in result.sightings}) == len(result.sightings)


def test_ports_ioctls_and_comms_survive_a_flood() -> None:
    head = b"type=AVC msg=audit(1700000000.000:%d): avc:  denied  { "
    tail = b"scontext=u:r:hub_t:s0 tcontext=u:r:%s:s0 tclass=%s permissive=0\n"
    lines = [
        (head + b'name_connect } for  pid=5 comm="python3" dest=%d ' + tail) % (n + 1, 8000 + n % 20, b"port_t", b"tcp_socket")
        for n in range(3000)
    ]
    lines += [
        (head + b'ioctl } for  pid=5 comm="c%d" path="/dev/x%d" dev="a" ino=4 ioctlcmd=0x%x ' + tail)
        % (n + 9000, n % 7, n, n % 11, b"dev_t", b"chr_file")
        for n in range(3000)
    ]
    result = scan_bytes(b"".join(lines))
    assert {port for one in result.sightings for _, port in one.denial.ports} == set(range(8000, 8020))
    assert {one.denial.ioctlcmd for one in result.sightings} - {None} == set(range(11))
    assert {one.denial.comm for one in result.sightings} == {"python3", *(f"c{n}" for n in range(7))}
    assert messages(result) == result.denials == 6000
    assert len(result.sightings) < 100


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    peaks = []
    for megabytes in (4, 40):
        log = tmp_path / f"{megabytes}.log"
        with log.open("wb") as file:
            file.writelines(generate("dense", megabytes * 1_000_000))
        # VmHWM and not ru_maxrss, which a program takes over from the process that started it
        code = (
            "import sys; from pathlib import Path; from sepolicyd.audit.scan.scan_files import scan_files;"
            "scan_files([Path(sys.argv[1])]);"
            "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
        )
        done = subprocess.run([sys.executable, "-c", code, str(log)], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] < 80
    assert peaks[1] < peaks[0] + 16


@pytest.mark.parametrize(("make", "message"), [("missing", "does not exist"), ("directory", "is a directory")])
def test_what_cannot_be_read_is_said(tmp_path: Path, make: str, message: str) -> None:
    path = tmp_path / "audit.log"
    if make == "directory":
        path.mkdir()
    with pytest.raises(InputError, match=message):
        scan_files([path])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.touch(mode=0)
    with pytest.raises(InputError, match="no permission to read"):
        scan_files([path])


def test_empty_and_binary_files(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(b"")
    assert scan_files([log]) == ScanResult()
    log.write_bytes(random.Random(1).randbytes(300_000))
    assert scan_files([log]).denials == 0


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress}


@pytest.mark.parametrize("packer", PACKERS)
def test_packed_logs_whole_truncated_damaged_and_in_members(tmp_path: Path, packer: str) -> None:
    compress = PACKERS[packer]
    text = text_of(LOGS[0])
    lines = text.splitlines(keepends=True)
    log = tmp_path / "audit.log.2"  # the name tells nothing
    log.write_bytes(compress(b"".join(lines[:100])) + compress(b"".join(lines[100:])))
    whole = scan_files([log])
    assert (whole.lines, whole.denials, whole.unparsed_count) == (len(lines), scan_bytes(text).denials, 0)
    assert scan_stream(io.BytesIO(log.read_bytes())) == whole
    packed = compress(text * 40)
    log.write_bytes(packed[: len(packed) * 2 // 3])
    cut = scan_files([log])
    assert 0 < cut.denials < scan_bytes(text * 40).denials
    assert cut.unparsed[-1].detail.startswith(f"truncated {packer}")
    log.write_bytes(packed[:2000] + bytes(200) + packed[2200:])
    assert scan_files([log]).unparsed[-1].detail.startswith(f"damaged {packer}")


@pytest.mark.parametrize("big", [False, True])
def test_a_packed_log_that_cannot_be_unpacked_here_is_no_empty_log(tmp_path: Path, big: bool) -> None:
    log = tmp_path / "audit.log.1.zst"
    log.write_bytes(b"\x28\xb5\x2f\xfd\x04\x00" + b"audit(1:1): \n" * (2 << 20 if big else 1))
    with pytest.raises(InputError, match="compressed with zstd") as error:
        scan_files([log])
    assert "zstd -dc" in error.value.hint


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    class Endless(io.RawIOBase):
        left = 6 << 20

        def read(self, size: int = -1) -> bytes:
            taken = min(size, self.left)
            self.left -= taken
            return b"x" * taken

        def readline(self, size: int | None = -1) -> bytes:  # type: ignore[override]
            return self.read(size or -1)

    assert scan_stream(Endless()).lines > 0  # type: ignore[arg-type]


def test_last_line_without_newline_counts() -> None:
    text = AVC % (1, 7, 50, 1, 1)
    result = scan_bytes(text[:-1])
    assert (result.lines, result.denials) == (1, 1)


@pytest.mark.parametrize("block", [700, 5_000, 60_000])
def test_borders_of_blocks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    text = text_of(LOGS[2])
    log = tmp_path / "audit.log"
    log.write_bytes(text)
    whole = scan_files([log])
    monkeypatch.setattr(files_of_scan, "BLOCK", block)
    monkeypatch.setattr(files_of_scan, "PROBE", 64)
    for result in (scan_files([log]), scan_bytes(text)):
        assert (result.lines, result.denials, result.notices) == (whole.lines, whole.denials, whole.notices)
        assert counted(result) == counted(whole)
        assert [one.denial.raw[0] for one in result.sightings] == [one.denial.raw[0] for one in whole.sightings]
        if block >= 5_000:
            assert [one.denial.exe for one in result.sightings] == [one.denial.exe for one in whole.sightings]
