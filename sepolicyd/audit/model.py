"""The values that leave this room: contexts, denials and what else the kernel's AVC messages said."""

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


class AvcDecision(str, Enum):
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
    """A denial with the records of its event, and how often one like it was logged between ``first`` and ``last``.

    Alike are denials that differ in time, process id, inode and categories only.
    """

    denial: Denial
    count: int = 1
    first: float = 0.0
    """Epoch seconds, like ``last``."""
    last: float = 0.0


@dataclass(frozen=True)
class Tally:
    """How often a permission was denied, how often of these it was not let pass, and when (epoch seconds)."""

    count: int
    enforced: int
    first: float
    last: float


@dataclass(frozen=True)
class Remainder:
    """Denials of one source, target and class beyond the sightings that are kept one by one: counted per permission."""

    example: Denial
    """One of the sightings: contexts, class and kind are those of all."""
    count: int
    """Messages; one message may deny several permissions."""
    tallies: Mapping[str, Tally]
    comms: tuple[tuple[str, int], ...] = ()
    """The first names of processes, with the messages of each."""
    ports: tuple[tuple[str, int], ...] = ()
    ioctls: tuple[int, ...] = ()


class UnparsedReason(str, Enum):
    """Why a line that announces a denial was not read. Stored in evidence.db: never change a value."""

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
        """Whether such a line arises when a process tries to write records or contexts into the log by what it names."""
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
    """From 1; 0 where it is not known."""
    reason: UnparsedReason
    text: str
    """The line of the log, verbatim, at most 4096 characters; hostile, escape it before display."""
    detail: str = ""
    """What stood in the wrong place, or which field is missing; hostile as well."""
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

    Such an error becomes a :class:`Denial` of kind SELINUX_ERR, and the operation stands in the place of the permission:
    no policy has a permission of that name, so that it can never become a rule by itself. Its contexts are those that
    the fix is about:

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
        """The operation that stands in a permission's place, None for a permission."""
        return next((one for one in cls if one.value == permission), None)


@dataclass(frozen=True)
class PolicyError:
    """An SELINUX_ERR that names no access: an invalid context that a process has tried to set, or one of an unknown kind.

    ``operation`` as the kernel writes it after ``op=`` (setxattr, fscreate, security_sid_mls_copy).
    """

    event: EventId
    operation: str
    invalid_context: str = ""
    """As written, seldom a context; for setxattr and fscreate the process chose it: hostile text."""
    scontext: Optional[Context] = None
    """Of the process, from the event's SYSCALL record (``subj=``)."""
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
