"""Find consequences: denials that a process reached only because it continued in permissive mode after an earlier denial."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from sepolicyd.rules.candidate import Candidate

_STAMP = re.compile(r"audit\((\d+\.\d+):(\d+)\)")
_ASKED = re.compile(r"avc:\s+denied\s+\{([^{}]*)\}")
WAYS = frozenset({"search", "open", "read", "execute"})
Moment = tuple[float, int]
Gate = tuple[Moment, str, str]
"""Time of a candidate's first denial, its id and its target."""
MAX_GATES = 16
"""Limit for the earliest denials kept for one process and path."""


def cascades(candidates: Sequence[Candidate], common: frozenset[str] = frozenset()) -> dict[str, str]:
    """Map the id of a candidate to the id of the candidate of which it is a consequence.

    A consequence follows an earlier denial of the same process, for searching a parent directory or executing the requesting
    program, after which the process continued in permissive mode. Only candidates with purely permissive evidence count; of
    several earlier denials, the first is returned. Runs in O(n log n).

    :param common: ids of candidates that nearly every domain is allowed; these have no consequences
    """
    permissive = [candidate for candidate in candidates if not candidate.merged.enforced]
    when = {candidate.id: moment(candidate) for candidate in permissive}
    gates: dict[tuple[str, int, str], list[Gate]] = {}
    for candidate in sorted(permissive, key=lambda one: when[one.id]):
        if candidate.id in common or not WAYS & set(candidate.permissions):
            continue
        for kind, place in _gates(candidate):
            for pid in candidate.merged.pids:
                known = gates.setdefault((kind, pid, place), [])
                if len(known) < MAX_GATES:
                    known.append((when[candidate.id], candidate.id, candidate.target))
    found: dict[str, str] = {}
    for candidate in permissive:
        passed = [gate for gate in _passed(candidate, gates) if gate[0] < when[candidate.id] and gate[1] != candidate.id]
        if passed:
            found[candidate.id] = min(passed)[1]
    return found


def _passed(candidate: Candidate, gates: Mapping[tuple[str, int, str], list[Gate]]) -> Iterator[Gate]:
    """Yield the earlier denials of the same processes on the path to this candidate."""
    seen = candidate.merged
    above = {place for path in seen.paths for place in _directories(path)}
    for pid in seen.pids:
        for place in above:
            yield from gates.get(("dir", pid, place), ())
        for exe in seen.exes:
            for gate in gates.get(("exec", pid, exe), ()):
                if gate[2] != candidate.target:
                    yield gate


def _directories(path: str) -> Iterator[str]:
    """Yield all parent directories of an absolute path, except the root."""
    end = path.find("/", 1)
    while end > 0:
        yield path[:end]
        end = path.find("/", end + 1)


def _gates(candidate: Candidate) -> list[tuple[str, str]]:
    paths = candidate.merged.paths
    if candidate.tclass == "dir" and {"search", "open", "read"} & set(candidate.permissions):
        return [("dir", path.rstrip("/")) for path in paths if path.startswith("/") and path.strip("/")]
    if candidate.tclass == "file" and "execute" in candidate.permissions:
        return [("exec", path) for path in paths if path.startswith("/")]
    return []


def walked(candidates: Sequence[Candidate]) -> frozenset[str]:
    """Return ids of candidates for directories on the way to another denial of the same event or below that directory."""
    found = {candidate.id for candidate in candidates if _went_on(candidate)}
    paths: dict[int, list[str]] = {}
    for candidate in candidates:
        absolute = [path for path in candidate.merged.paths if path.startswith("/")]
        for pid in candidate.merged.pids if absolute else ():
            paths.setdefault(pid, []).extend(absolute)
    for known in paths.values():
        known.sort()
    for candidate in candidates:
        if candidate.tclass == "dir" and "search" in candidate.permissions and candidate.id not in found:
            trees = [path.rstrip("/") + "/" for path in candidate.merged.paths if path.startswith("/")]
            if any(_has_below(paths.get(pid, ()), tree) for pid in candidate.merged.pids for tree in trees):
                found.add(candidate.id)
    return frozenset(found)


def _has_below(paths: Sequence[str], tree: str) -> bool:
    """Tell whether one of the sorted paths begins with ``tree``."""
    place = bisect_left(paths, tree)
    return place < len(paths) and paths[place].startswith(tree)


def _went_on(candidate: Candidate) -> bool:
    """Tell whether an event of the evidence contains a denial of more than a probe."""
    asked = (
        permission
        for sample in candidate.merged.samples
        for match in _ASKED.finditer(sample)
        for permission in match[1].split()
    )
    return any(permission not in ("search", "getattr") for permission in asked)


def moment(candidate: Candidate) -> Moment:
    """Return the time of the first sighting as (epoch seconds, serial)."""
    stamps = [
        (float(match[1]), int(match[2])) for sample in candidate.merged.samples for match in [_STAMP.search(sample)] if match
    ]
    return min([*stamps, (candidate.merged.first, 2**63)])
