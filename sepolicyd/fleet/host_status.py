"""Status files of many hosts (`sepolicyd status --json`), read into one table.

Each file was written by another machine, which may be hostile: a file with a value of another type or form is refused.
Status files are displayed and decide nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from sepolicyd.errors import InputError
from sepolicyd.fleet.host_export import HOST_NAME
from sepolicyd.rollout.stage import Rollout
from sepolicyd.rules.guard.level import GuardLevel

PATTERN = "*.json"
MAX_BYTES = 4 << 20
MAX_COUNT = 1 << 31
STALE_SECONDS = 3600.0
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class HostStatus:
    """The displayed part of the status of one profile on one host."""

    host: str
    profile: str
    state: Rollout
    at: float
    """Time of writing in epoch seconds, by the host's clock."""
    sepolicyd: str
    pending: Mapping[GuardLevel, int]
    version: int
    """Of the loaded module, 0 for none."""
    module: str
    """SHA-256 of the loaded module of decisions, "" for none."""
    base_policy: str
    """SHA-256 over the modules of the distribution's policy, "" if unknown."""
    enforcing: Optional[bool]
    """None: the host's status was not written by root."""
    deadline: Optional[float] = None
    """Epoch seconds at which the open lease ends; None without a lease."""
    permissive: tuple[str, ...] = ()
    """Types that are permissive without a lease."""
    attention: tuple[str, ...] = ()
    """Reasons to examine this host; set by :func:`compare`."""

    @property
    def drift(self) -> bool:
        """Whether the module differs from that of the other hosts."""
        return any(text.startswith("drift") for text in self.attention)


@dataclass(frozen=True)
class RefusedStatus:
    """A file that is not shown."""

    file: str
    why: str


def read_statuses(directory: Path) -> tuple[list[HostStatus], list[RefusedStatus]]:
    """Read every status file of a directory, sorted by name.

    :raises InputError: it is not a directory, or holds no file
    """
    if not directory.is_dir():
        raise InputError(f"{directory} is not a directory", "name the directory that holds one status file for each host")
    read: list[HostStatus] = []
    refused: list[RefusedStatus] = []
    names: dict[tuple[str, str], str] = {}
    for path in sorted(directory.glob(PATTERN)):
        try:
            status = parse_status(_content(path))
        except (OSError, ValueError) as error:
            refused.append(RefusedStatus(path.name, str(error)))
            continue
        key = (status.host, status.profile)
        if key in names:
            why = f"{names[key]} has the status of {status.profile} on host {status.host} too"
            refused.append(RefusedStatus(path.name, why))
        else:
            names[key] = path.name
            read.append(status)
    if not read and not refused:
        raise InputError(f"{directory} holds no file {PATTERN}", "on each host: sepolicyd status --json >HOST.json")
    return read, refused


def parse_status(text: str) -> HostStatus:
    """Parse one status file.

    :raises ValueError: the text is not JSON, or a value is malformed
    """
    try:
        given = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(given, dict) or "host" not in given:
        raise ValueError("it is not a status file of sepolicyd 0.2.0 or later (no key host)")
    pending = given.get("pending")
    lease = given.get("lease")
    if not isinstance(pending, dict) or not isinstance(lease, (dict, type(None))):
        raise ValueError("pending and lease must be objects")  # noqa: TRY004 one error for every wrong file
    inner = lease.get("lease") if lease is not None else None
    return HostStatus(
        host=_text(given, "host", HOST_NAME),
        profile=_text(given, "profile", _NAME),
        state=Rollout(given.get("state")),
        at=_number(given, "at"),
        sepolicyd=_text(given, "sepolicyd", _NAME),
        pending={level: int(_number(pending, level.value)) for level in GuardLevel},
        version=int(_number(given, "version")),
        module=_digest(given, "module_sha256"),
        base_policy=_digest(given, "base_policy"),
        enforcing=None if lease is None else bool(lease.get("enforcing")),
        deadline=_number(inner, "deadline") if isinstance(inner, dict) else None,
        permissive=_types(lease),
    )


def compare(statuses: Sequence[HostStatus], now: float) -> list[HostStatus]:
    """Find reasons to examine each host, and sort hosts with a reason first.

    Hosts of one profile and one base policy with the same decisions have the same module, byte for byte; a host differs if its
    module is not the most frequent one. If two modules are equally frequent, all hosts differ.

    :param now: epoch seconds
    """
    usual = _usual_modules(statuses)
    shown = [replace(status, attention=tuple(_attention(status, usual, now))) for status in statuses]
    return sorted(shown, key=lambda status: (not status.attention, status.host, status.profile))


def _usual_modules(statuses: Iterable[HostStatus]) -> dict[tuple[str, str], str]:
    """Return the most frequent module by (profile, base policy), "?" if two are equally frequent."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for status in statuses:
        counts[status.profile, status.base_policy][status.module] += 1
    usual = {}
    for key, count in counts.items():
        ranked = count.most_common(2)
        usual[key] = ranked[0][0] if len(ranked) == 1 or ranked[0][1] > ranked[1][1] else "?"
    return usual


def _attention(status: HostStatus, usual: Mapping[tuple[str, str], str], now: float) -> Iterable[str]:
    if status.deadline is not None and status.deadline < status.at:
        yield "its lease is overdue"
    if status.enforcing is False and status.deadline is None:
        yield "it is permissive without a lease"
    if status.permissive:
        yield f"permissive without a lease: {', '.join(status.permissive)}"
    if status.enforcing is None:
        yield "its status was not written by root: lease and mode are unknown"
    if status.module != usual[status.profile, status.base_policy]:
        yield f"drift: its module differs from that of the other hosts ({status.module[:12] or 'no module'})"
    if now - status.at > STALE_SECONDS:
        yield f"its status is {int((now - status.at) // 60)} minutes old"
    if status.at - now > STALE_SECONDS:
        yield "its status is from the future: compare the clocks"


def _content(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it is not a file of at most {MAX_BYTES >> 20} MiB")
    return path.read_text(encoding="utf-8")


def _text(values: Mapping[str, Any], key: str, form: re.Pattern[str]) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not form.match(value):
        raise ValueError(f"{key} has not the expected form")
    return value


def _digest(values: Mapping[str, Any], key: str) -> str:
    return "" if values.get(key) is None else _text(values, key, _DIGEST)


def _number(values: Mapping[str, Any], key: str) -> float:
    value = values.get(key)
    limit = MAX_COUNT if key not in {"at", "deadline"} else 1e11
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value <= limit:
        raise ValueError(f"{key} is not a number of the expected size")
    return float(value)


def _types(lease: Optional[Mapping[str, Any]]) -> tuple[str, ...]:
    names = [] if lease is None else lease.get("foreign_permissive_types", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and _NAME.match(name) for name in names):
        raise ValueError("foreign_permissive_types must be names of types")
    return tuple(names)
