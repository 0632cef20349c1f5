"""Data model of the audit package: contexts, denials, and other content of audit records."""

from __future__ import annotations

from collections.abc import Mapping
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
        """Parse a context; None if it has fewer than three parts (a translated or truncated context)."""
        parts = text.split(":", 3)
        if len(parts) < 3 or not all(parts[:3]):
            return None
        return cls(parts[0], parts[1], parts[2], parts[3] if len(parts) == 4 else "")

    def __str__(self) -> str:
        return ":".join(part for part in (self.user, self.role, self.type, self.range) if part)


class Kind(str, Enum):
    """The reporter of a denial: the kernel, a user-space object manager (dbus, systemd), or the kernel's security server."""

    AVC = "AVC"
    USER_AVC = "USER_AVC"
    SELINUX_ERR = "SELINUX_ERR"


class AvcDecision(str, Enum):
    DENIED = "denied"
    GRANTED = "granted"


@dataclass(frozen=True)
class EventId:
    """Identity of an event: node ("" if not logged), time as text ("1795373145.784"), and serial."""

    node: str = ""
    time: str = ""
    serial: int = 0

    @property
    def seconds(self) -> float:
        """Epoch seconds; 0.0 if the log contains no time."""
        try:
            return float(self.time)
        except ValueError:
            return 0.0


@dataclass(frozen=True)
class Denial:
    """One AVC message, enriched by the other records of its event. All text is decoded (hex values) and NOT escaped.

    - ``permissions``: in the order of the log
    - ``permissive``: None if the record does not contain it (old kernels)
    - ``path``: the most complete path known (path= of the AVC, else PATH and CWD); ``name``: the last component from the AVC
    - ``ports``: (key, number) of src, dest, lport, fport
    - ``raw``: the AVC line, followed by the event's other lines
    """

    event: EventId
    kind: Kind
    verdict: AvcDecision
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
    # other fields of the AVC message: capability, kmod, netif, member, interface, service ...
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
    """A denial with the records of its event, and the number of similar denials between ``first`` and ``last``.

    Similar denials differ only in time, process id, inode and categories.
    """

    denial: Denial
    count: int = 1
    first: float = 0.0
    """Epoch seconds, like ``last``."""
    last: float = 0.0


@dataclass(frozen=True)
class Tally:
    """Counts of a permission: all denials, those actually enforced, and the time span (epoch seconds)."""

    count: int
    enforced: int
    first: float
    last: float


@dataclass(frozen=True)
class Remainder:
    """Denials of one source, target and class beyond the individually kept sightings, counted per permission."""

    example: Denial
    """One of the sightings; contexts, class and kind are the same for all."""
    count: int
    """Number of messages; one message may deny several permissions."""
    tallies: Mapping[str, Tally]
    comms: tuple[tuple[str, int], ...] = ()
    """Number of messages by process name, for the first names seen."""
    ports: tuple[tuple[str, int], ...] = ()
    ioctls: tuple[int, ...] = ()


class UnparsedReason(str, Enum):
    """Reason why a line that announces a denial could not be read. Stored in evidence.db: never change a value."""

    NO_HEADER = "no record header at the beginning of the line"
    TOO_LONG = "longer than any record of the kernel or of auditd"
    NO_MESSAGE = "an AVC record without avc:"
    NO_DECISION = "neither denied nor granted after avc:"
    NO_PERMISSION = "no permission between the braces"
    NO_FIELD = "a field is missing"
    BAD_NAME = "a name that no policy can hold"
    BAD_CONTEXT = "not a context of the form user:role:type"
    BAD_CLASS = "class name is cut"
    CUT = "the record is cut"
    BROKEN = "a value is broken in two"
    SPLIT_PERMISSION = "a permission is split by the end of a line"
    UNKNOWN_ERROR = "SELINUX_ERR in no known wording"
    NOT_RAW = "a report without the record itself"
    DAMAGED = "the file is damaged"
    CONTEXTS_TWICE = "scontext=, tcontext= or tclass= stands more than once"
    SEPARATOR_INSIDE = "the separator of enriched logs (0x1d) inside a message"
    MESSAGE_CUT = "the message fills the sender's buffer of 1024 bytes and is cut"
    UNKNOWN_SENDER = "no object manager in user space writes such a message"
    FORGED_TRANSPORT = "a journal entry that neither the kernel nor the audit system wrote"

    IMITATION = "a value imitates a record: it was read as a value, and the line as what it is"

    @property
    def is_attempt(self) -> bool:
        """Whether such lines result from a process that tries to inject records or contexts through its names."""
        return self in _ATTEMPTS


_ATTEMPTS = frozenset(
    {
        UnparsedReason.TOO_LONG,
        UnparsedReason.CONTEXTS_TWICE,
        UnparsedReason.SEPARATOR_INSIDE,
        UnparsedReason.MESSAGE_CUT,
        UnparsedReason.UNKNOWN_SENDER,
        UnparsedReason.FORGED_TRANSPORT,
        UnparsedReason.IMITATION,
    }
)


@dataclass(frozen=True)
class Unparsed:
    """A line that announces a denial (``avc:``, an SELINUX_ERR, a report) and could not be read; never dropped silently."""

    line: int
    """The line number, from 1; 0 if unknown."""
    reason: UnparsedReason
    text: str
    """The line, verbatim, at most 4096 characters; hostile text, escape it before display."""
    detail: str = ""
    """The misplaced text, or the missing field; hostile text as well."""
    source: str = ""
    """Of an attempt: the type of the process that caused it; "" where nothing proves it."""

    @property
    def attempt(self) -> bool:
        """Whether the line counts as an attempt to forge a record."""
        return self.reason.is_attempt

    @property
    def message(self) -> str:
        """The reason with its detail."""
        return f"{self.reason.value}: {self.detail}" if self.detail else self.reason.value


class ErrorOperation(str, Enum):
    """The operation of an SELINUX_ERR (security/selinux/ss/services.c) that carries two contexts.

    Such an error becomes a :class:`Denial` of kind SELINUX_ERR with the operation in place of the permission. No policy has a
    permission of that name, so it cannot become a rule. The contexts are those that a fix has to change:

    - BOUNDED_TRANSITION: scontext is the old domain, tcontext the new one, class ``process``. The kernel refuses it under
      NoNewPrivileges or on a nosuid mount, or in a process of several threads, unless the new domain is bounded by
      the old one or has ``process2 nnp_transition`` or ``nosuid_transition``.
    - COMPUTE_SID: scontext is the process, tcontext the context that a transition would give and that is invalid (a role
      that may not have the type, a range outside the user's); ``extra["tcontext"]`` is the object's.
    - VALIDATE_TRANSITION: scontext is the process, tcontext the new context of the object; ``extra["oldcontext"]`` is its
      old one. A ``validatetrans`` constraint refuses the change.
    """

    BOUNDED_TRANSITION = "security_bounded_transition"
    COMPUTE_SID = "security_compute_sid"
    VALIDATE_TRANSITION = "security_validate_transition"

    @classmethod
    def of(cls, permission: str) -> Optional[ErrorOperation]:
        """Return the operation with this name, None for a permission."""
        return next((one for one in cls if one.value == permission), None)


@dataclass(frozen=True)
class PolicyError:
    """An SELINUX_ERR without an access: an invalid context that a process tried to set, or an unknown kind.

    ``operation`` is the word after ``op=`` (setxattr, fscreate, security_sid_mls_copy).
    """

    event: EventId
    operation: str
    invalid_context: str = ""
    """The text as written, often not a valid context. For setxattr and fscreate, the process chose it: hostile text."""
    scontext: Optional[Context] = None
    """Context of the process, from the event's SYSCALL record (``subj=``)."""
    comm: str = ""
    exe: str = ""
    raw: tuple[str, ...] = field(default=(), compare=False)


class LogEventKind(str, Enum):
    """Kind of a log event other than an access. The values are stored in evidence.db: never change one."""

    POLICY_LOAD = "policyload"
    SET_ENFORCING = "setenforce-1"
    SET_PERMISSIVE = "setenforce-0"
    SWITCHED = "setenforce"
    """Enforcing mode was switched, but the record does not contain the direction (a user-space AVC notice)."""
    LOST = "lost"
    """The kernel reported lost or rate-limited events."""
    GAP = "gap"
    """Lines were deleted by rotation or truncation before they were read."""
    DAMAGED = "damaged"
    """A compressed log is truncated or corrupt."""
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
    """A message without an access: a policy load, a switch of enforcing mode, or another notice (LogEventKind.OTHER)."""

    event: EventId
    type: str
    kind: LogEventKind
    text: str = field(default="", compare=False)
