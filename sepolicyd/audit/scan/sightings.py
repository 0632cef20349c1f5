"""Denials in, sightings out: a flood costs memory per distinct access, and each access keeps enough to be judged.

Of one access (permissions, source, target, class) the first CAP different sightings are kept; beyond that one more for
each new comm, port and ioctl number (at most FACETS of them). What is not kept is counted on a sighting of the same comm.
Once BUDGET sightings are kept in all, CAP falls to CAP_AFTER and only the first of an access keeps its whole event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Optional

from sepolicyd.audit.model import Denial, Sighting, Verdict
from sepolicyd.audit.parse.denial import Denials, denials_of_lines

CAP = 24
CAP_AFTER = 2
FACETS = 24
BUDGET = 600
MAX_SEEN = 12_000
_TIME = re.compile(rb"(?:^|\()([0-9]{1,12}\.[0-9]{1,6}):[0-9]+")


class Slot:
    """One sighting while it is counted.

    ``first`` and ``window`` are the ends of the first and the last header, with time and serial; ``at`` tells where the
    last line is.
    """

    __slots__ = ("at", "count", "denial", "first", "key", "window")

    def __init__(self, window: bytes, denial: Denial) -> None:
        self.count = 0
        self.first = self.window = window
        self.at = -1
        self.denial = denial
        self.key: Any = None


class _Entry:
    __slots__ = ("comms", "facets", "kept")

    def __init__(self) -> None:
        self.kept = 0
        self.comms: dict[bytes, Slot] = {}
        self.facets: set[bytes] = set()


class Fold:
    """Counts per sighting. ``slots`` maps a key to its slot; keys of overflowing sightings are remembered up to MAX_SEEN."""

    def __init__(self) -> None:
        self.seen: dict[Any, Slot] = {}
        self.slots: list[Slot] = []
        self._entries: dict[Any, _Entry] = {}

    def place(self, key: Any, access: Any, comm: bytes, facet: bytes, make: Callable[[bool], Optional[Slot]]) -> Optional[Slot]:
        """The slot for a key that is not in ``seen``: a new one, or one that it is counted on.

        :param make: builds the slot, or None where it cannot; its argument says whether the whole event is wanted
        """
        entry = self._entries.get(access)
        if entry is None:
            entry = self._entries[access] = _Entry()
        cap = CAP if len(self.slots) < BUDGET else CAP_AFTER
        slot = entry.comms.get(comm)
        new_comm = slot is None and len(entry.comms) < FACETS
        new_facet = bool(facet) and facet not in entry.facets and len(entry.facets) < FACETS
        if entry.kept < cap or new_comm or new_facet:
            fresh = make(len(self.slots) < BUDGET or entry.kept < 1)
            if fresh is None:
                return None
            fresh.key = (key, access, comm, facet)
            self.slots.append(fresh)
            entry.kept += 1
            entry.facets.add(facet)
            if slot is None:
                entry.comms[comm] = fresh
            slot = fresh
        elif slot is None:
            slot = next(iter(entry.comms.values()))
        if len(self.seen) < MAX_SEEN:
            self.seen[key] = slot
        return slot

    def add(self, denial: Denial) -> None:
        """Count one denial that has been parsed already."""
        details = (denial.name, denial.path, denial.dev, denial.ports, denial.ioctlcmd, denial.extra, denial.event.node)
        labels = (denial.srawcon, denial.trawcon)
        types = (denial.scontext.type, denial.tcontext.type, denial.tclass)
        access = (denial.kind, denial.verdict, denial.permissions, denial.permissive, *types)
        key = (access, denial.comm, details, labels)
        slot = self.seen.get(key)
        window = f"{denial.event.time}:{denial.event.serial}".encode()
        if slot is None:
            facet = repr((denial.ports, denial.ioctlcmd)).encode() if denial.ports or denial.ioctlcmd is not None else b""
            slot = self.place(key, access, denial.comm.encode(), facet, lambda _: Slot(window, denial))
        if slot is not None:
            slot.count += 1
            slot.window = window

    def append(self, later: Fold) -> None:
        """Add the slots of a later part of the log."""
        for slot in later.slots:
            key, access, comm, facet = slot.key
            mine = self.seen.get(key) or self.place(key, access, comm, facet, lambda _, slot=slot: slot)  # type: ignore[misc]
            if mine is not None and mine is not slot:
                mine.count += slot.count
                mine.window = slot.window

    def counts(self) -> tuple[int, int]:
        """How many messages (denied, granted)."""
        granted = sum(slot.count for slot in self.slots if slot.denial.verdict is Verdict.GRANTED)
        return sum(slot.count for slot in self.slots) - granted, granted

    def sightings(self) -> tuple[list[Sighting], list[Sighting]]:
        """(denied, granted), in the order in which they were first seen."""
        denied: list[Sighting] = []
        granted: list[Sighting] = []
        for slot in self.slots:
            denial = slot.denial
            first, last = _seconds(slot.first), _seconds(slot.window)
            sighting = Sighting(denial, slot.count, min(first, last), max(first, last))
            (denied if denial.verdict is Verdict.DENIED else granted).append(sighting)
        return denied, granted


def of_lines(lines: Iterable[bytes], number: int = 0) -> Denials:
    """What the first of these lines says, the others being records of the same event."""
    return denials_of_lines(list(lines), number)


def _seconds(window: bytes) -> float:
    """Epoch seconds in ``...audit(1795373000.012:1001): ``, or in ``1795373000.012:1001``; 0.0 where there is no time."""
    match = _TIME.search(window)
    return float(match[1]) if match else 0.0
