"""The lease record: the permissive types, the deadline, and everything that is needed to end the lease.

Standard library only, because ``python -m sepolicyd.rollout.lease`` must work without daemon, database and configuration.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

from sepolicyd.rollout.clock import Deadline, Moment

SCHEMA = 1
# Keys unknown to 0.1.0. They are omitted if empty, so that 0.1.0 can end the lease after a downgrade.
OPTIONAL = frozenset(("why",))
MODULE_PREFIX = "sepolicyd_lease_"
DEFAULT_DIR = Path("/var/lib/sepolicyd/rollout")
DAY_S = 86400.0
LAST_SECOND = 1e11
"""No clock of a machine is later (the year 5138)."""


class LeasePhase(str, Enum):
    """Progress of opening a lease. The values are part of the record's format."""

    PLANNED = "planned"  # the record is on the disk, nothing is open yet
    OPEN = "open"


@dataclass(frozen=True)
class Lease:
    """One lease. Field names and values are the record's format (schema 1), which armed timers carry across upgrades."""

    profile: str
    id: str
    domains: tuple[str, ...]
    """The permissive types; empty for ``whole_system``."""
    whole_system: bool
    """`setenforce 0` instead of permissive types."""
    hidden: bool
    """dontaudit rules were disabled for this lease."""
    module: str
    """Name of the lease's module in the store, installed at ``priority``."""
    priority: int
    opened: Moment
    deadline_wall: float
    """Epoch seconds."""
    deadline_boottime: float
    """Seconds of CLOCK_BOOTTIME in the boot in which the lease was opened."""
    phase: LeasePhase = LeasePhase.PLANNED
    services: tuple[str, ...] = ()
    """Units that may be stopped as the last resort."""
    alert_command: tuple[str, ...] = ()
    by: str = ""
    """The user who opened it."""
    attempts: int = 0
    """Failed attempts to end it."""
    why: str = ""
    """The reason that this user gave."""
    schema: int = SCHEMA

    @property
    def unit(self) -> str:
        """Name of the transient systemd timer, without suffix.

        The name contains the deadline, so that a renewal can arm the new timer before it stops the old one.
        """
        return f"sepolicyd-lease-{self.id}-{int(self.deadline_boottime)}"

    @property
    def deadline(self) -> Deadline:
        """The end of the lease; a reboot ends it earlier."""
        return Deadline(self.deadline_wall, self.deadline_boottime, self.opened.boot_id)

    def is_due(self, now: Moment) -> bool:
        """Tell whether the deadline has passed."""
        return self.deadline.is_due(now)

    def remaining(self, now: Moment) -> float:
        """Return the seconds left, 0 when due."""
        return self.deadline.remaining(now)

    def until(self, now: Moment, seconds: float) -> Lease:
        """Return the same lease with a deadline ``seconds`` from now."""
        return replace(self, deadline_wall=now.wall + seconds, deadline_boottime=now.boottime + seconds)


@dataclass(frozen=True)
class CorruptLease:
    """A lease record that cannot be parsed. Since its content is unknown, everything that a lease may open is closed."""

    path: Path
    reason: str


def module_name(profile: str) -> str:
    """Return the name of a profile's lease module."""
    return MODULE_PREFIX + re.sub(r"[^A-Za-z0-9_]", "_", profile)


def module_text(domains: tuple[str, ...]) -> str:
    """Return CIL that makes these types permissive, one statement per line, sorted.

    Each statement stands in an optional block: otherwise semodule would reject a package that removes a type during a lease.
    """
    return "".join(
        f"(optional {MODULE_PREFIX}{re.sub(r'[^A-Za-z0-9_]', '_', name)} (typepermissive {name}))\n" for name in sorted(domains)
    )


def render_lease(lease: Lease) -> str:
    """Return the record's JSON text."""
    return json.dumps(_values(lease), sort_keys=True, indent=1) + "\n"


def _values(lease: Lease) -> dict[str, Any]:
    return {key: value for key, value in asdict(lease).items() if value or key not in OPTIONAL}


def parse_lease(text: str) -> Lease:
    """Parse a record.

    :raises ValueError: not a lease record of this schema, or a time that no clock reaches (NaN would never be due)
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("not a lease record") from None
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        raise ValueError("not a lease record of this version")
    names = {spec.name for spec in fields(Lease)}
    wrong = (names ^ set(values)) - (OPTIONAL & names)
    if wrong:
        raise ValueError(f"keys missing or unknown: {', '.join(sorted(wrong))}")
    values["opened"] = Moment(**values["opened"])
    for key in ("domains", "services", "alert_command"):
        values[key] = tuple(str(item) for item in values[key])
    values["why"] = str(values.get("why", ""))
    values["phase"] = LeasePhase(values["phase"])
    for key in ("deadline_wall", "deadline_boottime"):
        values[key] = _seconds(values[key])
    opened = values["opened"]
    values["opened"] = Moment(_seconds(opened.wall), _seconds(opened.boottime), str(opened.boot_id))
    if not all(isinstance(values[key], str) for key in ("profile", "id", "module")) or type(values["priority"]) is not int:
        raise ValueError("a name or the priority has a wrong type")
    return Lease(**values)


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < LAST_SECOND:
        raise ValueError(f"{str(value)[:40]} is not a point in time")
    return float(value)


def carry_lease(lease: Lease) -> str:
    """Encode a lease as one command-line argument, in characters that neither systemd nor a shell expands."""
    return base64.urlsafe_b64encode(json.dumps(_values(lease)).encode()).decode()


def carried_lease(word: str) -> Lease:
    """Decode the result of :func:`carry_lease`.

    :raises ValueError: the argument is not an encoded lease
    """
    return parse_lease(base64.urlsafe_b64decode(word).decode())
