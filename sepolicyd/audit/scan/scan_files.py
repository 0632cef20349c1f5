"""Scan whole log files into a ScanResult. Files are read in blocks, never mapped."""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Optional, Protocol, Union

from sepolicyd.audit.model import AvcDecision, Notice, PolicyError, Remainder, Sighting, Unparsed, UnparsedReason
from sepolicyd.audit.parse.denial import Denials
from sepolicyd.audit.scan.decompress import LONGEST_MAGIC, Unpacked, kind_of
from sepolicyd.audit.scan.find_denials import Sweep
from sepolicyd.errors import InputError

BLOCK = 1 << 19
MAX_LINE = 1 << 20
PROBE = 4096
Progress = Callable[[int], None]


@dataclass(frozen=True)
class ScanResult:
    """What a log says. A record that was written twice counts once."""

    lines: int = 0
    denials: int = 0
    """Messages, like ``granted`` and ``notices``; those that found no room are among them."""
    granted: int = 0
    notices: int = 0
    other: int = 0
    """Lines with ``avc:`` that are no message of SELinux: another security module's, or a name that contains the mark."""
    has_records: bool = False
    """Whether any line has the header of an audit record."""
    unparsed: tuple[Unparsed, ...] = ()
    """The first thousand of ``unparsed_count`` lines, and of the attempts among them."""
    unparsed_count: int = 0
    attempts: int = 0
    """How many of ``unparsed_count`` look like attempts to forge a record."""
    imitations: tuple[Unparsed, ...] = ()
    """The first thousand of ``imitation_count`` events that were read and hold a value that imitates a record."""
    imitation_count: int = 0
    attempt_sources: Mapping[str, int] = field(default_factory=dict)
    """``attempts`` and ``imitation_count`` together, by the type of the process; "" where nothing proves it."""
    sightings: tuple[Sighting, ...] = ()
    """In the order of the log. Their counts and those of ``remainders`` and ``overflow`` add up to ``denials``."""
    remainders: tuple[Remainder, ...] = ()
    granted_sightings: tuple[Sighting, ...] = ()
    overflow: Mapping[str, int] = field(default_factory=dict)
    """Denials that are counted and not kept, by source domain: the domain has too many distinct accesses."""
    errors: tuple[PolicyError, ...] = ()
    notice_list: tuple[Notice, ...] = ()


class TextFront(Protocol):
    """What ``analyze`` puts before the scan to read text that is not as auditd writes it (audit/dialects/preprocess.py)."""

    @property
    def found(self) -> list[Denials]:
        """What it has read itself; complete after the last block."""

    def blocks(self, blocks: Iterator[bytes], lines_scanned: Callable[[], int]) -> Iterator[bytes]:
        """The blocks with raw lines only, as many lines as before."""


def scan_files(
    paths: Sequence[Path], *, on_progress: Optional[Progress] = None, front: Optional[TextFront] = None
) -> ScanResult:
    """Scan the files in this order as one log, plain or compressed by gzip, xz or bzip2 (recognized by content).

    :param on_progress: gets the number of (decompressed) bytes that were read since its last call
    :raises InputError: a file is missing, unreadable, a directory, or compressed in another way
    """
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path} is a directory, not a log", "name the log file in it, such as audit.log")
    sweep = Sweep()
    _run(sweep, _through(front, sweep, _blocks_of_files(sweep, paths)), on_progress)
    _take_from(front, sweep)
    return result_of(sweep)


def scan_stream(file: BinaryIO, *, on_progress: Optional[Progress] = None, front: Optional[TextFront] = None) -> ScanResult:
    """Scan a binary stream (standard input) to its end; compressed or not.

    :raises InputError: the stream cannot be read
    """
    sweep = Sweep()
    try:
        _run(sweep, _through(front, sweep, _unpacked(sweep, file, "standard input")), on_progress)
    except OSError as error:
        raise InputError(f"cannot read standard input: {error.strerror or error}", "pipe a log into it") from error
    _take_from(front, sweep)
    return result_of(sweep)


def _through(front: Optional[TextFront], sweep: Sweep, blocks: Iterator[bytes]) -> Iterator[bytes]:
    return blocks if front is None else front.blocks(blocks, lambda: sweep.lines)


def _take_from(front: Optional[TextFront], sweep: Sweep) -> None:
    for found in front.found if front is not None else ():
        sweep.take(found)


def result_of(sweep: Sweep) -> ScanResult:
    """What the sweep has found so far."""
    denied, remainders, denials = sweep.places.found(AvcDecision.DENIED)
    granted, _, grants = sweep.places.found(AvcDecision.GRANTED)
    overflow = sweep.places.overflow()
    return ScanResult(
        lines=sweep.lines,
        denials=denials + sum(overflow.values()),
        granted=grants,
        notices=sweep.notices,
        other=sweep.other,
        has_records=sweep.has_records,
        unparsed=tuple(sorted(sweep.unparsed, key=lambda one: one.line)),
        unparsed_count=sweep.unparsed_count,
        attempts=sweep.attempts,
        imitations=tuple(sweep.imitations.lines),
        imitation_count=sweep.imitations.count,
        attempt_sources=sweep.attempt_sources + sweep.imitations.sources,
        sightings=tuple(denied),
        remainders=tuple(remainders),
        granted_sightings=tuple(granted),
        overflow=overflow,
        errors=tuple(sweep.errors),
        notice_list=tuple(sorted(sweep.notice_list, key=lambda one: (one.event.seconds, one.event.serial))),
    )


def _run(sweep: Sweep, blocks: Iterator[bytes], on_progress: Optional[Progress]) -> None:
    """Feed the blocks, each with its neighbours. The cycle collector rests: nothing here makes cycles."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        before = block = b""
        for after in blocks:
            if block:
                sweep.block(before, block, after)
                before = block
            block = after
            if on_progress is not None:
                on_progress(len(after))
        if block:
            sweep.block(before, block, b"")
    finally:
        if collecting:
            gc.enable()


def _blocks_of_files(sweep: Sweep, paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        with _opened(path) as file:
            yield from _unpacked(sweep, file, str(path))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise InputError(f"there is no {path}", "name a log file that exists") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read by this user", "run as root, or as a member of the log's group") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", "name a log file") from error


def _unpacked(sweep: Sweep, file: BinaryIO, name: str) -> Iterator[bytes]:
    """The blocks of a file, unpacked where it begins with a packer's magic number."""
    if _is_plain(file):
        yield from _blocks_at(file, 0, os.fstat(file.fileno()).st_size)
        return
    start = file.read(BLOCK)
    kind = kind_of(start)
    if kind is None:
        yield from _blocks(start, file)
        return
    if kind.unpacker is None:
        raise InputError(f"{name} is packed by {kind.name}", f"unpack it: {kind.name} -dc FILE | sepolicyd analyze -")
    unpacked = Unpacked(kind, start, file)
    yield from _blocks(b"", unpacked)
    if unpacked.trouble:
        sweep.unparsed_count += 1
        sweep.unparsed.append(Unparsed(0, UnparsedReason.DAMAGED, name, f"{unpacked.trouble}; what comes before was read"))


def _is_plain(file: BinaryIO) -> bool:
    """Whether it is a regular file that is read from its beginning and not packed."""
    try:
        mode = os.fstat(file.fileno()).st_mode
    except OSError:  # not a file of the operating system
        return False
    return stat.S_ISREG(mode) and file.tell() == 0 and kind_of(os.pread(file.fileno(), LONGEST_MAGIC, 0)) is None


def _blocks(start: bytes, file: Union[BinaryIO, Unpacked]) -> Iterator[bytes]:
    """Blocks of whole lines. A line longer than MAX_LINE is cut, so that a file without newlines cannot fill the memory."""
    block = start
    while block := block or file.read(BLOCK):
        if not block.endswith(b"\n"):
            block += file.readline(MAX_LINE)
        yield block
        block = b""


def _blocks_at(file: BinaryIO, offset: int, end: int) -> Iterator[bytes]:
    """The same of a regular file between two offsets; each block is read once and in place, for copying costs time."""
    number = file.fileno()
    while offset < end:
        size = min(BLOCK, end - offset)
        reach = 0
        while offset + size + reach < end and reach < MAX_LINE:
            beyond = os.pread(number, PROBE, offset + size + reach)
            newline = beyond.find(b"\n") + 1
            reach += newline or len(beyond)
            if newline or not beyond:
                break
        block = os.pread(number, min(size + reach, end - offset), offset)
        if not block:
            return  # the file was cut while it was read
        offset += len(block)
        yield block
