"""Assign sightings of accesses to the exercises during which they happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from sepolicyd.rollout.lease.exercises import ExerciseMark
from sepolicyd.rules.evidence import Evidence

Key = TypeVar("Key")


def assign_exercises(evidence: Mapping[Key, Evidence], marks: Sequence[ExerciseMark]) -> dict[Key, Evidence]:
    """Return the evidence with ``exercises`` set to the names of the exercises during which an access was sighted.

    An exercise lasts until the next one begins. Evidence keeps times in cells (Evidence.times); a cell shared by two exercises
    counts for both. That affects only accesses sighted very often, which do not influence the estimate of unseen accesses.

    :param evidence: evidence by access, or by access and role
    """
    spans = _spans(marks)
    return {
        key: replace(seen, exercises=tuple(sorted({name for name, low, high in spans if _sighted(seen, low, high)})))
        for key, seen in evidence.items()
    }


def _spans(marks: Sequence[ExerciseMark]) -> list[tuple[str, float, float]]:
    ordered = sorted(marks, key=lambda mark: mark.epoch)
    ends = [mark.epoch for mark in ordered[1:]] + [float("inf")]
    return [(mark.name, mark.epoch, end) for mark, end in zip(ordered, ends)]


def _sighted(seen: Evidence, low: float, high: float) -> bool:
    # cells begin at whole seconds: a sighting at 12.7 lies in cell 12, which must match an exercise that began at 12.3
    if seen.first >= high or seen.last < low:
        return False
    return any(start < high and start + width > low for start, width in seen.times)
