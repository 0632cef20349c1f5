"""Candidates in, consequences out: what was reached only because permissive let the process walk past an earlier denial."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sepolicyd.rules.candidate import Candidate

_STAMP = re.compile(r"audit\((\d+\.\d+):(\d+)\)")
_ASKED = re.compile(r"avc:\s+denied\s+\{([^{}]*)\}")
WAYS = frozenset({"search", "open", "read", "execute"})
Moment = tuple[float, int]


def cascades(candidates: Sequence[Candidate], common: frozenset[str] = frozenset()) -> dict[str, str]:
    """Candidate id -> id of the earlier denial without whose being let through it would not have happened.

    By process and serial: an earlier event of the same pid was denied the search of a directory above this path, or the
    execution of the program that asked. Only where all evidence of both is permissive; the first of several is named.

    :param common: ids of candidates that are no gate, because nearly every domain may do what they ask
    """
    merged = {candidate.id: candidate.merged for candidate in candidates}
    open_only = [candidate for candidate in candidates if not merged[candidate.id].enforced]
    gates: dict[int, list[tuple[Moment, str, str, Candidate]]] = {}
    for candidate in open_only:
        if candidate.id in common or not WAYS & set(candidate.permissions):
            continue
        seen = merged[candidate.id]
        for kind, place in _gates(candidate):
            for pid in seen.pids:
                gates.setdefault(pid, []).append((moment(candidate), kind, place, candidate))
    found: dict[str, str] = {}
    for candidate in open_only:
        seen, when = merged[candidate.id], moment(candidate)
        passed = sorted(
            (gate for pid in seen.pids for gate in gates.get(pid, ()) if gate[0] < when and gate[3].id != candidate.id),
            key=lambda gate: gate[0],
        )
        for _, kind, place, gate in passed:
            if kind == "exec" and place in seen.exes and candidate.target != gate.target:
                found[candidate.id] = gate.id
                break
            if kind == "dir" and any(path.startswith(place.rstrip("/") + "/") for path in seen.paths):
                found[candidate.id] = gate.id
                break
    return found


def _gates(candidate: Candidate) -> list[tuple[str, str]]:
    paths = candidate.merged.paths
    if candidate.tclass == "dir" and {"search", "open", "read"} & set(candidate.permissions):
        return [("dir", path) for path in paths if path.startswith("/") and path != "/"]
    if candidate.tclass == "file" and "execute" in candidate.permissions:
        return [("exec", path) for path in paths if path.startswith("/")]
    return []


def walked(candidates: Sequence[Candidate]) -> frozenset[str]:
    """Ids of candidates that were on the way to something: in the same event, or by the same process under that directory."""
    found = {candidate.id for candidate in candidates if _went_on(candidate)}
    places: list[tuple[frozenset[int], str]] = []
    for candidate in candidates:
        seen = candidate.merged
        places.extend((frozenset(seen.pids), path) for path in seen.paths if path.startswith("/"))
    for candidate in candidates:
        if candidate.tclass != "dir" or "search" not in candidate.permissions or candidate.id in found:
            continue
        seen = candidate.merged
        pids = frozenset(seen.pids)
        trees = tuple(path.rstrip("/") + "/" for path in seen.paths if path.startswith("/"))
        if trees and any(path.startswith(trees) and pids & others for others, path in places):
            found.add(candidate.id)
    return frozenset(found)


def _went_on(candidate: Candidate) -> bool:
    """Whether an event of the evidence holds a denial of more than a look."""
    asked = (
        permission
        for sample in candidate.merged.samples
        for match in _ASKED.finditer(sample)
        for permission in match[1].split()
    )
    return any(permission not in ("search", "getattr") for permission in asked)


def moment(candidate: Candidate) -> Moment:
    """When it was first seen: (epoch seconds, serial)."""
    stamps = [
        (float(match[1]), int(match[2])) for sample in candidate.merged.samples for match in [_STAMP.search(sample)] if match
    ]
    return min([*stamps, (candidate.merged.first, 2**63)])
