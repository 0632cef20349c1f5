"""Content of a report on one rollout: accesses with their decisions, versions, leases, and the reach of each domain.

Text from logs and persons is not escaped here but in the page (sepolicyd.report.page).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.rollout.learning.readiness import Readiness
from sepolicyd.rollout.stage import StageReport
from sepolicyd.state.decisions import Decision


class GrantState(str, Enum):
    """Whether the loaded module contains the accesses of a decision."""

    LOADED = "loaded"
    WAITING = "not loaded yet"
    WITHDRAWN = "decision withdrawn, still loaded"
    BY_HAND = "by hand, not checked"
    """A person has to do it: a setting of the application, or a rule of the base module."""

    @property
    def in_force(self) -> bool:
        """Whether the loaded module gives the access, with or without a decision."""
        return self in (GrantState.LOADED, GrantState.WITHDRAWN)

    def __str__(self) -> str:
        return self.value


class ObjectKind(str, Enum):
    """Kind of the target of an access, for display."""

    FILES = "files and directories"
    NETWORK = "network"
    PROCESSES = "processes and local sockets"
    SYSTEM = "system and services"

    def __str__(self) -> str:
        return self.value


_FILES = frozenset({"file", "dir", "filesystem", "anon_inode"})
_NETWORK = frozenset({"node", "netif", "packet", "peer", "association", "infiniband_pkey", "infiniband_endport"})
_PROCESSES = frozenset({"process", "process2", "fd", "key", "sem", "shm", "msg", "msgq", "ipc", "user_namespace", "memprotect"})


def object_kind(tclass: str) -> ObjectKind:
    """Return the kind of object of a class."""
    if tclass in _FILES or tclass.endswith("_file"):
        return ObjectKind.FILES
    if tclass in _PROCESSES or tclass.startswith(("unix_", "capability", "cap")):
        return ObjectKind.PROCESSES
    if tclass in _NETWORK or tclass.endswith("socket"):
        return ObjectKind.NETWORK
    return ObjectKind.SYSTEM


@dataclass(frozen=True)
class Grant:
    """Permissions of one source, target and class that one decision answers in one way."""

    source: str
    target: str
    tclass: str
    permissions: tuple[str, ...]
    decision: Optional[Decision]
    """None for a rule of the loaded module without a decision in force."""
    means: str = ""
    """Means other than a rule that gives the access: a boolean, a label, a setting of the application."""
    state: GrantState = GrantState.LOADED
    version: int = 0
    """Version of the module that introduced the rule, 0 for none."""


@dataclass(frozen=True)
class Pending:
    """Permissions of one source, target and class that were denied and wait for a decision."""

    source: str
    target: str
    tclass: str
    permissions: tuple[str, ...]
    count: int
    last: float
    """Epoch seconds."""


@dataclass(frozen=True)
class Change:
    """One entry of the history: an apply, a rollback, a return or a confirmation."""

    what: str
    who: str
    at: float
    """Epoch seconds."""
    version: int
    previous: int
    gained: tuple[Access, ...]
    """Accesses allowed only with this version, from the comparison of the linked policies."""
    lost: tuple[Access, ...]
    settings: tuple[str, ...]
    """Descriptions of the ports, booleans and labels of the version."""
    notes: tuple[str, ...]
    """Reason, overrides of the guard, base modules, and length of the trial."""
    policy: str = ""
    """SHA-256 of the linked policy, "" if it was not recorded."""


@dataclass(frozen=True)
class LeaseRecord:
    """One lease from its opening to its end. Times are epoch seconds."""

    id: str
    domains: tuple[str, ...]
    whole_system: bool
    hidden: bool
    by: str
    why: str
    opened: float
    deadline: float
    ended: Optional[float]
    """None while it is open."""
    how: str
    """Description of its end."""
    renewals: int = 0
    failures: int = 0
    """Number of failed attempts to end it."""
    marks: tuple[tuple[str, float], ...] = ()
    """Exercises with their beginning."""

    def seconds(self, now: float) -> float:
        """Return the length of the permissive period."""
        return max(0.0, (now if self.ended is None else self.ended) - self.opened)


@dataclass(frozen=True, order=True)
class Edge:
    """Accesses that a domain has gained on objects of one type."""

    target: str
    kinds: tuple[ObjectKind, ...]
    accesses: int
    widened: bool
    """Whether the domain reached the type before, with other permissions."""
    text: str
    """Classes and permissions."""


@dataclass(frozen=True)
class DomainReach:
    """Types that a domain reaches with the present policy, and the part that the module brought."""

    domain: str
    before: Mapping[ObjectKind, int]
    """Number of types reached without the module."""
    after: Mapping[ObjectKind, int]
    edges: tuple[Edge, ...]
    rules: tuple[tuple[ObjectKind, tuple[str, ...]], ...]
    """Rules of the policy without the module, attributes not expanded."""


@dataclass(frozen=True)
class Report:
    """Content of a report."""

    service: str
    description: str
    made: float
    """Epoch seconds."""
    host: str
    sepolicyd: str
    stage: StageReport
    module: str
    version: int
    policy: str
    """Description of the policy that was read."""
    policy_note: str
    """Reason why no policy was read, or a note that it changed after the last load; otherwise ""."""
    grants: tuple[Grant, ...]
    refusals: tuple[Grant, ...]
    silenced: tuple[Grant, ...]
    pending: tuple[Pending, ...]
    solved: int
    """Number of accesses that were denied and that the present policy allows."""
    changes: tuple[Change, ...]
    leases: tuple[LeaseRecord, ...]
    leases_note: str
    reach: tuple[DomainReach, ...]
    readiness: Readiness
    seen: int
    """Number of accesses in the evidence."""
    faults: tuple[str, ...]
    """Faults of the hash chains of history and leases."""
