"""Scan whole log files into a ScanResult. Files are read in blocks, not mapped into memory."""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
    """Contents of a log. Duplicate records count once."""

    lines: int = 0
    denials: int = 0
    """Number of messages, like ``granted`` and ``notices``, including those that found no room."""
    granted: int = 0
    notices: int = 0
    other: int = 0
    """Lines with ``avc:`` that do not come from SELinux: from another security module, or with the mark inside a name."""
    has_records: bool = False
    """Whether any line has the header of an audit record."""
    unparsed: tuple[Unparsed, ...] = ()
    """The first thousand unparsed lines, and the first thousand forgery attempts among them."""
    unparsed_count: int = 0
    attempts: int = 0
    """Number of unparsed lines that look like attempts to forge a record."""
    imitations: tuple[Unparsed, ...] = ()
    """The first thousand events that were read and hold a value that imitates a record."""
    imitation_count: int = 0
    attempt_sources: Mapping[str, int] = field(default_factory=dict)
    """Sum of ``attempts`` and ``imitation_count`` by type of the process; "" where no record proves the type."""
    sightings: tuple[Sighting, ...] = ()
    """In the order of the log. The counts here, in ``remainders`` and in ``overflow`` add up to ``denials``."""
    remainders: tuple[Remainder, ...] = ()
    granted_sightings: tuple[Sighting, ...] = ()
    overflow: Mapping[str, int] = field(default_factory=dict)
    """Denials counted only, by source domain, because the domain has too many distinct accesses."""
    errors: tuple[PolicyError, ...] = ()
    notice_list: tuple[Notice, ...] = ()

    def without_details(self) -> ScanResult:
        """Return the counts and what could not be read, without the sightings, which take most of the memory."""
        return replace(self, sightings=(), granted_sightings=(), remainders=())


class TextFront(Protocol):
    """Reader of formats other than auditd's, used by ``analyze`` in front of the scan (audit/dialects/preprocess.py)."""

    @property
    def found(self) -> list[Denials]:
        """Return the denials that the reader found itself, complete after the last block."""

    def blocks(self, blocks: Iterator[bytes], lines_scanned: Callable[[], int]) -> Iterator[bytes]:
        """Return the blocks with raw lines only, as many lines as before."""


def scan_files(
    paths: Sequence[Path], *, on_progress: Optional[Progress] = None, front: Optional[TextFront] = None
) -> ScanResult:
    """Scan the files in this order as one log, plain or compressed with gzip, xz or bzip2 (recognized by content).

    :param on_progress: called with the number of (decompressed) bytes read since the last call
    :raises InputError: a file is missing, unreadable, a directory, or compressed in another format
    """
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path} is a directory, not a log", "give the log file in it, such as audit.log")
    sweep = Sweep()
    _run(sweep, _through(front, sweep, _blocks_of_files(sweep, paths)), on_progress)
    _take_from(front, sweep)
    return result_of(sweep)


def scan_stream(file: BinaryIO, *, on_progress: Optional[Progress] = None, front: Optional[TextFront] = None) -> ScanResult:
    """Scan a binary stream (standard input) to its end, compressed or plain.

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
    """Return the results of the sweep so far."""
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
    """Feed the blocks, each with its neighbours. Garbage collection is off: this code creates no reference cycles."""
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
        raise InputError(f"{path} does not exist", "give an existing log file") from error
    except PermissionError as error:
        raise InputError(f"no permission to read {path}", "run as root, or as a member of the log's group") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", "give a log file") from error


def _unpacked(sweep: Sweep, file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the blocks of a file, decompressed if it begins with a known magic number."""
    if _is_plain(file):
        yield from _blocks_at(file, 0, os.fstat(file.fileno()).st_size)
        return
    start = file.read(BLOCK)
    kind = kind_of(start)
    if kind is None:
        yield from line_blocks(start, file)
        return
    if kind.unpacker is None:
        raise InputError(f"{name} is compressed with {kind.name}", f"decompress it: {kind.name} -dc FILE | sepolicyd analyze -")
    unpacked = Unpacked(kind, start, file)
    yield from line_blocks(b"", unpacked)
    if unpacked.trouble:
        sweep.unparsed_count += 1
        sweep.unparsed.append(Unparsed(0, UnparsedReason.DAMAGED, name, f"{unpacked.trouble}; the lines before it were read"))


def _is_plain(file: BinaryIO) -> bool:
    """Tell whether this is an uncompressed regular file at its beginning."""
    try:
        mode = os.fstat(file.fileno()).st_mode
    except OSError:  # not backed by a file descriptor
        return False
    return stat.S_ISREG(mode) and file.tell() == 0 and kind_of(os.pread(file.fileno(), LONGEST_MAGIC, 0)) is None


def line_blocks(start: bytes, file: Union[BinaryIO, Unpacked]) -> Iterator[bytes]:
    """Yield blocks of whole lines. Lines longer than MAX_LINE are cut, so a file without newlines cannot fill the memory."""
    block = start
    while block := block or file.read(BLOCK):
        if not block.endswith(b"\n"):
            block += file.readline(MAX_LINE)
        yield block
        block = b""


def _blocks_at(file: BinaryIO, offset: int, end: int) -> Iterator[bytes]:
    """Yield the blocks of a regular file between two offsets, each read once and in place (copying is slow)."""
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
            return  # the file was truncated during the read
        offset += len(block)
        yield block
