"""The lease record: what is permissive until when, and everything that is needed to end it.

Standard library only: ``python -m sepolicyd.rollout.lease`` reads this with neither daemon nor database nor configuration.
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
# Keys that 0.1.0 does not know. A record without a value omits them, so that 0.1.0 can still end that lease after a downgrade.
OPTIONAL = frozenset(("why",))
MODULE_PREFIX = "sepolicyd_lease_"
DEFAULT_DIR = Path("/var/lib/sepolicyd/rollout")
DAY_S = 86400.0


class LeasePhase(str, Enum):
    """How far the opening of a lease has come. The values are part of the record's format."""

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
    """dontaudit rules were switched off for this lease."""
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
        """Name of the transient systemd timer, without suffix. It depends on the deadline, so that a renewal arms the new
        timer before it stops the old one."""
        return f"sepolicyd-lease-{self.id}-{int(self.deadline_boottime)}"

    @property
    def deadline(self) -> Deadline:
        """When it must be over; a reboot ends it."""
        return Deadline(self.deadline_wall, self.deadline_boottime, self.opened.boot_id)

    def is_due(self, now: Moment) -> bool:
        """Tell whether it must end."""
        return self.deadline.is_due(now)

    def remaining(self, now: Moment) -> float:
        """Return the seconds left, 0 when due."""
        return self.deadline.remaining(now)

    def until(self, now: Moment, seconds: float) -> Lease:
        """Return the same lease with a deadline ``seconds`` from now."""
        return replace(self, deadline_wall=now.wall + seconds, deadline_boottime=now.boottime + seconds)


@dataclass(frozen=True)
class CorruptLease:
    """A lease record that cannot be parsed. Everything that a lease may have opened is closed for it."""

    path: Path
    reason: str


def module_name(profile: str) -> str:
    """Return the name of a profile's lease module."""
    return MODULE_PREFIX + re.sub(r"[^A-Za-z0-9_]", "_", profile)


def module_text(domains: tuple[str, ...]) -> str:
    """Return CIL that makes these types permissive, one statement a line, sorted.

    Each statement is optional, so that a package can remove a type during a lease: semodule would otherwise reject the package.
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

    :raises ValueError: not a lease record of this schema
    """
    values = json.loads(text)
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
        values[key] = float(values[key])
    return Lease(**values)


def carry_lease(lease: Lease) -> str:
    """Encode a lease as one word of a command line, in characters that neither systemd nor a shell expands."""
    return base64.urlsafe_b64encode(json.dumps(_values(lease)).encode()).decode()


def carried_lease(word: str) -> Lease:
    """Decode what :func:`carry_lease` encoded.

    :raises ValueError: the word is not an encoded lease
    """
    return parse_lease(base64.urlsafe_b64decode(word).decode())
