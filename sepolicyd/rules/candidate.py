"""Group accesses into candidates, with ids that do not depend on host or order."""

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
    """Accesses of one source, target and class (and facet), with the evidence of each.

    ``facet`` separates accesses of the same triple that need different answers (by the guard's level); it is the same on all
    hosts.
    """

    source: str
    target: str
    tclass: str
    facet: str
    evidence: Mapping[Access, Evidence]

    @cached_property
    def id(self) -> str:
        """The id, independent of restarts, order and host, and of permissions added to the group later."""
        text = "\0".join((self.source, self.target, self.tclass, self.facet))
        return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]

    @property
    def revision(self) -> str:
        """A hash of the requested accesses: ``approve ID@REVISION`` refuses a candidate that has changed."""
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
    """Return the candidates of all accesses, sorted by source, target, class and facet.

    :param facets: the facets of accesses, "" for missing ones
    """
    groups: dict[tuple[str, str, str, str], dict[Access, Evidence]] = {}
    for access, seen in evidence.items():
        groups.setdefault((*access.group, facets.get(access, "")), {})[access] = seen
    return [Candidate(*key, evidence=groups[key]) for key in sorted(groups)]
