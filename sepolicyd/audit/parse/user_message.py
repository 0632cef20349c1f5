"""The message that an object manager in user space sends: the ``msg='...'`` of USER_AVC and its kin.

The kernel writes the sender's pid, uid and context in front of it. Inside stand, in this order: the decision (libselinux,
avc_audit in avc.c), what the sender knows of the request (systemd's selinux-access.c: the command line of the client, raw
and in quotes that it can close), the contexts, and what libaudit adds (audit_log_user_avc_message). libselinux formats
into 1,024 bytes and cuts silently, so that a client with a long command line can push the contexts out and leave a pair
of its own choice. Therefore nothing is believed of a message that is cut, or that has contexts twice.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional, Union

from sepolicyd.audit.model import UnparsedReason
from sepolicyd.audit.parse import fields as field

BUFFER = 1024
NEARLY_FULL = BUFFER - 24
"""From this length on a message counts as cut: auditd and relays add or drop blanks at its end."""
_HEAD = re.compile(r"(?:[^ '\"]+ )+msg='")
# The separator may have become a picture (a terminal) or an escape (rsyslog); it stands behind the closing quote.
_ENRICHMENT = re.compile(r'(?:[ \x1d\u241d]|#035)*(?:[A-Z][A-Z0-9_]*=(?:"[^"]*"|[^ "]*)(?: +|\Z))*\Z')
# libaudit, present and before 2008: " exe=... sauid=81 hostname=? addr=? terminal=?" and ": exe=... (sauid=0, ...)".
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
# Senders that write what they know of the request in front of the contexts, and the classes that are theirs.
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
    """pid, uid, subj ... of the sender, written by the kernel."""
    message: str
    """What the sender wrote, without what libaudit adds."""
    sender: dict[str, str]
    """exe and sauid, added by libaudit in the sender's process."""


class UserRequest(NamedTuple):
    """What stands behind the decision of a user-space AVC."""

    values: dict[str, str]
    scontext: str
    tcontext: str
    tclass: str
    permissive: Optional[bool]


def open_envelope(body: str) -> Union[Envelope, UnparsedReason]:
    """Take the body of a USER_* record apart, or say why it cannot be believed."""
    head = _HEAD.match(body)
    if head is None:
        return UnparsedReason.NO_MESSAGE
    end = body.rfind("'")
    if end < head.end():
        # the end is missing: a client's text, which stands in quotes, might have been cut in its middle
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
    """The request behind the decision, or why it is not believed.

    :param start: where the decision ends in the message
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
    """Whether this sender decides about this class: the kernel's own classes are never reported from user space.

    Android's init is the exception (properties are files there); the kernel names its context in front of the message.
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
