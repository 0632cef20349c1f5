"""The values that leave this room: contexts, denials and what else the kernel's AVC messages said."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Optional

from sepolicyd.access import Access


@dataclass(frozen=True)
class Context:
    """A security context ``user:role:type[:range]``; the range keeps its own colons and commas (s0-s15:c0.c1023)."""

    user: str
    role: str
    type: str
    range: str = ""

    @classmethod
    def parse(cls, text: str) -> Optional[Context]:
        """The context in ``text``, or None where it has not three parts (a translated or cut context)."""
        parts = text.split(":", 3)
        if len(parts) < 3 or not all(parts[:3]):
            return None
        return cls(parts[0], parts[1], parts[2], parts[3] if len(parts) == 4 else "")

    def __str__(self) -> str:
        return ":".join(part for part in (self.user, self.role, self.type, self.range) if part)


class Kind(str, Enum):
    """Who reported it: the kernel, a user-space object manager (dbus, systemd), or the kernel's security server."""

    AVC = "AVC"
    USER_AVC = "USER_AVC"
    SELINUX_ERR = "SELINUX_ERR"


class Verdict(str, Enum):
    DENIED = "denied"
    GRANTED = "granted"


@dataclass(frozen=True)
class EventId:
    """What joins records to an event: node ("" when not logged), time as the log wrote it ("1795373145.784"), serial."""

    node: str = ""
    time: str = ""
    serial: int = 0

    @property
    def seconds(self) -> float:
        """Epoch seconds; 0.0 where the log gave no time."""
        try:
            return float(self.time)
        except ValueError:
            return 0.0


@dataclass(frozen=True)
class Denial:
    """One AVC message with what the other records of its event add. All text is decoded (hex values) and NOT escaped.

    ``permissions`` in the order of the log; ``permissive`` None where the record does not say (old kernels).
    ``path`` is the fullest path known (AVC path=, else PATH/CWD name), ``name`` the last component from the AVC.
    ``ports``: (key, number) of src, dest, lport, fport. ``raw``: the AVC line first, then the event's other lines.
    """

    event: EventId
    kind: Kind
    verdict: Verdict
    scontext: Context
    tcontext: Context
    tclass: str
    permissions: tuple[str, ...]
    permissive: Optional[bool] = None
    pid: Optional[int] = None
    ppid: Optional[int] = None
    comm: str = ""
    exe: str = ""
    path: str = ""
    name: str = ""
    dev: str = ""
    ino: str = ""
    ioctlcmd: Optional[int] = None
    ports: tuple[tuple[str, int], ...] = ()
    syscall: str = ""
    success: Optional[bool] = None
    auid: str = ""
    uid: str = ""
    cgroup: str = ""
    proctitle: str = ""
    srawcon: str = ""
    trawcon: str = ""
    # everything else of the AVC message that somebody may ask for: capability, kmod, netif, member, interface, service ...
    extra: tuple[tuple[str, str], ...] = ()
    raw: tuple[str, ...] = field(default=(), compare=False)

    @property
    def time(self) -> float:
        return self.event.seconds

    def accesses(self) -> tuple[Access, ...]:
        return tuple(
            Access.of(self.scontext.type, self.tcontext.type, self.tclass, permission) for permission in self.permissions
        )


@dataclass(frozen=True)
class Sighting:
    """A denial seen ``count`` times between ``first`` and ``last`` (epoch seconds), alike in all that a person would ask.

    The unit that scan and follow hand on, so that a flood costs memory per distinct access and not per event.
    """

    denial: Denial
    count: int = 1
    first: float = 0.0
    last: float = 0.0


@dataclass(frozen=True)
class Unparsed:
    """A line that holds the mark of a denial (``avc:`` or an SELINUX_ERR) and could not be read; never dropped silently."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True)
class SelinuxError:
    """An SELINUX_ERR that carries no access: an invalid context, a bounded or a validated transition that was refused.

    ``operation`` as in security/selinux/ss/services.c: security_compute_sid, security_bounded_transition,
    security_validate_transition, security_sid_mls_copy; ``invalid_context`` is the one that a role or range forbids.
    """

    event: EventId
    operation: str
    reason: str = ""
    invalid_context: Optional[Context] = None
    scontext: Optional[Context] = None
    tcontext: Optional[Context] = None
    oldcontext: Optional[Context] = None
    newcontext: Optional[Context] = None
    taskcontext: Optional[Context] = None
    tclass: str = ""
    comm: str = ""
    exe: str = ""
    raw: tuple[str, ...] = field(default=(), compare=False)


class LogEventKind(str, Enum):
    """What the log says besides accesses. The values are stored in evidence.db: never change one."""

    POLICY_LOAD = "policyload"
    SET_ENFORCING = "setenforce-1"
    SET_PERMISSIVE = "setenforce-0"
    SWITCHED = "setenforce"
    """Enforcing was switched and the record does not say in which direction (a user-space AVC notice)."""
    LOST = "lost"
    """The kernel reported lost or rate-limited events."""
    GAP = "gap"
    """Lines were rotated away or cut off before they were read."""
    DAMAGED = "damaged"
    """A compressed log ended before its end, or is corrupt."""
    UNREADABLE = "unreadable"
    AUDITD = "auditd"
    """auditd started, stopped, or reported an error of its own."""
    OTHER = "other"

    @property
    def is_switch(self) -> bool:
        """Whether enforcing mode was switched on or off."""
        return self in _SWITCHES

    @property
    def is_loss(self) -> bool:
        """Whether events may be missing from the evidence."""
        return self in _LOSSES


_SWITCHES = frozenset({LogEventKind.SET_ENFORCING, LogEventKind.SET_PERMISSIVE, LogEventKind.SWITCHED})
_LOSSES = frozenset({LogEventKind.LOST, LogEventKind.GAP, LogEventKind.DAMAGED, LogEventKind.AUDITD})


@dataclass(frozen=True)
class Notice:
    """A message that carries no access: a policy load, a switch of enforcing mode, or another notice (LogEventKind.OTHER)."""

    event: EventId
    type: str
    kind: LogEventKind
    text: str = field(default="", compare=False)
