"""Evidence of one access, and its collection from sightings, which is independent of order and grouping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from zlib import crc32

from sepolicyd.access import Access
from sepolicyd.audit.model import Denial, Remainder, Sighting, Tally

MAX_KEPT = 24
MAX_SAMPLES = 3
MAX_SAMPLE_CHARS = 4096
MAX_TIMES = 64


@dataclass(frozen=True)
class Evidence:
    """The collected facts about one access. Each tuple is sorted and holds the smallest MAX_KEPT values.

    All text is raw log text: escape it before display.
    """

    count: int = 0
    """Number of messages, exact in enforcing mode. In permissive mode, the kernel logs an access once per cache flush."""
    first: float = 0.0
    """Epoch seconds, like ``last``; 0.0 if the log contains no time."""
    last: float = 0.0
    enforced: int = 0
    """Number of messages in enforcing mode."""
    comms: tuple[str, ...] = ()
    exes: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()
    paths: tuple[str, ...] = ()
    """Paths as written by the kernel, including "(deleted)"."""
    names: tuple[str, ...] = ()
    ports: tuple[tuple[str, int], ...] = ()
    ioctls: tuple[int, ...] = ()
    syscalls: tuple[str, ...] = ()
    contexts: tuple[tuple[str, str], ...] = ()
    """Full (scontext, tcontext) pairs, needed for constraints."""
    kinds: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    """Roles of the requesting processes in the profile."""
    reasons: tuple[str, ...] = ()
    """Reasons why the processes were attributed to the service."""
    nodes: tuple[str, ...] = ()
    exercises: tuple[str, ...] = ()
    """Names of the exercises in which the access was seen."""
    times: tuple[tuple[int, int], ...] = ()
    """Times of sightings as cells (start, width) in whole seconds, used by rollout.learning.coverage.

    All cells have the same width, the smallest power of two that gives at most MAX_TIMES cells; start is a multiple of it.
    """
    taints: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()
    """Raw events: the first, the last, and one between."""
    hosts: int = 0
    """Number of hosts that reported the access in merged evidence (sepolicyd.fleet.merge); 0 for one machine."""

    def merge(self, other: Evidence) -> Evidence:
        """Return the merged evidence; associative and commutative."""
        return merge_all((self, other))


Values = tuple[str, tuple[Any, ...]]
"""The name of a field of Evidence, and values of it."""


class EvidenceBuilder:
    """Builder for the evidence of one access.

    What several accesses have in common is held once: sets and texts of samples are made in :meth:`evidence`.
    """

    __slots__ = ("_count", "_enforced", "_first", "_hosts", "_last", "_parts", "_samples")

    def __init__(self) -> None:
        self._count = self._enforced = self._hosts = 0
        self._first = self._last = 0.0
        self._parts: list[Sequence[Values]] = []
        self._samples: set[tuple[str, ...]] = set()

    def count(self, tally: Tally) -> None:
        """Add a number of messages and the time of the first and the last."""
        self._count += tally.count
        self._enforced += tally.enforced
        if tally.first and (tally.first < self._first or not self._first):
            self._first = tally.first
        if tally.last > self._last:
            self._last = tally.last

    def add(self, values: Sequence[Values]) -> None:
        """Add values to tuple fields."""
        self._parts.append(values)

    def add_evidence(self, evidence: Evidence) -> None:
        self.count(Tally(evidence.count, evidence.enforced, evidence.first, evidence.last))
        self._samples.update((sample,) for sample in evidence.samples)
        self._hosts = max(self._hosts, evidence.hosts)
        self.add([(name, getattr(evidence, name)) for name in _SETS])

    def add_sample(self, lines: tuple[str, ...]) -> None:
        """Add the lines of an event."""
        self._samples.add(lines)

    def evidence(self) -> Evidence:
        """Return the evidence collected so far."""
        sets: dict[str, set[Any]] = {}
        for part in self._parts:
            for name, values in part:
                if name in sets:
                    sets[name].update(values)
                else:
                    sets[name] = set(values)
        times = sets.pop("times", ())
        return Evidence(
            count=self._count,
            first=self._first,
            last=self._last,
            enforced=self._enforced,
            times=thin(times),
            samples=_pick("\n".join(lines)[:MAX_SAMPLE_CHARS] for lines in self._samples),
            hosts=self._hosts,
            **{name: tuple(sorted(values)[:MAX_KEPT]) for name, values in sets.items() if values},
        )


_SINGLE = ("count", "first", "last", "enforced", "samples", "hosts")
_SETS = tuple(spec.name for spec in fields(Evidence) if spec.name not in _SINGLE)


def merge_all(parts: Iterable[Evidence]) -> Evidence:
    """Merge all parts."""
    known = [part for part in parts if part.count]
    if len(known) == 1:
        return known[0]
    builder = EvidenceBuilder()
    for part in known:
        builder.add_evidence(part)
    return builder.evidence()


def merged_roles(by_role: Mapping[tuple[Access, str], Evidence]) -> dict[Access, Evidence]:
    """Merge the evidence of all roles for each access, sorted by access."""
    parts: dict[Access, list[Evidence]] = {}
    for (access, _), seen in by_role.items():
        parts.setdefault(access, []).append(seen)
    return {access: merge_all(found) for access, found in sorted(parts.items())}


def _pick(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the first, the last and one other sample, chosen by checksum so that the choice is independent of grouping."""
    found = sorted(set(texts))
    if len(found) <= MAX_SAMPLES:
        return tuple(found)
    between = min(found[1:-1], key=lambda text: (crc32(text.encode("utf-8", "surrogatepass")), text))
    return (found[0], between, found[-1])


class Gathering:
    """Evidence of many accesses, separated by the requesting role."""

    def __init__(self) -> None:
        self._builders: dict[tuple[Access, str], EvidenceBuilder] = {}
        self._accesses: dict[tuple[str, str, str, str], Access] = {}

    def add(self, sighting: Sighting, *, role: str = "", reason: str = "") -> None:
        """Add a sighting to each of its accesses."""
        denial = sighting.denial
        first, last = sighting.first or denial.time, sighting.last or denial.time
        let_pass = bool(denial.permissive or denial.success)
        tally = Tally(sighting.count, 0 if let_pass else sighting.count, first, last)
        details = [(name, values) for name, values in _details(denial, role, reason) if values]
        details.append(("times", tuple((int(time), 1) for time in (first, last) if time)))
        for permission in denial.permissions:
            builder = self._of(denial, permission, role)
            builder.count(tally)
            builder.add(details)
            if denial.raw:
                builder.add_sample(denial.raw)

    def add_remainder(self, remainder: Remainder, tallies: Mapping[str, Tally], *, role: str = "", reason: str = "") -> None:
        """Add the counts beyond the sightings; ``tallies`` is the share of this role."""
        denial = remainder.example
        common: list[Values] = [
            ("comms", tuple(comm for comm, _ in remainder.comms if comm)),
            ("ports", remainder.ports),
            ("kinds", (denial.kind.value,)),
            ("contexts", ((str(denial.scontext), str(denial.tcontext)),)),
            ("roles", _some(role)),
            ("reasons", _some(reason)),
        ]
        for permission, tally in tallies.items():
            builder = self._of(denial, permission, role)
            builder.count(tally)
            builder.add(common)
            builder.add([("times", tuple((int(time), 1) for time in (tally.first, tally.last) if time))])
            if permission == "ioctl":
                builder.add([("ioctls", remainder.ioctls)])

    def by_role(self) -> dict[tuple[Access, str], Evidence]:
        """Return the evidence by access and role, in order of the first sighting. Nothing can be added afterwards."""
        found = {}
        for key in list(self._builders):
            found[key] = self._builders.pop(key).evidence()
        return found

    def _of(self, denial: Denial, permission: str, role: str) -> EvidenceBuilder:
        names = (denial.scontext.type, denial.tcontext.type, denial.tclass, permission)
        access = self._accesses.get(names)
        if access is None:
            access = self._accesses[names] = Access.of(*names)
        builder = self._builders.get((access, role))
        if builder is None:
            builder = self._builders[access, role] = EvidenceBuilder()
        return builder


def _details(denial: Denial, role: str, reason: str) -> Iterable[tuple[str, tuple[Any, ...]]]:
    yield "comms", _some(denial.comm)
    yield "exes", _some(denial.exe)
    yield "pids", () if denial.pid is None else (denial.pid,)
    yield "paths", _some(denial.path)
    yield "names", _some(denial.name)
    yield "ports", denial.ports
    yield "ioctls", () if denial.ioctlcmd is None else (denial.ioctlcmd,)
    yield "syscalls", _some(denial.syscall)
    yield "contexts", ((str(denial.scontext), str(denial.tcontext)),)
    yield "kinds", (denial.kind.value,)
    yield "roles", _some(role)
    yield "reasons", _some(reason)
    yield "nodes", _some(denial.event.node)


def _some(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


def thin(cells: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return time cells with a common width, doubled until MAX_TIMES cells suffice.

    Since the width is stored with the cells, thinning is idempotent, which keeps merging associative.
    """
    starts = {*cells}
    if not starts:
        return ()
    width = max(width for _, width in starts)
    firsts = {start - start % width for start, _ in starts}
    while len(firsts) > MAX_TIMES:
        width *= 2
        firsts = {start - start % width for start in firsts}
    return tuple((start, width) for start in sorted(firsts))
