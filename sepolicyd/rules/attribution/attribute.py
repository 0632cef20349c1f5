"""A scan in, the evidence of one service out: each sighting matched and folded into its accesses, or counted as foreign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from sepolicyd.access import Access
from sepolicyd.audit.scan.files import ScanResult
from sepolicyd.rules.candidate import fold
from sepolicyd.rules.evidence import Evidence, evidence_of

if TYPE_CHECKING:
    from sepolicyd.profiles import Profile


@dataclass(frozen=True)
class Attributed:
    """Evidence by access, and how many denials were not the service's."""

    evidence: dict[Access, Evidence]
    foreign: int


def attribute(result: ScanResult, profile: Optional[Profile]) -> Attributed:
    """Evidence of the sightings that are the profile's, or of all where there is no profile."""
    evidence: dict[Access, Evidence] = {}
    if profile is None:
        for sighting in result.sightings:
            fold(evidence, sighting.denial.accesses(), evidence_of(sighting))
        return Attributed(evidence, 0)
    from sepolicyd.rules.attribution.matcher import Matcher

    matcher = Matcher(profile)
    foreign = 0
    for sighting in result.sightings:
        match = matcher.match(sighting.denial)
        if match is None:
            foreign += sighting.count
            continue
        fold(evidence, sighting.denial.accesses(), evidence_of(sighting, role=match.role, reason=match.reason))
    return Attributed(evidence, foreign)
