"""Assign sightings of accesses to the exercises in whose time they fell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.rules.evidence import Evidence


@dataclass(frozen=True)
class Mark:
    """An exercise: its name, when it began and, where known, ended (epoch seconds)."""

    name: str
    start: float
    end: Optional[float] = None


def assign_exercises(evidence: Mapping[Access, Evidence], marks: Sequence[Mark]) -> dict[Access, Evidence]:
    """The same evidence, ``exercises`` being the names of the marks in whose time it was sighted.

    A mark lasts to its end, or to the start of the next mark. Evidence keeps the times as cells (Evidence.times); a cell
    that two exercises share counts for both: this happens only to accesses sighted very often, which no estimate of
    unseen accesses depends on.
    """
    spans = _spans(marks)
    return {
        access: replace(seen, exercises=tuple(sorted({name for name, low, high in spans if _sighted(seen, low, high)})))
        for access, seen in evidence.items()
    }


def _spans(marks: Sequence[Mark]) -> list[tuple[str, float, float]]:
    ordered = sorted(marks, key=lambda mark: mark.start)
    following = [mark.start for mark in ordered[1:]] + [float("inf")]
    return [
        (mark.name, mark.start, after if mark.end is None else min(mark.end, after)) for mark, after in zip(ordered, following)
    ]


def _sighted(seen: Evidence, low: float, high: float) -> bool:
    # cells begin at whole seconds: a sighting at 12.7 lies in the cell of 12, a mark set at 12.3 must still find it
    if seen.first >= high or seen.last < low:
        return False
    return any(start < high and start + width > low for start, width in seen.times)
