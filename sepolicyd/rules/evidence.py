"""What is known of one access: sightings in, an Evidence out whose merge does not depend on order or grouping."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from sepolicyd.audit.model import Denial, Sighting

MAX_KEPT = 24
MAX_SAMPLES = 3
MAX_SAMPLE_CHARS = 4096
MAX_TIMES = 64


@dataclass(frozen=True)
class Evidence:
    """Why somebody might want an access. Times in epoch seconds; every tuple sorted, the least MAX_KEPT values kept.

    ``count`` is exact in enforcing mode and an artefact of the kernel's cache in permissive mode (see design.md).
    ``roles`` and ``reasons``: the profile's role of the process and why it was taken. ``contexts``: (scontext, tcontext)
    in full, for constraints. ``paths`` hold "(deleted)" and sockets as the kernel wrote them. ``samples``: raw events.
    ``exercises``: names of the exercises in which it was seen. ``times``: when it was sighted, as cells of (start, width) in
    whole seconds, all of one width (a power of two, the least that leaves no more than MAX_TIMES cells), start a
    multiple of it: from these a reader tells in which exercises it was seen (state.evidence.assign_exercises).
    """

    count: int = 0
    first: float = 0.0
    last: float = 0.0
    enforced: int = 0
    comms: tuple[str, ...] = ()
    exes: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()
    paths: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    ports: tuple[tuple[str, int], ...] = ()
    ioctls: tuple[int, ...] = ()
    syscalls: tuple[str, ...] = ()
    contexts: tuple[tuple[str, str], ...] = ()
    kinds: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    exercises: tuple[str, ...] = ()
    times: tuple[tuple[int, int], ...] = ()
    taints: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()

    def merge(self, other: Evidence) -> Evidence:
        """Both together; associative and commutative."""
        if not self.count:
            return other
        if not other.count:
            return self
        merged: dict[str, Any] = {
            "count": self.count + other.count,
            "enforced": self.enforced + other.enforced,
            "first": min(self.first, other.first),
            "last": max(self.last, other.last),
            "times": thin(self.times + other.times),
        }
        for spec in fields(self):
            if spec.name not in merged:
                limit = MAX_SAMPLES if spec.name == "samples" else MAX_KEPT
                merged[spec.name] = _union(getattr(self, spec.name), getattr(other, spec.name), limit)
        return Evidence(**merged)


def thin(cells: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Cells of time brought to one width, doubled until MAX_TIMES are enough.

    Because the width is kept with the cells, thinning twice is thinning once, so that merge stays associative.
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


def _union(left: tuple[Any, ...], right: tuple[Any, ...], limit: int) -> tuple[Any, ...]:
    if left == right:
        return left
    return tuple(sorted({*left, *right})[:limit])


def evidence_of(sighting: Sighting, *, role: str = "", reason: str = "", exercise: str = "") -> Evidence:
    """The evidence that one sighting is."""
    denial = sighting.denial
    first, last = sighting.first or denial.time, sighting.last or denial.time
    return Evidence(
        count=sighting.count,
        first=first,
        last=last,
        enforced=0 if denial.permissive or denial.success else sighting.count,
        comms=_some(denial.comm),
        exes=_some(denial.exe),
        pids=() if denial.pid is None else (denial.pid,),
        paths=_some(denial.path),
        names=_some(denial.name),
        ports=tuple(sorted(denial.ports)),
        ioctls=() if denial.ioctlcmd is None else (denial.ioctlcmd,),
        syscalls=_some(denial.syscall),
        contexts=((str(denial.scontext), str(denial.tcontext)),),
        kinds=(denial.kind.value,),
        roles=_some(role),
        reasons=_some(reason),
        nodes=_some(denial.event.node),
        exercises=_some(exercise),
        times=thin(((int(first), 1), (int(last), 1))),
        samples=_sample(denial),
    )


def merge_all(parts: Iterable[Evidence]) -> Evidence:
    merged = Evidence()
    for part in parts:
        merged = merged.merge(part)
    return merged


def _some(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


def _sample(denial: Denial) -> tuple[str, ...]:
    return ("\n".join(denial.raw)[:MAX_SAMPLE_CHARS],) if denial.raw else ()
