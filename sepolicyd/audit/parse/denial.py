"""Parse the records of one event into denials, grants, security server errors and notices.

The grammar is the kernel's (slow_avc_audit in security/selinux/avc.c, dump_common_audit_data in security/lsm_audit.c): the
decision is at the beginning of the body, and the contexts are separate fields outside quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

from sepolicyd.access import is_identifier
from sepolicyd.audit.model import (
    AvcDecision,
    Context,
    Denial,
    Kind,
    LogEventKind,
    Notice,
    PolicyError,
    Unparsed,
    UnparsedReason,
)
from sepolicyd.audit.parse import fields as field
from sepolicyd.audit.parse import policy_error, user_message
from sepolicyd.audit.parse.attempt_source import sender_of_message, source_of_message
from sepolicyd.audit.parse.classes import is_cut
from sepolicyd.audit.parse.companions import Companions, normal_auid
from sepolicyd.audit.parse.event import Event
from sepolicyd.audit.parse.header import NOTICES, SPEAKING, match_header
from sepolicyd.audit.parse.record import MARK, MAX_TEXT, Record, from_header, parse

MAX_RAW = 24
MAX_COMPANIONS = 64
MAX_HEADER = 320
_DECISION = re.compile(r"[ \t]*avc:[ \t]*(?P<verdict>denied|granted)[ \t]*\{(?P<permissions>[^{}\"=]*)\}[ \t]*(?:for\b)?[ \t]*")
_MESSAGE = re.compile(r"[ \t]*avc:[ \t]+(?:received|op=|netlink|could not|unable|seqno)")
_OTHER_MODULE = re.compile(r"[ \t]*(?:apparmor=|lsm=(?!selinux\b))", re.IGNORECASE)
# Some phone kernels omit the blank between two fields.
_GLUED = re.compile(r"(?<=[a-z0-9)])(?=(?:scontext|tcontext|tclass|permissive)=)")
_BROKEN_CONTEXT = re.compile(
    r"\b(?P<key>[st]context)=(?P<before>[^ \t=\"]+) (?P<after>[^ \t=\"]+)(?=[ \t]+(?:tcontext|tclass)=)"
)
_WORD = re.compile(r"[ \t]*[^ \t\"]+")
_WORD_BEFORE_CONTEXTS = re.compile(r"[ \t]*[A-Za-z]+(?=[ \t]+scontext=)")
_NEXT_HEADER = re.compile(r"[ \t]*(?:(?:node|host)=[^ ]+ )?type=[A-Z]")
# Kernel records whose values cannot contain a blank except in hexadecimal form: a header between two of their fields can only
# be a record whose newline was lost.
_KERNELS = frozenset({"AVC", "SELINUX_ERR", "SYSCALL", "PATH", "CWD", "EXECVE", "PROCTITLE", "SOCKADDR"})
COMPANION = re.compile(rb"type=(?:SYSCALL|PATH|CWD|EXECVE|PROCTITLE|SOCKADDR|13[0-9]{2}) ")
_PORTS = ("src", "dest", "lport", "fport")
_OWN = frozenset({"pid", "comm", "exe", "path", "name", "dev", "ino", "ioctlcmd", "scontext", "tcontext", "tclass",
                  "permissive", "srawcon", "trawcon", "hostname", "addr", "terminal", "sauid", *_PORTS})  # fmt: skip

Doubt = tuple[UnparsedReason, str]
Message = Union[Denial, Notice, PolicyError, Unparsed, int]


@dataclass(frozen=True)
class Denials:
    """The messages of one event; each message is in exactly one of the fields."""

    denials: tuple[Denial, ...] = ()
    granted: tuple[Denial, ...] = ()
    notices: tuple[Notice, ...] = ()
    errors: tuple[PolicyError, ...] = ()
    other: int = 0
    """Number of messages of other security modules, and of ``avc:`` marks that are part of a value."""
    unparsed: tuple[Unparsed, ...] = ()


def denials_of(event: Event, *, first_only: bool = False) -> Denials:
    """Parse all messages of an event, each enriched by the event's other records. Never raises on any text.

    :param first_only: parse only the first record as a message; the others still enrich it
    """
    companions = Companions()
    messages: list[Record] = []
    for number, whole in enumerate(event.records):
        for record in separate(whole):
            speaks = record.type in SPEAKING or record.type in NOTICES
            if not speaks:
                companions.add(record.type, record.body)
            if (speaks or MARK in record.body) and not (number and first_only):
                messages.append(record)
    lines = tuple(record.raw for record in event.records)
    return sort_out([read_message(record, companions, lines) for record in messages])


def denials_of_lines(lines: Sequence[bytes], number: int = 0) -> Denials:
    """Parse the message on the first line; the other lines are records of the same event in any order.

    Of the other lines, up to MAX_COMPANIONS that can describe the process or the object are parsed.
    """
    first = parse(lines[0], number) if lines else None
    if first is None:
        return Denials()
    if isinstance(first, Unparsed):
        return Denials(unparsed=(first,))
    others = [line for line in lines[1:] if COMPANION.search(line, 0, MAX_HEADER)][:MAX_COMPANIONS]
    records = [record for record in map(parse, others) if isinstance(record, Record) and record.key == first.key]
    return denials_of(Event(first.event, (first, *records)), first_only=True)


def sort_out(messages: list[Message]) -> Denials:
    """Sort messages by their class into the fields of :class:`Denials`."""
    every = [one for one in messages if isinstance(one, Denial)]
    return Denials(
        denials=tuple(denial for denial in every if denial.verdict is AvcDecision.DENIED),
        granted=tuple(denial for denial in every if denial.verdict is AvcDecision.GRANTED),
        notices=tuple(one for one in messages if isinstance(one, Notice)),
        errors=tuple(one for one in messages if isinstance(one, PolicyError)),
        other=sum(isinstance(one, int) for one in messages),
        unparsed=tuple(one for one in messages if isinstance(one, Unparsed)),
    )


def denials_of_line(line: Union[bytes, str], number: int = 0) -> Denials:
    """Parse a single line, without the other records of its event."""
    record = parse(line, number)
    if record is None:
        return Denials()
    if isinstance(record, Unparsed):
        return Denials(unparsed=(record,))
    return denials_of(Event(record.event, (record,)))


def separate(record: Record) -> Iterator[Record]:
    """Yield the record, and further records on the same line if a newline was lost.

    Only kernel records are searched, and only between two fields, where a value cannot contain a header.
    """
    while record.type in _KERNELS and " type=" in record.body:
        plain = record.body.partition(field.SEPARATOR)[0]
        decision = _DECISION.match(plain)
        end = next(_headers(plain, decision.end() if decision else 0), -1)
        header = match_header(plain[end:]) if end > 0 else None
        if header is None:
            break
        yield record._replace(body=record.body[:end].rstrip(" ,"))
        record = from_header(header, record.body[end:], record.number)._replace(raw=record.raw)
    yield record


def _headers(body: str, start: int) -> Iterator[int]:
    """Yield the offsets between two fields at which a header may begin."""
    end = start
    while True:
        if _NEXT_HEADER.match(body, end):
            yield end + len(body[end:]) - len(body[end:].lstrip(" \t"))
        match = field.FIELD.match(body, end) or _WORD.match(body, end)
        if match is None:
            return
        end = match.end()


def read_message(record: Record, companions: Companions, lines: tuple[str, ...]) -> Message:
    """Parse one message. An int stands for a message of another security module or an ``avc:`` mark inside a value."""
    if record.type not in SPEAKING and record.type not in NOTICES:
        return 1
    if _OTHER_MODULE.match(record.body):
        return 1
    if record.type in NOTICES and not record.type.startswith("USER_"):
        return _notice(record, record.body)
    raw = (record.raw, *(line for line in lines if line != record.raw))[:MAX_RAW]
    if record.type.startswith("USER_"):
        return _user_message(record, raw)
    if record.type == "SELINUX_ERR":
        found = policy_error.read(record.event, record.body, companions, raw)
        return found if isinstance(found, (PolicyError, Denial)) else _unparsed(record, *found)
    return _kernel_message(record, companions, raw)


def _unparsed(record: Record, reason: UnparsedReason, detail: str = "") -> Unparsed:
    source = ""
    if reason is UnparsedReason.UNKNOWN_SENDER:
        source = sender_of_message(record.raw)
    elif reason.is_attempt:
        source = source_of_message(record.raw)
    return Unparsed(record.number, reason, record.raw[:MAX_TEXT], detail, source)


def _kernel_message(record: Record, companions: Companions, raw: tuple[str, ...]) -> Message:
    body = record.body.partition(field.SEPARATOR)[0]
    decision = _DECISION.match(body)
    if decision is None:
        if MARK not in body:
            return _unparsed(record, UnparsedReason.NO_MESSAGE)
        return _notice(record, body) if _MESSAGE.match(body) else _unparsed(record, UnparsedReason.NO_DECISION)
    found = field.read_fields(body, decision.end())
    word = _WORD_BEFORE_CONTEXTS.match(body, found.end)
    if word is not None:
        body = body[: found.end] + body[word.end() :]
        found = field.read_fields(body, decision.end())
    doubt = _doubt_of_fields(found, body)
    if doubt is not None or "=" in found.values["tclass"]:
        quoted = max(body.rfind('"') + 1, decision.end())  # no process can write text after the last quote
        mended = body[:quoted] + _GLUED.sub(" ", body[quoted:])
        if mended != body:
            body, found = mended, field.read_fields(mended, decision.end())
            doubt = _doubt_of_fields(found, body)
    if doubt is not None:
        mended = _rejoin_contexts(body, decision.end())
        if mended != body:
            body, found = mended, field.read_fields(mended, decision.end())
            doubt = _doubt_of_fields(found, body)
    if doubt is not None:
        return _unparsed(record, *doubt)
    values = found.values
    labels = _labels(decision["permissions"], values["scontext"], values["tcontext"], values["tclass"])
    if isinstance(labels, tuple):
        return _unparsed(record, *labels)
    return Denial(
        event=record.event,
        kind=Kind.AVC,
        verdict=AvcDecision(decision["verdict"]),
        permissive={"1": True, "0": False}.get(values.get("permissive", "")[:1]),
        raw=raw,
        **labels,
        **object_fields(values, labels["tclass"], companions),
        **companions.process(values),
    )


def _rejoin_contexts(body: str, start: int) -> str:
    """Join a context that a blank has broken in its user, its role or its range, as wrapped text on a web page has it.

    A rule holds neither of these three. A broken type stays broken: its halves may be names of their own.
    """
    quoted = max(body.rfind('"') + 1, start)  # no process can write text after the last quote
    return body[:quoted] + _BROKEN_CONTEXT.sub(_rejoined, body[quoted:])


def _rejoined(found: re.Match[str]) -> str:
    before, after = found["before"], found["after"]
    context = Context.parse(before + after)
    whole = context is not None and context.role.endswith("_r") and before.count(":") != 2  # a break after two is in the type
    return f"{found['key']}={before}{after}" if whole else found[0]


def _doubt_of_fields(found: field.Fields, body: str) -> Optional[Doubt]:
    """Return the reason why the fields of a kernel AVC are not trusted, None if they are."""
    for key in ("scontext", "tcontext", "tclass"):
        if key in found.twice:
            return UnparsedReason.CONTEXTS_TWICE, f"{key}="
        if key not in found.values:
            left = body[found.end :].strip()
            if not left:
                return UnparsedReason.NO_FIELD, f"{key}="
            return (UnparsedReason.CUT if left.count('"') == 1 else UnparsedReason.BROKEN), left[:80]
    if '"' in body[found.end :]:
        return UnparsedReason.BROKEN, body[found.end :].strip()[:80]
    context = found.values["tcontext"]
    if Context.parse(context) is None and body.endswith(context):
        return UnparsedReason.CUT, f"tcontext={context[:80]}"
    return None


def _labels(permissions: str, scontext: str, tcontext: str, tclass: str) -> Union[dict[str, Any], Doubt]:
    """Return contexts, class and permissions as fields of a Denial, or the reason why one of them is invalid."""
    contexts = []
    for key, written in (("scontext", scontext), ("tcontext", tcontext)):
        context = Context.parse(written)
        if context is None or not is_identifier(context.type):
            return UnparsedReason.BAD_CONTEXT, f"{key}={written[:80]}"
        contexts.append(context)
    names = tuple(dict.fromkeys(permissions.replace(",", " ").split()))
    if not names:
        return UnparsedReason.NO_PERMISSION, ""
    for name in (*names, tclass):
        if not is_identifier(name):
            return UnparsedReason.BAD_NAME, name[:40]
    if is_cut(tclass):
        return UnparsedReason.BAD_CLASS, tclass
    return {"scontext": contexts[0], "tcontext": contexts[1], "tclass": tclass, "permissions": names}


def object_fields(values: Mapping[str, str], tclass: str, companions: Companions) -> dict[str, Any]:
    """Return the fields of a Denial that describe the object of a kernel AVC."""
    name, ino = values.get("name", ""), values.get("ino", "")
    sockaddr = companions.sockaddr
    path = values.get("path", "") or companions.path_of(name, ino, tclass)
    if not path and tclass == "sock_file" and sockaddr.startswith("unix /"):
        path = sockaddr[5:]
    extra = {key: value for key, value in values.items() if key not in _OWN}
    ioctl = values.get("ioctlcmd")
    number = None if ioctl is None else field.hex_integer(ioctl)
    if ioctl is not None and number is None:
        extra["ioctlcmd"] = ioctl  # a name, as ausearch -i writes it
    for key, said in (("sockaddr", sockaddr), ("command", companions.command)):
        if said:
            extra[key] = said
    return {
        "path": path,
        "name": name,
        "dev": values.get("dev", ""),
        "ino": ino,
        "ioctlcmd": number,
        "ports": _ports(values),
        "srawcon": values.get("srawcon", ""),
        "trawcon": values.get("trawcon", ""),
        "extra": tuple(sorted(extra.items())),
    }


def _ports(values: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    found = ((key, field.integer(values.get(key))) for key in _PORTS)
    return tuple((key, port) for key, port in found if port is not None)


def _user_message(record: Record, raw: tuple[str, ...]) -> Message:
    """Parse a message of a user-space object manager: a decision or a notice."""
    envelope = user_message.open_envelope(record.body)
    if isinstance(envelope, UnparsedReason):
        return _unparsed(record, envelope)
    decision = _DECISION.match(envelope.message)
    if decision is None:
        if MARK in envelope.message and not _MESSAGE.match(envelope.message):
            return _unparsed(record, UnparsedReason.NO_DECISION)
        return _notice(record, envelope.message)
    if record.type in NOTICES:
        return _unparsed(record, UnparsedReason.UNKNOWN_SENDER, record.type)
    request = user_message.read_request(envelope, decision.end())
    if not isinstance(request, user_message.UserRequest):
        return _unparsed(record, *request)
    labels = _labels(decision["permissions"], request.scontext, request.tcontext, request.tclass)
    if isinstance(labels, tuple):
        return _unparsed(record, *labels)
    values = request.values
    return Denial(
        event=record.event,
        kind=Kind.USER_AVC,
        verdict=AvcDecision(decision["verdict"]),
        permissive=request.permissive,
        pid=field.integer(values.get("pid") or values.get("spid")),
        comm=values.get("comm", ""),
        exe=values.get("exe", ""),
        path=values.get("path", ""),
        name=values.get("name", ""),
        ports=() if request.tclass == "dbus" else _ports(values),
        auid=normal_auid(values.get("auid", "")),
        uid=values.get("uid", ""),
        proctitle=values.get("cmdline", ""),
        extra=_extra_of_request(request, envelope),
        raw=raw,
        **labels,
    )


def _extra_of_request(request: user_message.UserRequest, envelope: user_message.Envelope) -> tuple[tuple[str, str], ...]:
    extra = {key: value for key, value in request.values.items() if key not in _OWN}
    if request.tclass == "dbus" and "dest" in request.values:
        extra["dest"] = request.values["dest"]
    if "exe" in envelope.sender:
        extra["manager"] = envelope.sender["exe"]  # the deciding object manager, not the source
    return tuple(sorted(extra.items()))


_ENFORCING = re.compile(r"\benforcing=([01])")


def _notice(record: Record, message: str) -> Notice:
    """Parse a policy load or a switch of enforcing mode; the words count only at the beginning of the message."""
    begin = message.lstrip()[:60]
    kind = LogEventKind.OTHER
    if "POLICY_LOAD" in record.type or begin.startswith(("avc:  received policyload", "avc:  op=load_policy")):
        kind = LogEventKind.POLICY_LOAD
    elif record.type in ("MAC_STATUS", "USER_MAC_STATUS") or re.match(r"avc: +(?:received setenforce|op=setenforce)", begin):
        state = _ENFORCING.search(message)
        kind = LogEventKind.SWITCHED
        if state is not None:
            kind = LogEventKind.SET_ENFORCING if state[1] == "1" else LogEventKind.SET_PERMISSIVE
    return Notice(record.event, record.type, kind, record.raw[:MAX_TEXT])
