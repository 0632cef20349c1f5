"""Evidence of one host as a file: canonical JSON, by default without raw lines, paths and user names.

policies/schema/evidence.schema.json describes the format. Exports of other machines may be hostile: each value is checked
for type and size, names are checked as identifiers, and unknown keys are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sepolicyd.access import Access
from sepolicyd.errors import InputError
from sepolicyd.rules.evidence import Evidence
from sepolicyd.state import evidence_codec

FORMAT = "sepolicyd-evidence"
VERSION = 1
MAX_BYTES = 64 << 20
MAX_ACCESSES = 20_000
MAX_NAMES = 1000
HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\Z")
_HEX = re.compile(r"[0-9a-f]{32,64}\Z")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+:~-]{0,127}\Z")
_KEYS = frozenset(
    ("format", "version", "host", "machine", "created", "sepolicyd", "profile", "policy", "exercises", "taints", "accesses")
)
_ACCESS_KEYS = frozenset(("source", "target", "class", "permission", "role", "evidence"))


@dataclass(frozen=True, order=True)
class PolicyIdentity:
    """Base policy to which the evidence of a host belongs."""

    base_modules: str
    """SHA-256 over the modules of the distribution's policy (sepolicyd.fleet.policy_identity)."""
    name: str
    """SELINUXTYPE: targeted, default, mls."""
    system: str
    """ID and VERSION_ID of os-release(5)."""

    def to_values(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"base_modules": self.base_modules, "type": self.name, "system": self.system}

    def __str__(self) -> str:
        return f"{self.name} policy of {self.system} ({self.base_modules[:12]})"


@dataclass(frozen=True)
class HostExport:
    """Evidence of one profile on one host."""

    host: str
    machine: str
    """Application-specific hash of machine-id(5), which distinguishes two hosts of one name."""
    created: float
    """Epoch seconds by the clock of the host."""
    profile: str
    policy: PolicyIdentity
    evidence: Mapping[tuple[Access, str], Evidence]
    """By access and role."""
    exercises: tuple[str, ...] = ()
    """Names of the finished exercises, in order."""
    taints: tuple[str, ...] = ()
    """Reasons why this evidence is incomplete, one sentence each."""
    sepolicyd: str = ""
    """Version that wrote the file."""


def anonymous(seen: Evidence) -> Evidence:
    """Return the evidence without names of users, files and processes and without raw records."""
    return replace(
        seen, comms=(), exes=(), pids=(), paths=(), names=(), contexts=(), reasons=(), nodes=(), times=(), samples=()
    )


def render(export: HostExport) -> bytes:
    """Return the content of the file: sorted keys, one access per line, ASCII, a newline at the end."""
    head = {
        "format": FORMAT, "version": VERSION, "host": export.host, "machine": export.machine, "created": export.created,
        "sepolicyd": export.sepolicyd, "profile": export.profile,
        "policy": export.policy.to_values(),
        "exercises": list(export.exercises), "taints": list(export.taints),
    }  # fmt: skip
    lines = [f"{json.dumps(name)}: {json.dumps(value, sort_keys=True)}" for name, value in head.items()]
    accesses = [json.dumps(_access(key, seen), sort_keys=True) for key, seen in sorted(export.evidence.items())]
    text = ",\n".join([*lines, '"accesses": [' + ("\n" + ",\n".join(accesses) + "\n" if accesses else "") + "]"])
    return f"{{\n{text}\n}}\n".encode("ascii")


def _access(key: tuple[Access, str], seen: Evidence) -> dict[str, Any]:
    access, role = key
    return {
        "source": access.source, "target": access.target, "class": access.tclass, "permission": access.permission,
        "role": role, "evidence": evidence_codec.to_values(seen),
    }  # fmt: skip


def parse(data: bytes, name: str) -> HostExport:
    """Parse and check a file that another host wrote.

    :param name: file name for messages
    :raises InputError: the file is too large, truncated, of another version, or holds a value that :func:`render` never writes
    """
    try:
        return _export(_document(data))
    except _InvalidExportError as wrong:
        raise InputError(f"{name} is not a valid export of evidence: {wrong}", "export it again on that host") from None


class _InvalidExportError(ValueError):
    """Invalid value in an export, with a description."""


def _document(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise _InvalidExportError(f"it is larger than {MAX_BYTES >> 20} MiB")
    try:
        values = json.loads(data.decode("ascii"))
    except (ValueError, RecursionError):
        raise _InvalidExportError("it is truncated or not JSON") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise _InvalidExportError("it has another format")
    if values.get("version") != VERSION:
        raise _InvalidExportError(f"its version is {str(values.get('version'))[:20]}, this sepolicyd reads version {VERSION}")
    if set(values) != _KEYS:
        raise _InvalidExportError(f"keys are missing or unknown: {', '.join(sorted(set(values) ^ _KEYS))[:200]}")
    return values


def _export(values: Mapping[str, Any]) -> HostExport:
    policy = values["policy"]
    if not isinstance(policy, dict) or set(policy) != {"base_modules", "type", "system"}:
        raise _InvalidExportError("policy has an unexpected form")
    if type(values["created"]) not in (int, float) or not 0 <= values["created"] < evidence_codec.MAX_INTEGER:
        raise _InvalidExportError("created is not a time")
    return HostExport(
        host=_matching(values["host"], HOST_NAME, "host"),
        machine=_matching(values["machine"], _HEX, "machine"),
        created=float(values["created"]),
        profile=_matching(values["profile"], _WORD, "profile"),
        policy=PolicyIdentity(
            _matching(policy["base_modules"], _HEX, "policy.base_modules"),
            _matching(policy["type"], _WORD, "policy.type"),
            _matching(policy["system"], _WORD, "policy.system"),
        ),
        evidence=_accesses(values["accesses"]),
        exercises=_words(values["exercises"], "exercises"),
        taints=_texts(values["taints"], "taints"),
        sepolicyd=_matching(values["sepolicyd"], _WORD, "sepolicyd"),
    )


def _accesses(values: Any) -> dict[tuple[Access, str], Evidence]:
    if not isinstance(values, list) or len(values) > MAX_ACCESSES:
        raise _InvalidExportError(f"accesses is not a list of at most {MAX_ACCESSES} entries")
    found: dict[tuple[Access, str], Evidence] = {}
    for number, value in enumerate(values, start=1):
        try:
            key, seen = _one_access(value)
        except ValueError as wrong:
            raise _InvalidExportError(f"access {number}: {wrong}") from None
        if key in found:
            raise _InvalidExportError(f"access {number} is a duplicate")
        found[key] = seen
    return found


def _one_access(value: Any) -> tuple[tuple[Access, str], Evidence]:
    if not isinstance(value, dict) or set(value) != _ACCESS_KEYS:
        raise _InvalidExportError("its keys differ from those of an access")
    access = evidence_codec.access_of([value[key] for key in ("source", "target", "class", "permission")])
    role = value["role"]
    if not isinstance(role, str) or (role and not _WORD.match(role)):
        raise _InvalidExportError("its role is not a valid name")
    seen = evidence_codec.from_values(value["evidence"])
    if seen.hosts:
        raise _InvalidExportError("it is the result of a merge")
    return (access, role), seen


def _matching(value: Any, pattern: re.Pattern[str], key: str) -> str:
    if not isinstance(value, str) or not pattern.match(value):
        raise _InvalidExportError(f"{key} has an unexpected form")
    return value


def _words(values: Any, key: str) -> tuple[str, ...]:
    if not isinstance(values, list) or len(values) > MAX_NAMES:
        raise _InvalidExportError(f"{key} is not a list of names")
    return tuple(_matching(value, _WORD, key) for value in values)


def _texts(values: Any, key: str) -> tuple[str, ...]:
    if not isinstance(values, list) or len(values) > MAX_NAMES:
        raise _InvalidExportError(f"{key} is not a list of sentences")
    if not all(isinstance(value, str) and len(value) <= 1000 for value in values):
        raise _InvalidExportError(f"{key} is not a list of sentences")
    return tuple(values)
