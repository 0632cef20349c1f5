"""A lease in, its undo file out (written and fsynced before the act), and back; with the history of all leases beside it.

Standard library only: ``python -m sepolicyd.rollout.lease`` reads this with neither daemon nor database nor configuration.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from sepolicyd.rollout.clock import Moment

SCHEMA = 1
MODULE_PREFIX = "sepolicyd_lease_"
DEFAULT_DIR = Path("/var/lib/sepolicyd/rollout")
DAY_S = 86400.0
PLANNED, OPEN = "planned", "open"


@dataclass(frozen=True)
class Lease:
    """What is permissive until when, and all that is needed to end it.

    ``domains`` are the permissive types (empty for ``whole_system``), ``module`` the name of our module in the store.
    ``hidden``: dontaudit rules were switched off by us. ``unit``: the transient systemd timer, without suffix.
    ``services``: units that may be stopped as the last resort. ``phase``: planned (undo written, not yet open) or open.
    ``attempts``: failed tries to end it.
    """

    profile: str
    id: str
    domains: tuple[str, ...]
    whole_system: bool
    hidden: bool
    module: str
    priority: int
    opened: Moment
    deadline_wall: float
    deadline_boottime: float
    phase: str = PLANNED
    services: tuple[str, ...] = ()
    alert_command: tuple[str, ...] = ()
    by: str = ""
    attempts: int = 0
    schema: int = SCHEMA

    @property
    def unit(self) -> str:
        """Another name for another deadline, so that renewing arms the new timer before the old one goes."""
        return f"sepolicyd-lease-{self.id}-{int(self.deadline_boottime)}"

    def is_due(self, now: Moment) -> bool:
        """Whether it must end: another boot, or either clock has passed its deadline (a clock set back extends nothing)."""
        return now.boot_id != self.opened.boot_id or now.boottime >= self.deadline_boottime or now.wall >= self.deadline_wall

    def remaining(self, now: Moment) -> float:
        """Seconds left, 0 when due."""
        if self.is_due(now):
            return 0.0
        return min(self.deadline_boottime - now.boottime, self.deadline_wall - now.wall)

    def until(self, now: Moment, seconds: float) -> Lease:
        """The same lease ending ``seconds`` from now."""
        return replace(self, deadline_wall=now.wall + seconds, deadline_boottime=now.boottime + seconds)


@dataclass(frozen=True)
class CorruptLease:
    """An undo file that cannot be understood; it is ended like a lease of everything."""

    path: Path
    reason: str


def module_name(profile: str) -> str:
    """The name of a profile's lease module."""
    return MODULE_PREFIX + re.sub(r"[^A-Za-z0-9_]", "_", profile)


def module_text(domains: tuple[str, ...]) -> str:
    """CIL that makes these types permissive, one statement a line, sorted.

    Each is optional: a package that takes a type away in the middle of a lease would else be refused by semodule for our sake.
    """
    return "".join(
        f"(optional {MODULE_PREFIX}{re.sub(r'[^A-Za-z0-9_]', '_', name)} (typepermissive {name}))\n" for name in sorted(domains)
    )


def render_lease(lease: Lease) -> str:
    return json.dumps(asdict(lease), sort_keys=True, indent=1) + "\n"


def parse_lease(text: str) -> Lease:
    """:raises ValueError: not an undo file of this schema"""
    values = json.loads(text)
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        raise ValueError("not an undo file of this version")
    names = {spec.name for spec in fields(Lease)}
    if set(values) != names:
        raise ValueError(f"keys missing or unknown: {', '.join(sorted(names ^ set(values)))}")
    values["opened"] = Moment(**values["opened"])
    for key in ("domains", "services", "alert_command"):
        values[key] = tuple(str(item) for item in values[key])
    for key in ("deadline_wall", "deadline_boottime"):
        values[key] = float(values[key])
    return Lease(**values)


def carry_lease(lease: Lease) -> str:
    """A lease as one word of a command line, in letters that neither systemd nor a shell expands."""
    return base64.urlsafe_b64encode(json.dumps(asdict(lease)).encode()).decode()


def carried_lease(word: str) -> Lease:
    """The inverse of :func:`carry_lease`.

    :raises ValueError: it is none
    """
    return parse_lease(base64.urlsafe_b64decode(word).decode())
