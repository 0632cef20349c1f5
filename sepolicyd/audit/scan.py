"""Whole log files in, a ScanResult out: counts, and the sightings of each distinct access."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Optional

from sepolicyd.audit.denial import denials_of
from sepolicyd.audit.event import Assembler
from sepolicyd.audit.record import parse
from sepolicyd.audit.values import Denial, Notice, SelinuxError, Sighting, Unparsed
from sepolicyd.errors import InputError

MAX_LISTED = 1000


@dataclass(frozen=True)
class ScanResult:
    """What a log says. ``unparsed`` lists at most MAX_LISTED lines, ``unparsed_count`` counts them all."""

    lines: int = 0
    events: int = 0
    denials: int = 0
    granted: int = 0
    notices: int = 0
    other: int = 0
    unparsed: tuple[Unparsed, ...] = ()
    unparsed_count: int = 0
    sightings: tuple[Sighting, ...] = ()
    granted_sightings: tuple[Sighting, ...] = ()
    errors: tuple[SelinuxError, ...] = ()
    notice_list: tuple[Notice, ...] = ()


def scan_files(paths: Sequence[Path], *, on_progress: Optional[Callable[[int], None]] = None) -> ScanResult:
    """Scan the files in this order as one log. ``on_progress`` gets the number of bytes read since its last call.

    :raises InputError: a file is missing, unreadable or a directory
    """

    def lines() -> Iterator[bytes]:
        for path in paths:
            try:
                with path.open("rb") as file:
                    magic = file.peek(2)[:2]  # type: ignore[attr-defined]
                    source = gzip.open(file) if magic == b"\x1f\x8b" else file
                    for line in source:
                        if on_progress:
                            on_progress(len(line))
                        yield line
            except (EOFError, zlib.error, gzip.BadGzipFile):
                continue
            except OSError as error:
                raise InputError(
                    f"cannot read {path}: {error.strerror or error}", "name a log file that you may read"
                ) from error

    return _scan(lines())


def scan_stream(file: BinaryIO) -> ScanResult:
    """Scan a binary stream (standard input) to its end."""
    return _scan(iter(file))


def _scan(lines: Iterator[bytes]) -> ScanResult:
    assembler = Assembler()
    sums = dict.fromkeys(("lines", "events", "denials", "granted", "notices", "other", "unparsed_count"), 0)
    unparsed: list[Unparsed] = []
    seen: list[Denial] = []
    granted: list[Denial] = []
    errors: list[SelinuxError] = []
    notices: list[Notice] = []

    def take(events) -> None:  # type: ignore[no-untyped-def]
        for event in events:
            sums["events"] += bool(event.id.serial)
            what = denials_of(event)
            seen.extend(what.denials)
            granted.extend(what.granted)
            errors.extend(what.errors)
            notices.extend(what.notices)
            unparsed.extend(what.unparsed)
            sums["other"] += what.other

    for number, line in enumerate(lines, 1):
        sums["lines"] = number
        record = parse(line, number)
        if isinstance(record, Unparsed):
            unparsed.append(record)
        elif record is not None:
            take(assembler.feed(record))
    take(assembler.flush())
    sums.update(denials=len(seen), granted=len(granted), notices=len(notices), unparsed_count=len(unparsed))
    return ScanResult(
        **sums,
        unparsed=tuple(unparsed[:MAX_LISTED]),
        sightings=tuple(map(_sighting, seen)),
        granted_sightings=tuple(map(_sighting, granted)),
        errors=tuple(errors),
        notice_list=tuple(notices),
    )


def _sighting(denial: Denial) -> Sighting:
    return Sighting(denial, 1, denial.time, denial.time)
