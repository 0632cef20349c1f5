"""Facts about the whole machine for the baseline checks. None stands for what could not be examined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional


@dataclass(frozen=True)
class OpenLease:
    """An open lease, as far as a baseline is concerned."""

    profile: str
    domains: frozenset[str]
    """Permissive types; empty if the whole machine is permissive."""
    hidden: bool
    """dontaudit rules are off for it."""
    deadline: float
    """Epoch seconds."""
    by: str
    why: str
    overdue: bool
    """Past its deadline: it covers nothing any more."""


@dataclass(frozen=True, order=True)
class ServiceProcess:
    """A process of a unit of the system."""

    unit: str
    """"" for a process that belongs to no unit."""
    pid: int
    comm: str
    """The name that the process gave itself: escape it before display."""
    domain: str
    oneshot: bool = False
    """The unit is a job with an end (Type=oneshot), not a daemon."""


@dataclass(frozen=True)
class BaselineFacts:
    """What the checks judge."""

    enabled: bool = True
    enforcing: Optional[bool] = True
    configured: str = "enforcing"
    """SELINUX= of /etc/selinux/config."""
    boot_options: tuple[str, ...] = ()
    """Words of the kernel's command line that switch SELinux off or make it permissive."""
    permissive: Optional[frozenset[str]] = frozenset()
    """Permissive types of the loaded policy."""
    booted: Optional[frozenset[str]] = frozenset()
    """Permissive types of the policy that the next boot loads."""
    removable: frozenset[str] = frozenset()
    """Types that `semanage permissive -a` made permissive."""
    leases: Optional[tuple[OpenLease, ...]] = ()
    processes: Optional[tuple[ServiceProcess, ...]] = ()
    """Processes of system units, and all that run in a domain for services without a policy."""
    unconfined: Optional[frozenset[str]] = frozenset()
    """Those domains of ``processes`` to which the policy allows everything."""
    neveraudit: Optional[frozenset[str]] = frozenset()
    dontaudit_off: Optional[bool] = False
    auditd_active: Optional[bool] = True
    auditd_enabled: Optional[bool] = True
    audit_status: Optional[Mapping[str, int]] = field(default_factory=lambda: {"enabled": 1, "pid": 1})
    """The numbers of ``auditctl -s``."""
    no_task_rules: tuple[str, ...] = ()
    """Where an audit rule excludes every process."""
    problems: tuple[str, ...] = ()
    """Why something could not be examined."""
