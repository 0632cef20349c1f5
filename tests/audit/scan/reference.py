"""The record-by-record path over a whole log, to hold the fast path against: parse, Assembler, denials_of."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sepolicyd.audit.model import Denial, Unparsed
from sepolicyd.audit.parse.denial import denials_of
from sepolicyd.audit.parse.event import Event
from sepolicyd.audit.parse.record import Record, parse
from sepolicyd.audit.scan.files import ScanResult
from tests.audit.scan.assembler import Assembler


@dataclass
class Reference:
    """Sums in the same words as ScanResult, and the denials themselves."""

    lines: int = 0
    events: int = 0
    denials: list[Denial] = field(default_factory=list)
    granted: list[Denial] = field(default_factory=list)
    notices: int = 0
    other: int = 0
    errors: int = 0
    unparsed: int = 0

    def take(self, events: Iterable[Event]) -> None:
        for event in events:
            self.events += event.id.serial > 0
            found = denials_of(event)
            self.denials.extend(found.denials)
            self.granted.extend(found.granted)
            self.notices += len(found.notices)
            self.errors += len(found.errors)
            self.other += found.other
            self.unparsed += len(found.unparsed)


def by_records(text: bytes) -> Reference:
    """Read a log that is one record a line."""
    reference, assembler = Reference(), Assembler()
    for number, line in enumerate(io.BytesIO(text), 1):
        reference.lines = number
        record = parse(line, number)
        if isinstance(record, Record):
            reference.take(assembler.feed(record))
        reference.unparsed += isinstance(record, Unparsed)
    reference.take(assembler.flush())
    return reference


def accesses(denials: Iterable[Denial]) -> Counter[tuple[str, ...]]:
    """How often each (kind, source, target, class, permissions, permissive) was seen."""
    return Counter(
        (one.kind.value, one.scontext.type, one.tcontext.type, one.tclass, *one.permissions, str(one.permissive))
        for one in denials
    )


def counted(result: ScanResult) -> Counter[tuple[str, ...]]:
    """The same of a ScanResult, from its sightings."""
    total: Counter[tuple[str, ...]] = Counter()
    for sighting in result.sightings:
        for key in accesses([sighting.denial]):
            total[key] += sighting.count
    return total
