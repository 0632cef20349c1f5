"""Attribute the denials of a scan to a service and collect the evidence. Used by the daemon and by `analyze`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.audit.model import Denial, Remainder, Tally
from sepolicyd.audit.scan.scan_files import ScanResult
from sepolicyd.rules.attribution.matcher_interface import DenialMatcher, Match
from sepolicyd.rules.evidence import Evidence, Gathering, merged_roles


@dataclass(frozen=True)
class Attributed:
    """Evidence of the service by access and role, and the number of other denials by source type."""

    by_role: Mapping[tuple[Access, str], Evidence]
    foreign: Mapping[str, int]
    matched: int
    """Number of messages."""

    @property
    def evidence(self) -> dict[Access, Evidence]:
        return merged_roles(self.by_role)


def attribute(result: ScanResult, matcher: Optional[DenialMatcher]) -> Attributed:
    """Return the evidence of the sightings that belong to the service, or of all sightings without a matcher."""
    gathering = Gathering()
    foreign: Counter[str] = Counter()
    matched = 0
    names: dict[_Place, dict[str, Optional[Match]]] = {}
    for sighting in sorted(result.sightings, key=lambda seen: seen.first):
        denial = sighting.denial
        match = _ALL if matcher is None else matcher.match(denial)
        if match is None:
            foreign[denial.scontext.type] += sighting.count
        else:
            matched += sighting.count
            gathering.add(sighting, role=match.role, reason=match.reason)
        names.setdefault(_place(denial), {}).setdefault(denial.comm, match)
    for remainder in result.remainders:
        for share in _shares(remainder, matcher, names[_place(remainder.example)]):
            if share.match is None:
                foreign[remainder.example.scontext.type] += share.count
            else:
                matched += share.count
                gathering.add_remainder(remainder, share.tallies, role=share.match.role, reason=share.match.reason)
    return Attributed(gathering.by_role(), foreign, matched)


_ALL = Match("", "")
_Place = tuple[str, str, str, str, str, str]


def _place(denial: Denial) -> _Place:
    """Return the fields that all sightings of a remainder have in common."""
    source, target = denial.scontext, denial.tcontext
    return (denial.kind.value, denial.event.node, source.type, source.role, f"{target.role}:{target.type}", denial.tclass)


@dataclass(frozen=True)
class _Share:
    match: Optional[Match]
    count: int
    tallies: Mapping[str, Tally]


def _shares(remainder: Remainder, matcher: Optional[DenialMatcher], names: Mapping[str, Optional[Match]]) -> list[_Share]:
    """Divide a remainder among the roles of the processes in it, in proportion to their messages.

    A process name with a kept sighting has the role of that sighting. Every role gets a share, because an access that user code
    also requests is assessed as user code's; the role with the most messages gets the rounding remainder.
    """
    if matcher is None:
        return [_Share(_ALL, remainder.count, remainder.tallies)]
    weights: Counter[Optional[str]] = Counter()
    matches: dict[Optional[str], Optional[Match]] = {}
    for comm, messages in remainder.comms or (("", 1),):
        match = names[comm] if comm in names else matcher.match_comm(remainder.example, comm)
        role = None if match is None else match.role
        weights[role] += messages
        matches.setdefault(role, match)
    if len(weights) == 1:
        return [_Share(next(iter(matches.values())), remainder.count, remainder.tallies)]
    return _divided(remainder, weights, matches)


def _divided(
    remainder: Remainder, weights: Counter[Optional[str]], matches: Mapping[Optional[str], Optional[Match]]
) -> list[_Share]:
    total = sum(weights.values())
    left, count_left = dict(remainder.tallies), remainder.count
    shares = []
    (most, _), *others = weights.most_common()
    for role, weight in others:
        part = {name: _part(tally, weight, total) for name, tally in remainder.tallies.items()}
        part = {name: tally for name, tally in part.items() if tally.count < left[name].count}
        for name, tally in part.items():
            left[name] = replace(
                left[name], count=left[name].count - tally.count, enforced=max(0, left[name].enforced - tally.enforced)
            )
        count = min(count_left, max(1, remainder.count * weight // total))
        count_left -= count
        shares.append(_Share(matches[role], count, part))
    return [_Share(matches[most], count_left, left), *shares]


def _part(tally: Tally, weight: int, total: int) -> Tally:
    count = max(1, tally.count * weight // total)
    return replace(tally, count=count, enforced=min(count, tally.enforced * weight // total))
