"""Audit lines as the kernel writes them, and the path from lines to assessed candidates."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional

from sepolicyd import profiles
from sepolicyd.access import Access
from sepolicyd.audit.model import Denial, Sighting
from sepolicyd.audit.parse.denial import denials_of, denials_of_line
from sepolicyd.audit.parse.record import Record, parse
from sepolicyd.audit.scan.scan_files import scan_files
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import Labels
from sepolicyd.rules.assess.assess import Assessed, assess
from sepolicyd.rules.attribution.gather_evidence import attribute
from sepolicyd.rules.attribution.matcher import Matcher
from sepolicyd.rules.candidate import Candidate, group
from sepolicyd.rules.evidence import Evidence, Gathering
from sepolicyd.rules.guard.guard import Guard, load_guard
from tests.audit.scan.assembler import Assembler
from tests.paths import DATA, ROOT

POLICIES = ROOT / "policies"
CAPTURED = DATA / "jupyterhub"
PROFILE = profiles.load("jupyterhub", [POLICIES])
GUARD: Guard = load_guard([POLICIES])


def line(
    permissions: str, source: str, target: str, tclass: str, *, serial: int = 100, time: float = 1795373100.0, **keys: Any
) -> str:
    """``type=AVC ...``; keys become comm="..." path="..." and so on, permissive=1 unless given."""
    permissive = keys.pop("permissive", 1)
    scontext = keys.pop("scontext", f"system_u:system_r:{source}:s0")
    role = (
        "system_r"
        if tclass in ("process", "capability", "capability2", "fd", "dbus") or tclass.endswith("_socket")
        else "object_r"
    )
    tcontext = keys.pop("tcontext", f"system_u:{role}:{target}:s0")
    if tclass.endswith("_socket") and target.endswith("port_t"):
        tcontext = f"system_u:object_r:{target}:s0"
    quoted = {"comm", "exe", "path", "name", "dev"}
    said = " ".join(f'{key}="{value}"' if key in quoted else f"{key}={value}" for key, value in keys.items())
    return (
        f"type=AVC msg=audit({time:.3f}:{serial}): avc:  denied  {{ {permissions} }} for  {said} "
        f"scontext={scontext} tcontext={tcontext} tclass={tclass} permissive={permissive}"
    )


def denial(text: str) -> Denial:
    found = denials_of_line(text).denials
    assert len(found) == 1, text
    return found[0]


def evidence_of(sighting: Sighting, *, role: str = "", reason: str = "") -> Evidence:
    """The evidence that one sighting is, for any of its accesses."""
    gathering = Gathering()
    gathering.add(sighting, role=role, reason=reason)
    return next(iter(gathering.by_role().values()))


def fold(evidence: dict[Access, Evidence], accesses: Iterable[Access], seen: Evidence) -> dict[Access, Evidence]:
    """Add one sighting's evidence to each of its accesses, in place."""
    for access in accesses:
        old = evidence.get(access)
        evidence[access] = seen if old is None else old.merge(seen)
    return evidence


def evidence_from(lines: Iterable[str], role: str = "") -> dict[Any, Evidence]:
    """Evidence without the profile's filter."""
    evidence: dict[Any, Evidence] = {}
    for text in lines:
        one = denial(text)
        fold(evidence, one.accesses(), evidence_of(Sighting(one, 1, one.time, one.time), role=role, reason="test"))
    return evidence


def candidates_from(lines: Iterable[str], role: str = "") -> list[Candidate]:
    evidence = evidence_from(lines, role)
    return group(evidence, GUARD.facets(evidence, PROFILE))


def judge(
    lines: Sequence[str], policy_index: Optional[PolicyIndex], labels: Optional[Labels] = None, *, role: str = "", **more: Any
) -> list[Assessed]:
    return assess(candidates_from(lines, role), profile=PROFILE, guard=GUARD, policy_index=policy_index, labels=labels, **more)


def one(
    lines: Sequence[str], policy_index: Optional[PolicyIndex], labels: Optional[Labels] = None, *, role: str = ""
) -> Assessed:
    found = judge(lines, policy_index, labels, role=role)
    assert len(found) == 1, [str(item.candidate.accesses) for item in found]
    return found[0]


def captured(number: str) -> Path:
    (path,) = CAPTURED.glob(f"{number}-*")
    return path


@lru_cache(maxsize=8)
def denials_of_log(path: Path) -> list[Denial]:
    """Every denial of a log by itself: scan_files counts those that are alike together, and keeps the first one's process."""
    assembler, events = Assembler(), []
    data = path.read_bytes()
    for number, text in enumerate((gzip.decompress(data) if path.suffix == ".gz" else data).splitlines(), 1):
        record = parse(text, number)
        if isinstance(record, Record):
            events.extend(assembler.feed(record))
    events.extend(assembler.flush())
    return [found for event in events for found in denials_of(event).denials]


def matched(path: Path) -> list[tuple[Denial, Any]]:
    """Every denial of a log in its order, with the match or None."""
    matcher = Matcher(PROFILE)
    return [
        (found, matcher.match(found)) for found in sorted(denials_of_log(path), key=lambda one: (one.time, one.event.serial))
    ]


@lru_cache(maxsize=8)
def evidence_of_log(path: Path) -> dict[Any, Evidence]:
    return attribute(scan_files([path]), Matcher(PROFILE)).evidence
