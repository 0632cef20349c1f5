"""Reference implementation of the scan: parse, Assembler, denials_of, record by record."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field

from sepolicyd.audit.model import Denial, Sighting, Unparsed
from sepolicyd.audit.parse.denial import denials_of
from sepolicyd.audit.parse.event import Event
from sepolicyd.audit.parse.record import Record, parse
from sepolicyd.audit.scan.scan_files import ScanResult
from tests.audit.scan.assembler import Assembler


@dataclass
class Reference:
    """Sums in the same words as ScanResult, and the denials themselves."""

    lines: int = 0
    denials: list[Denial] = field(default_factory=list)
    granted: list[Denial] = field(default_factory=list)
    notices: int = 0
    other: int = 0
    errors: int = 0
    unparsed: int = 0
    attempts: int = 0

    def take(self, events: Iterable[Event]) -> None:
        for event in events:
            found = denials_of(event)
            self.denials.extend(found.denials)
            self.granted.extend(found.granted)
            self.notices += len(found.notices)
            self.errors += len(found.errors)
            self.other += found.other
            self.unparsed += len(found.unparsed)
            self.attempts += sum(one.attempt for one in found.unparsed)


def by_records(text: bytes) -> Reference:
    """Read a log that is one record a line."""
    reference, assembler = Reference(), Assembler()
    for number, line in enumerate(io.BytesIO(text), 1):
        reference.lines = number
        record = parse(line, number)
        if isinstance(record, Record):
            reference.take(assembler.feed(record))
        elif isinstance(record, Unparsed):
            reference.unparsed += 1
            reference.attempts += record.attempt
    reference.take(assembler.flush())
    return reference


@dataclass
class Sums:
    """How often one access was logged, how often without permissive=1, and the times of the first and the last."""

    count: int = 0
    enforced: int = 0
    first: float = 0.0
    last: float = 0.0

    def add(self, count: int, enforced: int, first: float, last: float) -> None:
        self.count += count
        self.enforced += enforced
        times = [time for time in (self.first, first) if time]
        self.first, self.last = min(times, default=0.0), max(self.last, last)


Row = tuple[str, ...]


def accesses(denials: Iterable[Denial]) -> dict[Row, Sums]:
    """Sums of each (kind, node, source, target, class, permission), every denial counted by itself."""
    return _summed(Sighting(one, 1, one.time, one.time) for one in denials)


def counted(result: ScanResult) -> dict[Row, Sums]:
    """The same of a ScanResult."""
    found = _summed(result.sightings)
    for remainder in result.remainders:
        for permission, tally in remainder.tallies.items():
            sums = found.setdefault(_row(remainder.example, permission), Sums())
            sums.add(tally.count, tally.enforced, tally.first, tally.last)
    return found


def messages(result: ScanResult) -> int:
    """What sightings, remainders and overflow add up to."""
    kept = sum(one.count for one in result.sightings) + sum(one.count for one in result.remainders)
    return kept + sum(result.overflow.values())


def _summed(sightings: Iterable[Sighting]) -> dict[Row, Sums]:
    found: dict[Row, Sums] = {}
    for one in sightings:
        enforced = 0 if one.denial.permissive else one.count
        for permission in one.denial.permissions:
            found.setdefault(_row(one.denial, permission), Sums()).add(one.count, enforced, one.first, one.last)
    return found


def _row(denial: Denial, permission: str) -> Row:
    contexts = (str(denial.scontext).split(":")[:3], str(denial.tcontext).split(":")[:3])
    return (denial.kind.value, denial.event.node, *map(":".join, contexts), denial.tclass, permission)
