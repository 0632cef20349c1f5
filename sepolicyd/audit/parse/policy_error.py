"""Parse SELINUX_ERR records, the errors of the kernel's security server (security/selinux/ss/services.c).

Four operations carry two contexts and become a :class:`Denial`: permissions masked by bounds (security_compute_av) under their
own names, the others with the operation in place of the permission (see :class:`ErrorOperation`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Union

from sepolicyd.access import is_identifier
from sepolicyd.audit.model import (
    AvcDecision,
    Context,
    Denial,
    ErrorOperation,
    EventId,
    Kind,
    PolicyError,
    UnparsedReason,
)
from sepolicyd.audit.parse import fields as field
from sepolicyd.audit.parse.companions import Companions

# "op=security_compute_sid ..." and, before Linux 3.18, "security_compute_sid:  invalid context CONTEXT for scontext=...".
_OPERATION = re.compile(r"[ \t]*(?:op=)?(?P<name>security_[a-z_]+|setxattr|fscreate|exec|[a-z]+create)\b:?[ \t]*")
_OLD_WORDS = re.compile(r"(?:invalid context (?P<invalid>[^ \t\"]+) for|denied for)?[ \t]*")
# The fields of the two contexts of each operation, and the additional context to keep.
_CONTEXTS_OF = {
    ErrorOperation.BOUNDED_TRANSITION: ("oldcontext", "newcontext", ""),
    ErrorOperation.COMPUTE_SID: ("scontext", "invalid_context", "tcontext"),
    ErrorOperation.VALIDATE_TRANSITION: ("taskcontext", "newcontext", "oldcontext"),
}
Found = Union[Denial, PolicyError, tuple[UnparsedReason, str]]


def read(event: EventId, body: str, companions: Companions, raw: tuple[str, ...]) -> Found:
    """Parse an SELINUX_ERR, or return the reason why it cannot be read."""
    plain = body.partition(field.SEPARATOR)[0]
    operation = _OPERATION.match(plain)
    if operation is None:
        return UnparsedReason.UNKNOWN_ERROR, plain[:80]
    words = _OLD_WORDS.match(plain, operation.end())
    start = operation.end() if words is None else words.end()
    found = field.read_fields(plain, start)
    values = dict(found.values)
    if words is not None and words["invalid"]:
        values["invalid_context"] = words["invalid"]
    if found.twice & {"scontext", "tcontext", "tclass", "oldcontext", "newcontext", "taskcontext"}:
        return UnparsedReason.CONTEXTS_TWICE, ", ".join(sorted(found.twice))[:80]
    named = ErrorOperation.of(operation["name"])
    if named is not None:
        source, target, aside = _CONTEXTS_OF[named]
        extra = {key: values[key] for key in ("seresult", "reason", aside) if key in values}
        return _denial(event, values, (source, target), (named.value,), extra, companions, raw)
    if values.get("perms"):
        permissions = tuple(dict.fromkeys(values["perms"].replace(",", " ").split()))
        extra = {key: values[key] for key in ("reason",) if key in values}
        return _denial(event, values, ("scontext", "tcontext"), permissions, extra, companions, raw)
    if "invalid_context" not in values:
        return UnparsedReason.UNKNOWN_ERROR, plain[:80]
    syscall = companions.syscall
    return PolicyError(
        event=event,
        operation=operation["name"],
        invalid_context=values["invalid_context"],
        scontext=Context.parse(syscall.get("subj", "")),
        comm=syscall.get("comm", ""),
        exe=syscall.get("exe", ""),
        raw=raw,
    )


def _denial(
    event: EventId,
    values: Mapping[str, str],
    keys: tuple[str, str],
    permissions: tuple[str, ...],
    extra: Mapping[str, str],
    companions: Companions,
    raw: tuple[str, ...],
) -> Union[Denial, tuple[UnparsedReason, str]]:
    contexts = []
    for key in keys:
        context = Context.parse(values.get(key, ""))
        if context is None or not is_identifier(context.type):
            return UnparsedReason.BAD_CONTEXT, f"{key}={values.get(key, '')[:80]}"
        contexts.append(context)
    tclass = values.get("tclass", "process")
    for name in (*permissions, tclass):
        if not is_identifier(name):
            return UnparsedReason.BAD_NAME, name[:40]
    return Denial(
        event=event,
        kind=Kind.SELINUX_ERR,
        verdict=AvcDecision.DENIED,
        scontext=contexts[0],
        tcontext=contexts[1],
        tclass=tclass,
        permissions=permissions,
        extra=tuple(sorted(extra.items())),
        raw=raw,
        **companions.process({}),
    )
