"""Merge the exports of many hosts into one evidence. An access is common only if several hosts report it.

A hostile host can write anything into its export. Claims of a single host are therefore kept apart: an access becomes a
separate question, and a detail of a common access (a path, a port, an ioctl number) is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sepolicyd.access import Access
from sepolicyd.audit.model import Tally
from sepolicyd.fleet.host_export import HostExport, PolicyIdentity
from sepolicyd.rules.evidence import MAX_KEPT, Evidence

COMMON = 2
"""Number of hosts that make an access common."""
MAX_DETAILS = 256
"""Limit of different values of one detail of an access; further values are dropped."""


@dataclass(frozen=True)
class MergedEvidence:
    """Evidence of the hosts of one profile and one base policy."""

    profile: str
    policy: PolicyIdentity
    hosts: tuple[str, ...]
    evidence: Mapping[tuple[Access, str], Evidence]
    """By access and role; Evidence.hosts counts the hosts of the access in any role (0 in a merge of one host)."""
    claimed_by: Mapping[Access, str]
    """Accesses that only one host reports, with that host. Empty in a merge of one host."""
    taints: tuple[str, ...]

    @property
    def counts(self) -> dict[Access, int]:
        """The number of hosts that report each access."""
        return {access: seen.hosts for (access, _), seen in self.evidence.items()}


@dataclass
class _Row:
    """Evidence of one access and role during the merge."""

    hosts: int = 0
    tally: Tally = field(default_factory=lambda: Tally(0, 0, 0.0, 0.0))
    details: dict[str, Counter[Any]] = field(default_factory=dict)

    def add(self, seen: Evidence) -> None:
        self.hosts += 1
        old = self.tally
        self.tally = Tally(
            old.count + seen.count,
            old.enforced + seen.enforced,
            min((one for one in (old.first, seen.first) if one), default=0.0),
            max(old.last, seen.last),
        )
        for name in _DETAILS:
            values = getattr(seen, name)
            if values:
                found = self.details.setdefault(name, Counter())
                found.update(value for value in values if value in found or len(found) < MAX_DETAILS)

    def evidence(self, hosts: int) -> Evidence:
        """Return the merged evidence.

        :param hosts: number of hosts that report the access
        """
        least = COMMON if hosts >= COMMON else 1
        kept: dict[str, Any] = {
            name: tuple(sorted(value for value, count in found.items() if count >= least)[:MAX_KEPT])
            for name, found in self.details.items()
        }
        tally = self.tally
        return replace(
            Evidence(**kept),
            count=tally.count, enforced=tally.enforced, first=tally.first, last=tally.last, hosts=hosts,
        )  # fmt: skip


# Samples, times, processes and nodes belong to one host and prove nothing for another.
_DETAILS = tuple(
    spec.name
    for spec in fields(Evidence)
    if spec.name not in ("count", "first", "last", "enforced", "samples", "hosts", "times", "pids", "nodes")
)


class Merger:
    """Merge of the exports of one profile and base policy; exports are added one at a time and not kept."""

    def __init__(self, profile: str, policy: PolicyIdentity) -> None:
        self.profile = profile
        self.policy = policy
        self.hosts: list[str] = []
        self._rows: dict[tuple[Access, str], _Row] = {}
        self._counts: Counter[Access] = Counter()
        self._first_host: dict[Access, str] = {}
        self._taints: Counter[str] = Counter()

    def add(self, export: HostExport) -> None:
        self.hosts.append(export.host)
        for key, seen in export.evidence.items():
            row = self._rows.get(key)
            if row is None:
                row = self._rows[key] = _Row()
            row.add(seen)
        for access in {access for access, _ in export.evidence}:
            self._counts[access] += 1
            self._first_host.setdefault(access, export.host)
        self._taints.update(set(export.taints))

    def merged(self) -> MergedEvidence:
        several = len(self.hosts) >= COMMON
        common_role = {access for (access, _), row in self._rows.items() if row.hosts >= COMMON}
        evidence = {}
        for (access, role), row in sorted(self._rows.items()):
            count = self._counts[access]
            # a role that only one host reports for a common access would change the owner of the access
            if count < COMMON or row.hosts >= COMMON or access not in common_role:
                evidence[access, role] = row.evidence(count if several else 0)
        alone = {access: self._first_host[access] for access, count in sorted(self._counts.items()) if count < COMMON}
        taints = tuple(f"{text} (on {count} of {len(self.hosts)} hosts)" for text, count in sorted(self._taints.items()))
        return MergedEvidence(
            self.profile, self.policy, tuple(sorted(self.hosts)), evidence, alone if several else {}, taints
        )  # fmt: skip
