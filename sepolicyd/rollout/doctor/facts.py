"""Facts about the machine that the doctor judges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Optional

OLDEST_PYTHON = (3, 9)


@dataclass(frozen=True)
class FileAccess:
    """Whether somebody may read a file: its own mode and that of each directory above it, nearest last.

    ``parts``: (path, mode, uid, gid) from / down to the file.
    """

    parts: tuple[tuple[str, int, int, int], ...]

    def blocked_at(self, uid: int, groups: Iterable[int]) -> str:
        """The first path on the way that this user may not pass or read, "" if all is well (root may do everything)."""
        gids = frozenset(groups)
        for index, (path, mode, owner, group) in enumerate(self.parts):
            bit = 4 if index == len(self.parts) - 1 else 1
            shift = 6 if owner == uid else 3 if group in gids else 0
            if uid != 0 and not mode >> shift & bit:
                return path
        return ""


@dataclass(frozen=True)
class MachineFacts:
    """What was seen on the machine; None where it could not be asked, which ``unasked`` says in words.

    ``services``: unit -> type of its main process, ``programs``: unit -> its program's path. ``permissive``: types permissive
    in the loaded policy, ``leased`` those that a lease of ours opened. ``auditctl``: the numbers of ``auditctl -s``.
    ``no_task_rules``: where a rule says that no process is audited. ``unlabeled``: paths of the system without a label.
    ``overdue``, ``broken_undo``: of leases.
    ``trial_problem``: why a trial that is over could not be ended. ``loads_refused``: secure_mode_policyload is on.
    """

    python: tuple[int, int] = OLDEST_PYTHON
    missing_tools: tuple[tuple[str, str], ...] = ()
    setools: str = "ok"  # ok, missing, other
    enabled: Optional[bool] = True
    enforcing: Optional[bool] = True
    configured: str = "enforcing"
    known_domains: Optional[tuple[str, ...]] = None
    unconfined_domains: tuple[str, ...] = ()
    permissive: frozenset[str] = frozenset()
    leased: frozenset[str] = frozenset()
    neveraudit: tuple[str, ...] = ()
    dontaudit_off: Optional[bool] = False
    hidden_lease: bool = False
    services: dict[str, str] = field(default_factory=dict)
    programs: dict[str, str] = field(default_factory=dict)
    auditd_active: Optional[bool] = True
    daemon_active: Optional[bool] = True
    log: str = "/var/log/audit/audit.log"
    log_present: bool = True
    log_blocked_at: Optional[str] = ""
    daemon_user: bool = True
    no_task_rules: tuple[str, ...] = ()
    auditctl: dict[str, int] = field(default_factory=dict)
    expand_check: str = "1"
    store_present: Optional[bool] = True
    store_locked_by: Optional[str] = None
    free: dict[str, int] = field(default_factory=dict)
    unlabeled: tuple[str, ...] = ()
    open_operations: int = 0
    overdue: tuple[str, ...] = ()
    broken_undo: tuple[str, ...] = ()
    timer_problem: Optional[str] = None
    trial_problem: str = ""
    loads_refused: Optional[bool] = False
    default_state: bool = True
    unasked: tuple[str, ...] = ()
