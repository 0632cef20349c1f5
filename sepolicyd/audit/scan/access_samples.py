"""Bounded memory of a scan: a count for each access, and a sample of its records in full.

A place stands for one source context, target context and class. Some of its records are kept with the other records of
their event: the first ones, those with a new permission or comm, and a few of the rest (the 256th, the 1024th, ...). Each
kept record is a slot, which also counts the records like it. All other records are counted per permission.

Each source domain has its own share of the slots and its own limit of accesses, so a flood in one domain takes nothing from
another. Denials beyond the limit are counted per domain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Optional, Union

from sepolicyd.audit.model import AvcDecision, Denial, Kind, Remainder, Sighting, Tally
from sepolicyd.audit.parse import fields as field
from sepolicyd.audit.scan.kept_record import read_kept

SLOTS_OF_PLACE = 48
SLOTS_OF_DOMAIN = 512
SLOTS = 600
SLOTS_WITH_EVENT = 4000
SLOTS_ASSURED = 32
"""Slots that each domain may still use when all are taken."""
MAX_FACETS = 24
"""Limit of process names, ports and ioctl numbers that a place remembers beyond its slots."""
SPREAD_FROM, SPREAD = 256, 4
MAX_ACCESSES_OF_DOMAIN = 20_000
MAX_ACCESSES = 50_000
ACCESSES_ASSURED = 500
"""Accesses that each domain may still have when all are taken."""
MAX_DOMAINS = 4096
"""Domains beyond this number share one counter; no policy has so many."""


class Detail(Enum):
    """Lines of its event that a slot keeps: all nearby, those directly behind its own, or its own alone."""

    EVENT = "event"
    FOLLOWING = "following"
    LINE = "line"


class Slot:
    """One kept record, the count of records like it, and the first and last stamp ("seconds.milliseconds:serial").

    Stamps compare as bytes: seconds have ten digits until the year 2286. Before :meth:`read`, ``source`` holds the lines of
    the event, the record itself first.
    """

    __slots__ = ("_source", "count", "first", "last")

    def __init__(self, source: Union[list[bytes], Denial, None], stamp: bytes) -> None:
        self.count = 0
        self.first = self.last = stamp
        self._source = source

    def read(self) -> Optional[Denial]:
        """Parse the denial at the first call; return None if the line holds no denial."""
        if isinstance(self._source, list):
            self._source = read_kept(self._source)
        return self._source

    def add(self, stamp: bytes) -> None:
        self.count += 1
        if stamp > self.last:
            self.last = stamp
        if stamp and (stamp < self.first or not self.first):
            self.first = stamp


class Domain:
    """Memory use of one source domain, and the number of its denials that found no room."""

    __slots__ = ("accesses", "overflow", "slots")

    def __init__(self) -> None:
        self.slots = self.accesses = 0
        self.overflow = Slot(None, b"")


class Place:
    """Denials of one source context, target context and class.

    ``rest`` is [count, enforced, first, last] by permission, in the order in which they were first counted.
    """

    __slots__ = (
        *(
            "comms",
            "domain",
            "ioctls",
            "look_at",
            "newest",
            "open",
            "permissions",
            "pids",
            "ports",
            "rest",
            "rest_count",
            "slots",
        ),
        "gathers_ports",
    )

    def __init__(self, domain: Domain, *, has_ports: bool) -> None:
        self.domain = domain
        self.slots: dict[Any, Slot] = {}
        self.pids: set[bytes] = set()
        """PIDs of the slots."""
        self.open = True
        self.permissions: set[bytes] = set()
        self.rest: dict[bytes, list[Any]] = {}
        self.rest_count = 0
        self.look_at = SPREAD_FROM
        self.comms: dict[bytes, int] = {}
        self.ports: set[tuple[bytes, bytes]] = set()
        self.gathers_ports = has_ports
        self.ioctls: set[bytes] = set()
        self.newest = b""

    def may_keep(self, permissions: Iterable[bytes], comm: bytes) -> bool:
        """Tell whether :meth:`Places.wants` has to be asked about a record that is like no slot."""
        return (
            self.open
            or comm not in self.comms
            or self.rest_count >= self.look_at
            or not self.permissions.issuperset(permissions)
        )

    def count(self, permissions: Iterable[bytes], permissive: Optional[bytes], stamp: bytes, comm: bytes) -> None:
        """Count a record that gets no slot."""
        self.rest_count += 1
        enforced = 0 if permissive == b"1" else 1
        rest = self.rest
        for permission in permissions:
            tally = rest.get(permission)
            if tally is None:
                rest[permission] = [1, enforced, stamp, stamp]
                continue
            tally[0] += 1
            tally[1] += enforced
            if stamp > tally[3]:
                tally[3] = stamp
            elif stamp < tally[2]:
                tally[2] = stamp
        comms = self.comms
        seen = comms.get(comm)
        if seen is not None or len(comms) < MAX_FACETS:
            comms[comm] = (seen or 0) + 1


class Places:
    """All places of a scan, with the results of each."""

    def __init__(self) -> None:
        self.by_key: dict[Any, Place] = {}
        self._domains: dict[bytes, Domain] = {}
        self._slots: list[tuple[Place, Slot]] = []
        self._accesses = 0

    def make(self, key: Any, source: bytes, tclass: bytes) -> Place:
        """Return a new place for the key (kind, node, verdict, contexts and class)."""
        name = source.rpartition(b":")[2]
        domain = self._domains.get(name)
        if domain is None:
            name = name if len(self._domains) < MAX_DOMAINS else b""
            domain = self._domains.setdefault(name, Domain())
        place = Place(domain, has_ports=tclass.endswith(b"socket"))
        if domain.accesses < self._limit():
            self.by_key[key] = place
        return place

    def wants(self, place: Place, permissions: Iterable[bytes], comm: bytes) -> Optional[bool]:
        """Tell whether a record that is like no slot of the place gets one; None if its domain is full."""
        fresh = [permission for permission in permissions if permission not in place.permissions]
        domain = place.domain
        if fresh:
            if domain.accesses + len(fresh) > self._limit():
                return None
            domain.accesses += len(fresh)
            self._accesses += len(fresh)
            place.permissions.update(fresh)
        room = domain.slots < (SLOTS_OF_DOMAIN if len(self._slots) < SLOTS else SLOTS_ASSURED)
        spread = place.rest_count >= place.look_at
        if spread:
            place.look_at *= SPREAD
        new_comm = room and comm not in place.comms and len(place.comms) < MAX_FACETS
        place.open = place.open and room and len(place.slots) < SLOTS_OF_PLACE
        return bool(fresh) or place.open or spread or new_comm

    def keep(self, place: Place, key: Any, slot: Slot, comm: bytes, pid: bytes) -> Slot:
        """Keep a slot for the records that share the key."""
        place.slots[key] = slot
        place.pids.add(pid)
        if len(place.comms) < MAX_FACETS:
            place.comms.setdefault(comm, 0)
        place.domain.slots += 1
        self._slots.append((place, slot))
        return slot

    @property
    def detail(self) -> Detail:
        """Part of its event that a new slot may keep."""
        taken = len(self._slots)
        return Detail.EVENT if taken < SLOTS else Detail.FOLLOWING if taken < SLOTS_WITH_EVENT else Detail.LINE

    def add(self, denial: Denial, enriched: Optional[Callable[[], Denial]] = None) -> None:
        """Count one denial that the parser has read.

        :param enriched: returns the denial with the other records of its event; called only if the denial gets a slot
        """
        contexts = [f"{one.user}:{one.role}:{one.type}".encode() for one in (denial.scontext, denial.tcontext)]
        node = denial.event.node.encode() or None
        tclass = denial.tclass.encode()
        key: tuple[Any, ...] = (node, denial.verdict.value.encode(), *contexts, tclass)
        key = key if denial.kind is Kind.AVC else (*key, denial.kind)
        place = self.by_key.get(key) or self.make(key, contexts[0], tclass)
        permissions = [permission.encode() for permission in denial.permissions]
        permissive = None if denial.permissive is None else b"1" if denial.permissive else b"0"
        stamp = stamp_of(denial)
        comm = b'"%s"' % denial.comm.encode()
        about = (denial.name, denial.path, denial.dev, denial.ports, denial.ioctlcmd, denial.extra, denial.srawcon)
        like = (denial.permissions, comm, about, denial.trawcon, permissive, denial.pid)
        slot = place.slots.get(like)
        if slot is None:
            wanted = self.wants(place, permissions, comm)
            if wanted:
                slot = self.keep(place, like, Slot(enriched() if enriched else denial, stamp), comm, b"%d" % (denial.pid or 0))
            elif wanted is None:
                slot = place.domain.overflow
        if slot is not None:
            slot.add(stamp)
        else:
            place.count(permissions, permissive, stamp, comm)

    def _limit(self) -> int:
        """Return the present limit of accesses for a domain."""
        if self._accesses < MAX_ACCESSES:
            return MAX_ACCESSES_OF_DOMAIN
        return ACCESSES_ASSURED if self._accesses < 2 * MAX_ACCESSES else 0

    def found(self, verdict: AvcDecision) -> tuple[list[Sighting], list[Remainder], int]:
        """Return the sightings in order of first occurrence, the remaining counts, and the number of messages."""
        sightings: list[Sighting] = []
        examples: dict[int, Denial] = {}
        for place, slot in self._slots:
            denial = slot.read()
            if denial is None or denial.verdict is not verdict:
                continue
            examples.setdefault(id(place), denial)
            sightings.append(Sighting(denial, slot.count, seconds(slot.first), seconds(slot.last)))
        remainders = [
            _remainder(place, examples[id(place)])
            for place in self.by_key.values()
            if place.rest_count and id(place) in examples
        ]
        count = sum(one.count for one in sightings) + sum(one.count for one in remainders)
        return sightings, remainders, count

    def overflow(self) -> dict[str, int]:
        """Return the number of denials that found no room, by source domain."""
        return {name.decode(): domain.overflow.count for name, domain in self._domains.items() if domain.overflow.count}


def _remainder(place: Place, example: Denial) -> Remainder:
    tallies = {
        permission.decode(): Tally(count, enforced, seconds(first), seconds(last))
        for permission, (count, enforced, first, last) in place.rest.items()
    }
    ports = sorted((key.decode(), int(port)) for key, port in place.ports)
    comms = tuple(sorted((field.value_of(comm.decode("utf-8", "backslashreplace")), n) for comm, n in place.comms.items() if n))
    ioctls = tuple(sorted(int(text.partition(b"=")[2], 16) for text in place.ioctls))
    return Remainder(example, place.rest_count, tallies, comms, tuple(ports), ioctls)


def stamp_of(denial: Denial) -> bytes:
    """Return the stamp in the form that compares as bytes, b"" if the record has no time."""
    time = denial.event.seconds
    return b"%014.3f:%d" % (time, denial.event.serial) if 0 < time < 1e10 else b""


def seconds(stamp: bytes) -> float:
    """Return the epoch seconds of a stamp, 0.0 for the empty one."""
    return float(stamp.partition(b":")[0]) if stamp else 0.0
