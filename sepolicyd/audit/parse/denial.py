"""An event in, denials out: each AVC message with what the event's other records say of the process and the object."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Optional, Union

from sepolicyd.access import is_identifier
from sepolicyd.audit.model import (
    Context,
    Denial,
    ErrorOperation,
    Kind,
    LogEventKind,
    Notice,
    PolicyError,
    Unparsed,
    UnparsedReason,
    Verdict,
)
from sepolicyd.audit.parse import fields as field
from sepolicyd.audit.parse.classes import KNOWN, is_cut
from sepolicyd.audit.parse.companions import Companions
from sepolicyd.audit.parse.event import Event
from sepolicyd.audit.parse.record import GROUP_SEPARATOR, MARK, Record, parse

MAX_TEXT = 4096
MAX_RAW = 24

_DECISION = re.compile(r"avc:\s*(?P<verdict>denied|granted)\s*\{(?P<permissions>[^{}]*)\}\s*(?:for\b)?\s*")
_NEXT = re.compile(r"avc:\s+(?:denied|granted)\s*\{")
_JOINED = re.compile(r"(?:\b(?:node|host)=\S+ )?\btype=[A-Z][A-Z0-9_]* (?:msg=)?audit\([^()]*\) *:")
_VALUE = re.compile(r"\"?(?P<value>[^\s\"',]*(?:,[^\s\"',=]+)*)")
_CLASS = re.compile(r"\"?(?P<value>[A-Za-z0-9_()-]*)")
_WORD = re.compile(r"\s+[A-Za-z0-9_]+(?:[\s:]|$)(?!\s*exe=)")  # what goes on after a blank, and is no key=
_GLUED = re.compile(r"(?<=[a-z0-9)])(?=(?:tcontext|tclass|permissive)=)")
_TAIL = re.compile(r"\bpermissive[=:]\s*(?P<value>[01])")
_FOREIGN = re.compile(r"\(XEN\)|\blsm=(?!selinux)[A-Za-z]+|apparmor=", re.IGNORECASE)
_INVALID = re.compile(r"invalid[ _]context[= ]\"?(?P<value>[^\s\"]+)")
_OPERATION = re.compile(r"(?:op=|^\s*)(?P<value>security_[a-z_]+|setxattr|fscreate|exec|[a-z_]+)\b")

_PORTS = ("src", "dest", "lport", "fport")
_OWN = frozenset({"pid", "comm", "exe", "path", "name", "dev", "ino", "ioctlcmd", "scontext", "tcontext", "tclass",
                  "permissive", "srawcon", "trawcon", "hostname", "addr", "terminal", "sauid", *_PORTS})  # fmt: skip
_SPEAKING = frozenset({"AVC", "USER_AVC", "SELINUX_ERR", "USER_SELINUX_ERR"})
_NOTICE_TYPES = frozenset({"MAC_STATUS", "MAC_POLICY_LOAD", "MAC_CONFIG_CHANGE", "USER_MAC_STATUS", "USER_MAC_POLICY_LOAD",
                           "USER_MAC_CONFIG_CHANGE"})  # fmt: skip

_Doubt = tuple[UnparsedReason, str]


@dataclass(frozen=True)
class Denials:
    """What one event says: each message of it stands in exactly one of these."""

    denials: tuple[Denial, ...] = ()
    granted: tuple[Denial, ...] = ()
    notices: tuple[Notice, ...] = ()
    errors: tuple[PolicyError, ...] = ()
    other: int = 0
    unparsed: tuple[Unparsed, ...] = ()


def denials_of(event: Event, *, first_only: bool = False) -> Denials:
    """All that the event's messages say, each enriched by the event's other records. Never raises on any text.

    :param first_only: only what the first record says; the others still enrich it
    """
    beside = Companions()
    messages: list[tuple[Record, str]] = []
    for number, record in enumerate(event.records):
        for kind, piece in _pieces(record):
            if kind in _SPEAKING or kind in _NOTICE_TYPES or MARK in piece:
                if number and first_only:
                    continue
                messages.append((record._replace(type=kind), piece))
            else:
                beside.add(kind, piece)
    if not messages:
        return Denials()
    lines = tuple(record.raw for record in event.records)
    sorted_out: dict[type, list[Any]] = {kind: [] for kind in (Denial, Notice, PolicyError, Unparsed, int)}
    for record, piece in messages:
        value = message(record, piece, beside, lines)
        sorted_out[type(value)].append(value)
    every: list[Denial] = sorted_out[Denial]
    return Denials(
        denials=tuple(denial for denial in every if denial.verdict is Verdict.DENIED),
        granted=tuple(denial for denial in every if denial.verdict is Verdict.GRANTED),
        notices=tuple(sorted_out[Notice]),
        errors=tuple(sorted_out[PolicyError]),
        other=len(sorted_out[int]),
        unparsed=tuple(sorted_out[Unparsed]),
    )


def denials_of_line(line: Union[bytes, str], number: int = 0) -> Denials:
    """The line alone, without its event: for tests and for text that has no headers."""
    record = parse(line, number)
    if record is None:
        return Denials()
    if isinstance(record, Unparsed):
        return Denials(unparsed=(record,))
    return denials_of(Event(record.event, (record,)))


def message(
    record: Record, text: str, beside: Companions, lines: tuple[str, ...]
) -> Union[Denial, Notice, PolicyError, Unparsed, int]:
    """One message classified; the int stands for another security module's, or a mark that is only a name."""
    # only what stands before the mark: a comm= or name= must not be able to pass a denial off as another module's
    if _FOREIGN.search(record.raw.partition(MARK)[0] if MARK in record.raw else text):
        return 1
    decision = _DECISION.search(text)
    if record.type in _NOTICE_TYPES or (decision is None and record.type.startswith("USER_")):
        return _notice(record, text)
    if record.type not in _SPEAKING:
        return 1
    if decision is None:
        if record.type == "SELINUX_ERR":
            return _error(record, text, beside, lines)
        if MARK not in text:
            return _unparsed(record, UnparsedReason.NO_MESSAGE)
        if re.match(r"\s*avc:\s+(?:received|op=|netlink|could not|unable)", text[text.find(MARK) :]):
            return _notice(record, text)
        return _unparsed(record, UnparsedReason.NO_DECISION)
    kind = Kind.USER_AVC if record.type.startswith("USER_") else Kind.AVC
    permissions = tuple(dict.fromkeys(decision["permissions"].replace(",", " ").split()))
    return _denial(record, text[decision.end() :], kind, Verdict(decision["verdict"]), permissions, beside, lines)


def _denial(
    record: Record,
    rest: str,
    kind: Kind,
    verdict: Verdict,
    permissions: tuple[str, ...],
    beside: Companions,
    lines: tuple[str, ...],
) -> Union[Denial, Unparsed]:
    rest, _, _ = rest.partition(GROUP_SEPARATOR)
    rest = _GLUED.sub(" ", rest)
    found = _object(rest)
    doubt = _doubt(permissions, found[2]) if len(found) == 4 else found
    if doubt is not None or len(found) == 2:
        return _unparsed(record, *(doubt or (UnparsedReason.BROKEN, "")))
    scontext, tcontext, tclass, start = found
    tail = _TAIL.search(rest, start)
    values = field.fields_of(rest[:start])
    behind = rest[start:] if tail is None else rest[start : tail.start()] + rest[tail.end() :]
    after = field.fields_of(behind) if behind.count("=") > 3 else {}
    raw = (record.raw, *(line for line in lines if line != record.raw))[:MAX_RAW]
    return Denial(
        event=record.event,
        kind=kind,
        verdict=verdict,
        scontext=scontext,
        tcontext=tcontext,
        tclass=tclass,
        permissions=permissions,
        permissive=None if tail is None else tail["value"] == "1",
        raw=raw,
        **_details(kind, tclass, values, after, beside),
    )


def _unparsed(record: Record, reason: UnparsedReason, detail: str = "") -> Unparsed:
    return Unparsed(record.number, reason, record.raw[:MAX_TEXT], detail)


def _object(rest: str) -> Union[_Doubt, tuple[Context, Context, str, int]]:
    """(scontext, tcontext, class, where the contexts begin), or the reason why not."""
    contexts = []
    begin = len(rest)
    for key in ("scontext", "tcontext"):
        at = _last(rest, key + "=")
        if at < 0:
            return UnparsedReason.NO_FIELD, f"{key}="
        begin = min(begin, at)
        match = _VALUE.match(rest, at + len(key) + 1)
        text = match["value"] if match else ""
        context = Context.parse(text)
        if context is None or not is_identifier(context.type):
            if rest.rstrip().endswith(text):
                return UnparsedReason.CUT, f"{key}={text[:80]}"
            return UnparsedReason.BAD_CONTEXT, f"{key}={text[:80]}"
        if match is not None and not context.range and _WORD.match(rest, match.end()):
            return UnparsedReason.BROKEN, f"{key}={text[:80]}"
        contexts.append(context)
    at = _last(rest, "tclass=")
    if at < 0:
        return UnparsedReason.NO_FIELD, "tclass="
    match = _CLASS.match(rest, at + 7)
    tclass = match["value"] if match else ""
    if match is not None and tclass not in KNOWN and _WORD.match(rest, match.end()):
        return UnparsedReason.BROKEN, f"tclass={tclass[:40]}"
    return contexts[0], contexts[1], tclass, min(begin, at)


def _last(text: str, key: str) -> int:
    """Where the key stands last with a blank before it, -1 if nowhere.

    The last, because cmdline= and the like come before the contexts and may hold forged ones (systemd's USER_AVC); what
    the kernel writes after them is quoted and without blanks, or hex.
    """
    at = text.rfind(key)
    while at > 0 and not text[at - 1].isspace():
        at = text.rfind(key, 0, at)
    return at


def _doubt(permissions: tuple[str, ...], tclass: str) -> Optional[_Doubt]:
    if not permissions:
        return UnparsedReason.NO_PERMISSION, ""
    for name in (*permissions, tclass):
        if not is_identifier(name):
            return UnparsedReason.BAD_NAME, name[:40]
    return (UnparsedReason.BAD_CLASS, tclass) if is_cut(tclass) else None


def _details(kind: Kind, tclass: str, values: dict[str, str], after: dict[str, str], beside: Companions) -> dict[str, Any]:
    """The fields of a Denial that come from the text and the other records."""
    own = {**after, **values} if kind is Kind.AVC else values
    syscall = beside.syscall if kind is not Kind.USER_AVC else {}
    name, ino = own.get("name", ""), own.get("ino", "")
    sockaddr = beside.sockaddr if kind is Kind.AVC else ""
    path = own.get("path", "")
    if not path and kind is Kind.AVC:
        path = beside.old_path or beside.path_of(name, ino, tclass)
    if not path and tclass == "sock_file" and sockaddr.startswith("unix /"):
        path = sockaddr[5:]
    ioctl = own.get("ioctlcmd") or after.get("ioctlcmd")
    ports = [(key, field.integer(own.get(key))) for key in _PORTS] if tclass != "dbus" else []
    extra = {key: value for key, value in {**after, **values}.items() if key not in _OWN}
    number = None if ioctl is None else field.hex_integer(ioctl)
    if ioctl is not None and number is None:
        extra["ioctlcmd"] = ioctl  # a name, as ausearch -i writes it
    if not ports and "dest" in values:
        extra["dest"] = values["dest"]
    if kind is Kind.USER_AVC and "exe" in after:
        extra["manager"] = after["exe"]  # the object manager that asked (dbus-daemon, systemd), not the source
    for key, text in (("sockaddr", sockaddr), ("command", beside.command)):
        if text and kind is Kind.AVC:
            extra[key] = text
    pid = own.get("pid") or own.get("spid") if kind is not Kind.AVC else own.get("pid") or syscall.get("pid")
    auid = syscall.get("auid", own.get("auid", ""))
    return {
        "pid": field.integer(pid),
        "ppid": field.integer(syscall.get("ppid")),
        "comm": own.get("comm") or syscall.get("comm", ""),
        "exe": syscall.get("exe") or own.get("exe", ""),
        "path": path,
        "name": name,
        "dev": own.get("dev", ""),
        "ino": ino,
        "ioctlcmd": number,
        "ports": tuple((key, port) for key, port in ports if port is not None),
        "syscall": syscall.get("syscall", ""),
        "success": {"yes": True, "no": False}.get(syscall.get("success", "")),
        "auid": "unset" if auid in ("4294967295", "-1", "n/a") else auid,
        "uid": syscall.get("uid", own.get("uid", "")),
        "proctitle": beside.proctitle if kind is not Kind.USER_AVC else own.get("cmdline", ""),
        "srawcon": after.get("srawcon", ""),
        "trawcon": after.get("trawcon", ""),
        "extra": tuple(sorted(extra.items())),
    }


def _error(record: Record, text: str, beside: Companions, lines: tuple[str, ...]) -> Union[Denial, PolicyError, Unparsed]:
    """SELINUX_ERR: bounds carries an access; the others (invalid context, bounded or validated transition) do not."""
    values = field.fields_of(text)
    if values.get("perms") and "tclass" in values:
        permissions = tuple(dict.fromkeys(values["perms"].replace(",", " ").split()))
        return _denial(
            record,
            " " + text.replace(" perms=", " permissions_masked="),
            Kind.SELINUX_ERR,
            Verdict.DENIED,
            permissions,
            beside,
            lines,
        )
    operation = _OPERATION.search(text)
    named = ErrorOperation.of(operation["value"] if operation else "")
    invalid = _INVALID.search(text)
    if invalid is not None:
        values["invalid_context"] = invalid["value"]
    if named is not None:
        return _masked_transition(record, named, values, beside, lines)
    if "invalid_context" not in values:
        return _unparsed(record, UnparsedReason.UNKNOWN_ERROR)
    return PolicyError(
        event=record.event,
        operation=operation["value"] if operation else "",
        invalid_context=values["invalid_context"],
        scontext=Context.parse(beside.syscall.get("subj", "")),
        comm=beside.syscall.get("comm", ""),
        exe=beside.syscall.get("exe", ""),
        raw=(record.raw, *(line for line in lines if line != record.raw))[:MAX_RAW],
    )


# The fields of the two contexts of each operation, and the one that is kept aside.
_CONTEXTS_OF = {
    ErrorOperation.BOUNDED_TRANSITION: ("oldcontext", "newcontext", ""),
    ErrorOperation.COMPUTE_SID: ("scontext", "invalid_context", "tcontext"),
    ErrorOperation.VALIDATE_TRANSITION: ("taskcontext", "newcontext", "oldcontext"),
}


def _masked_transition(
    record: Record, operation: ErrorOperation, values: dict[str, str], beside: Companions, lines: tuple[str, ...]
) -> Union[Denial, Unparsed]:
    """The denial that an SELINUX_ERR with two contexts is; see ErrorOperation."""
    source, target, aside = _CONTEXTS_OF[operation]
    contexts = []
    for key in (source, target):
        context = Context.parse(values.get(key, ""))
        if context is None or not is_identifier(context.type):
            return _unparsed(record, UnparsedReason.BAD_CONTEXT, f"{key}={values.get(key, '')[:80]}")
        contexts.append(context)
    tclass = values.get("tclass", "process")
    if not is_identifier(tclass):
        return _unparsed(record, UnparsedReason.BAD_NAME, tclass[:40])
    extra = {key: values[key] for key in ("seresult", "reason", aside) if key in values}
    details = _details(Kind.SELINUX_ERR, tclass, {}, {}, beside)
    return Denial(
        event=record.event,
        kind=Kind.SELINUX_ERR,
        verdict=Verdict.DENIED,
        scontext=contexts[0],
        tcontext=contexts[1],
        tclass=tclass,
        permissions=(operation.value,),
        raw=(record.raw, *(line for line in lines if line != record.raw))[:MAX_RAW],
        **{**details, "extra": tuple(sorted(extra.items()))},
    )


def _notice(record: Record, text: str) -> Notice:
    values = field.fields_of(text)
    kind = LogEventKind.OTHER
    if "policyload" in text or "POLICY_LOAD" in record.type or "op=load_policy" in text:
        kind = LogEventKind.POLICY_LOAD
    elif "setenforce" in text or "enforcing" in values:
        state = values.get("enforcing", "").strip("()'")[:1]
        kind = {"1": LogEventKind.SET_ENFORCING, "0": LogEventKind.SET_PERMISSIVE}.get(state, LogEventKind.SWITCHED)
    return Notice(record.event, record.type, kind, record.raw[:MAX_TEXT])


def _pieces(record: Record) -> list[tuple[str, str]]:
    """(type, text) of each message on the record's line: records glued together, or two AVCs in one.

    A message of user space (msg='...') is never split: its cmdline= is written by a stranger, who may put headers and
    marks into it. The kernel's values are quoted and without blanks, or hex, and cannot hold either.
    """
    body = record.body
    glued = "audit(" in body and "msg='" not in body
    if not glued and body.count(MARK) < 2:
        return [(record.type, body)]
    cuts = list(_JOINED.finditer(body)) if glued else []
    pieces: list[tuple[str, str]] = []
    kind, begin = record.type, 0
    for match in cuts:
        pieces.append((kind, body[begin : match.start()]))
        joined = parse(body[match.start() :])
        kind, begin = (joined.type, match.end()) if isinstance(joined, Record) else (kind, match.start())
    pieces.append((kind, body[begin:]))
    result = []
    for kind, text in pieces:
        marks = [match.start() for match in _NEXT.finditer(text)] if kind == "AVC" else []
        for start, end in zip([0, *marks[1:]], [*marks[1:], len(text)]):
            result.append((kind, text[start:end]))
    return result
