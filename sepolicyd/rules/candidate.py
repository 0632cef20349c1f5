"""Group accesses into candidates with ids that do not depend on host or order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from sepolicyd.access import Access
from sepolicyd.rules.evidence import Evidence, merge_all

ID_LENGTH = 10


@dataclass(frozen=True)
class Candidate:
    """One question: accesses of one source, target and class (and facet) with the evidence of each.

    ``facet`` separates accesses of the same triple that need different answers (the guard's level); it is host-free.
    """

    source: str
    target: str
    tclass: str
    facet: str
    evidence: Mapping[Access, Evidence]

    @cached_property
    def id(self) -> str:
        """Stable over restarts, order and hosts; the same for a permission that joins the group later."""
        text = "\0".join((self.source, self.target, self.tclass, self.facet))
        return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]

    @property
    def revision(self) -> str:
        """Changes with the accesses asked: ``approve ID@REVISION`` refuses when the question is another one by now."""
        text = "\n".join(sorted(str(access) for access in self.evidence))
        return hashlib.sha256(text.encode()).hexdigest()[:4]

    @cached_property
    def accesses(self) -> tuple[Access, ...]:
        return tuple(sorted(self.evidence))

    @property
    def permissions(self) -> tuple[str, ...]:
        return tuple(sorted({access.permission for access in self.evidence}))

    @cached_property
    def merged(self) -> Evidence:
        return merge_all(self.evidence.values())


def group(evidence: Mapping[Access, Evidence], facets: Mapping[Access, str]) -> list[Candidate]:
    """Candidates of all accesses, sorted by source, target, class and facet.

    :param facets: the facet of an access, "" where it is missing
    """
    groups: dict[tuple[str, str, str, str], dict[Access, Evidence]] = {}
    for access, seen in evidence.items():
        groups.setdefault((*access.group, facets.get(access, "")), {})[access] = seen
    return [Candidate(*key, evidence=groups[key]) for key in sorted(groups)]
