"""Determine the type of the process behind a forged line, only from fields that the process cannot write."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sepolicyd.access import is_identifier
from sepolicyd.audit.model import Context
from sepolicyd.audit.parse.user_message import NEARLY_FULL

_LAST = re.compile(r".* scontext=([^ ]+) +tcontext=[^ ]+ +tclass=[A-Za-z0-9_]+(?: +permissive=[01])?\s*\Z", re.DOTALL)
_SUBJECT = re.compile(r"[^'\"]*? subj=([^ ]+)")
_KERNELS = re.compile(r"(?:node=[^ ]+ )?type=AVC ")
_SYSCALL = re.compile(r"(?:node=[^ ]+ )?type=SYSCALL .* subj=([^ ]+)", re.DOTALL)


def source_of_message(line: str) -> str:
    """Return the client's type in a record of an object manager, "" if the record does not prove it.

    libselinux writes the contexts last, after the client's text; they are missing if the message fills the buffer.
    """
    _, quote, rest = line.partition("msg='")
    if not quote:
        return ""
    message = rest[: max(rest.rfind(" exe="), 0)] or rest
    if len(message) < NEARLY_FULL and len(message.encode(errors="replace")) < NEARLY_FULL:
        found = _LAST.match(message)
        return _type(found[1]) if found else ""
    return ""


def sender_of_message(line: str) -> str:
    """Return the type of the process that sent a user-space record; the kernel writes it before the message."""
    found = _SUBJECT.match(line.partition("msg='")[0])
    return _type(found[1]) if found else ""


def source_of_event(lines: Iterable[bytes]) -> str:
    """Return the type of the process whose system call the records describe, "" if no record contains it."""
    texts = [line.decode(errors="replace").partition("\x1d")[0] for line in lines]
    for text in texts:
        # after the names, where the kernel writes it
        if _KERNELS.match(text):
            return _type(text.rpartition(" scontext=")[2].partition(" ")[0])
    for text in texts:
        found = _SYSCALL.match(text)
        if found:
            return _type(found[1])
    return next((source for source in map(sender_of_message, texts) if source), "")


def _type(context: str) -> str:
    found = Context.parse(context)
    return found.type if found is not None and is_identifier(found.type) else ""
