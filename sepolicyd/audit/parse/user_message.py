"""Parse messages of user-space object managers: the ``msg='...'`` of USER_AVC and similar records.

The kernel writes the sender's pid, uid and context before the message. The message contains, in this order: the decision
(libselinux, avc_audit in avc.c), details of the request (in systemd's selinux-access.c the client's command line, raw and in
quotes that the client can close), the contexts, and fields added by libaudit (audit_log_user_avc_message).

libselinux formats into 1,024 bytes and truncates silently. A client with a long command line can therefore push the contexts
out and leave a forged pair. For this reason a message that is truncated or has contexts twice is rejected.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional, Union

from sepolicyd.audit.model import UnparsedReason
from sepolicyd.audit.parse import fields as field

BUFFER = 1024
NEARLY_FULL = BUFFER - 24
"""Messages of at least this length count as truncated; it allows for blanks that auditd and relays add or remove."""
_HEAD = re.compile(r"(?:[^ '\"]+ )+msg='")
# The separator after the closing quote may have become a symbol (terminal) or an escape (rsyslog).
_ENRICHMENT = re.compile(r'(?:[ \x1d\u241d]|#035)*(?:[A-Z][A-Z0-9_]*=(?:"[^"]*"|[^ "]*)(?: +|\Z))*\Z')
# libaudit, current and before 2008: " exe=... sauid=81 hostname=? addr=? terminal=?" and ": exe=... (sauid=0, ...)".
_SENDER = re.compile(
    r' exe=(?P<exe>"[^"]*"|[^ "]+) \(?sauid=(?P<sauid>[^ ,]+)(?:,? +(?:hostname|addr|terminal)=[^ ,)]*)*\)?[ \n]*\Z'
)
_CONTEXTS = re.compile(
    r"scontext=(?P<scontext>[^ ]+) +tcontext=(?P<tcontext>[^ ]+) +tclass=(?P<tclass>[^ ]+)"
    r"(?: +permissive=(?P<permissive>[01]))?(?:[ \n:]|#012)*\Z"
)
_SYSTEMD = re.compile(
    r'auid=(?P<auid>[^ ]*) uid=(?P<uid>[^ ]*) gid=(?P<gid>[^ ]*)(?: path="(?P<path>.*?)")?(?: cmdline="(?P<cmdline>.*?)")?'
    r'(?: function="(?P<function>[A-Za-z0-9_]*)")? *\Z',
    re.DOTALL,
)
_KEYS = ("scontext=", "tcontext=", "tclass=")
# Senders that write details of the request before the contexts, and the classes that they manage.
_CLASSES = {
    "systemd": ("system", "service"),
    "dbus-daemon": ("dbus",),
    "dbus-broker": ("dbus",),
}
_USER_CLASSES = frozenset({"association", "context", "dbus", "drmservice", "hwservice_manager", "keystore_key", "nscd",
                           "passwd", "property_service", "proxy", "service", "service_manager", "system"})  # fmt: skip


class Envelope(NamedTuple):
    """The parts of a user-space record."""

    head: dict[str, str]
    """pid, uid, subj and so on of the sender, written by the kernel."""
    message: str
    """The sender's text, without the fields added by libaudit."""
    sender: dict[str, str]
    """exe and sauid, added by libaudit in the sender's process."""


class UserRequest(NamedTuple):
    """The part of a user-space AVC after the decision."""

    values: dict[str, str]
    scontext: str
    tcontext: str
    tclass: str
    permissive: Optional[bool]


def open_envelope(body: str) -> Union[Envelope, UnparsedReason]:
    """Split the body of a USER_* record into its parts, or return the reason why it is not trusted."""
    head = _HEAD.match(body)
    if head is None:
        return UnparsedReason.NO_MESSAGE
    end = body.rfind("'")
    if end < head.end():
        # the end is missing, so the client's quoted text may have been truncated
        if '"' in body[head.end() :].partition(" exe=")[0]:
            return UnparsedReason.CUT
        end = len(body)
    inside, behind = body[head.end() : end], body[end + 1 :]
    if field.SEPARATOR in inside or behind.count(field.SEPARATOR) > 1:
        return UnparsedReason.SEPARATOR_INSIDE
    if _ENRICHMENT.match(behind) is None:
        return UnparsedReason.SEPARATOR_INSIDE if field.SEPARATOR in behind else UnparsedReason.BROKEN
    at = inside.rfind(" exe=")
    sender = _SENDER.match(inside, at) if at >= 0 else None
    message = inside if sender is None and end < len(body) else inside[: at if at >= 0 else None]
    added = {} if sender is None else {"exe": field.value_of(sender["exe"], encoded=True), "sauid": sender["sauid"]}
    return Envelope(field.read_fields(head[0]).values, message, added)


def read_request(envelope: Envelope, start: int) -> Union[UserRequest, tuple[UnparsedReason, str]]:
    """Parse the request after the decision, or return the reason why it is not trusted.

    :param start: offset of the end of the decision in the message
    """
    message = envelope.message
    for key in _KEYS:
        if message.count(key, start) > 1:
            return UnparsedReason.CONTEXTS_TWICE, key
    if len(message) >= NEARLY_FULL and len(field.bytes_of(message)) >= NEARLY_FULL:
        return UnparsedReason.MESSAGE_CUT, ""
    at = message.find(_KEYS[0], start)
    if at < 0:
        return UnparsedReason.NO_FIELD, _KEYS[0]
    found = _CONTEXTS.match(message, at)
    if found is None:
        missing = next((key for key in _KEYS if key not in message[start:]), "")
        return (UnparsedReason.NO_FIELD, missing) if missing else (UnparsedReason.BROKEN, message[at : at + 120])
    known = message[start:at].rstrip(" ")
    if not _is_senders(found["tclass"], envelope, known):
        return UnparsedReason.UNKNOWN_SENDER, f"{envelope.sender.get('exe', '?')[:200]}: tclass={found['tclass'][:40]}"
    permissive = None if found["permissive"] is None else found["permissive"] == "1"
    return UserRequest(_known_fields(known), found["scontext"], found["tcontext"], found["tclass"], permissive)


def _is_senders(tclass: str, envelope: Envelope, known: str) -> bool:
    """Tell whether the sender manages this class. Kernel classes are never reported from user space.

    Android's init is the exception (properties are files there); the kernel writes its context before the message.
    """
    name = envelope.sender.get("exe", "").rpartition("/")[2]
    if name in _CLASSES:
        return tclass in _CLASSES[name]
    if tclass in _USER_CLASSES or tclass.startswith(("x_", "db_")):
        return True
    return envelope.head.get("subj", "").startswith("u:r:") and known.startswith("property=")


def _known_fields(known: str) -> dict[str, str]:
    systemd = _SYSTEMD.match(known)
    if systemd is None:
        return field.read_fields(known).values
    return {key: value for key, value in systemd.groupdict().items() if value is not None}
