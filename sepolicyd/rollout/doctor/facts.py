"""Facts about the machine that the doctor checks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Optional

OLDEST_PYTHON = (3, 9)


@dataclass(frozen=True)
class FileAccess:
    """Mode and owner of a file and of its parent directories, which determine who may read it."""

    parts: tuple[tuple[str, int, int, int], ...]
    """(path, mode, uid, gid) from / down to the file."""

    def blocked_at(self, uid: int, groups: Iterable[int]) -> str:
        """Return the first path component that this user may not search or read, "" if there is none."""
        gids = frozenset(groups)
        for index, (path, mode, owner, group) in enumerate(self.parts):
            bit = 4 if index == len(self.parts) - 1 else 1
            shift = 6 if owner == uid else 3 if group in gids else 0
            if uid != 0 and not mode >> shift & bit:
                return path
        return ""


@dataclass(frozen=True)
class MachineFacts:
    """Facts about the machine. None means that a fact could not be examined; ``unasked`` has the reason."""

    python: tuple[int, int] = OLDEST_PYTHON
    missing_tools: tuple[tuple[str, str], ...] = ()
    """(tool, package that has it)."""
    setools: str = "ok"  # ok, missing, other
    enabled: Optional[bool] = True
    enforcing: Optional[bool] = True
    configured: str = "enforcing"
    known_domains: Optional[tuple[str, ...]] = None
    unconfined_domains: tuple[str, ...] = ()
    permissive: frozenset[str] = frozenset()
    """Types that are permissive in the loaded policy."""
    stored: Optional[frozenset[str]] = None
    """Types that are permissive in the policy that the store built last."""
    booted: Optional[frozenset[str]] = None
    """Types that are permissive in the boot policy (in any file that the next boot may load)."""
    boot_differs: Optional[bool] = False
    """The boot policy differs from the policy that the store built."""
    removable: Optional[frozenset[str]] = None
    """Types made permissive by `semanage permissive -a`, which `-d` can revert."""
    leased: frozenset[str] = frozenset()
    """Types that a lease opened."""
    neveraudit: tuple[str, ...] = ()
    dontaudit_off: Optional[bool] = False
    hidden_lease: bool = False
    services: dict[str, str] = field(default_factory=dict)
    """Unit to the type of its main process."""
    programs: dict[str, str] = field(default_factory=dict)
    """Unit to the path of its program."""
    auditd_active: Optional[bool] = True
    daemon_active: Optional[bool] = True
    log: str = "/var/log/audit/audit.log"
    log_present: bool = True
    log_blocked_at: Optional[str] = ""
    daemon_user: bool = True
    no_task_rules: tuple[str, ...] = ()
    """The places of audit rules that exclude every process."""
    auditctl: dict[str, int] = field(default_factory=dict)
    """The numbers of ``auditctl -s``."""
    expand_check: str = "1"
    store_present: Optional[bool] = True
    store_locked_by: Optional[str] = None
    free: dict[str, int] = field(default_factory=dict)
    """Path to free bytes."""
    unlabeled: tuple[str, ...] = ()
    """System paths without a label."""
    open_operations: int = 0
    overdue: tuple[str, ...] = ()
    """Profiles whose lease is past its deadline."""
    broken_undo: tuple[str, ...] = ()
    """Lease records that cannot be read."""
    timer_problem: Optional[str] = None
    trial_problem: str = ""
    """The reason why an expired trial could not be ended."""
    loads_refused: Optional[bool] = False
    """secure_mode_policyload is on or pending."""
    default_state: bool = True
    unasked: tuple[str, ...] = ()
