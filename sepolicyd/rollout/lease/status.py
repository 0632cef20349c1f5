"""Report the lease of a profile: deadline, open domains, problems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

from sepolicyd.errors import SepolicydError
from sepolicyd.profiles import Profile
from sepolicyd.rollout.clock import Moment
from sepolicyd.rollout.lease import exercises
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.lease import DAY_S, CorruptLease, Lease
from sepolicyd.rollout.lease.lease_records import leased_seconds
from sepolicyd.rollout.lease.lifecycle import _machine
from sepolicyd.rollout.lease.public_record import disagreement
from sepolicyd.settings import Settings


@dataclass(frozen=True)
class LeaseStatus:
    """The content of `learn status`."""

    lease: Optional[Lease]
    remaining: float
    """Seconds."""
    armed: bool
    """The lease's own timer is active."""
    enforcing: bool
    open_types: tuple[str, ...]
    """Types that are permissive in the kernel now."""
    foreign_types: tuple[str, ...]
    """The open types that no lease opened."""
    used_today: float
    """Leased seconds in the last 24 hours."""
    problems: tuple[str, ...]
    """One sentence each."""
    marks: tuple[exercises.ExerciseMark, ...] = ()
    known_types: frozenset[str] = frozenset()
    enabled: bool = True


def status(settings: Settings, profile: Profile, *, world: Optional[Environment] = None) -> LeaseStatus:
    """Read everything about the lease of a profile. An unreadable fact becomes a problem in the result, not an exception."""
    world = world or _machine(settings)
    problems: list[str] = []
    items = _read(world.book.all, [], problems)
    leases = [item for item in items if isinstance(item, Lease)]
    problems += [f"{item.path} is not a valid lease record: {item.reason}" for item in items if isinstance(item, CorruptLease)]
    now = world.clock.now()
    lease = next((item for item in leases if item.profile == profile.name), None)
    enabled = world.kernel.enabled()
    if not enabled:
        problems.append("SELinux is disabled on this machine")
    open_types = _read(world.kernel.permissive_types, frozenset(), problems) if enabled else frozenset()
    foreign = open_types - {name for item in leases for name in item.domains}
    armed = lease is not None and _read(lambda: world.timers.armed(lease), False, problems)
    marks = _read(lambda: exercises.read(exercises.path(settings.state)), [], problems)
    if world.book.public is not None:
        wrong = disagreement(world.book.public, items)
        problems += [wrong] if wrong else []
    problems += _lease_problems(lease, now, open_types, armed=armed)
    enforcing = enabled and _read(world.kernel.enforcing, False, problems)
    if enabled and _read(world.kernel.refuses_loads, False, problems):
        problems.append(
            "the boolean secure_mode_policyload is on: leases of a domain can be opened or ended only after a reboot"
        )
    known_types = _read(world.kernel.known_types, frozenset(), problems) if enabled else frozenset()
    history = _read(world.book.history, [], problems)
    return LeaseStatus(
        lease=lease,
        remaining=lease.remaining(now) if lease else 0.0,
        armed=armed,
        enforcing=enforcing,
        open_types=tuple(sorted(open_types)),
        foreign_types=tuple(sorted(foreign)),
        used_today=leased_seconds(history, now.wall - DAY_S, now.wall),
        problems=tuple(dict.fromkeys(problems)),
        marks=tuple(item for item in marks if item.profile == profile.name),
        known_types=known_types,
        enabled=enabled,
    )


def _lease_problems(lease: Optional[Lease], now: Moment, open_types: frozenset[str], *, armed: bool) -> list[str]:
    if lease is None:
        return []
    if lease.is_due(now):
        return [f"the lease of {lease.profile} is overdue; {lease.attempts} attempts to end it have failed"]
    problems = [] if armed else ["the lease's own timer is not armed; sepolicyd-lease.timer ends it within a minute"]
    closed = sorted(set(lease.domains) - open_types)
    if closed:
        problems.append(f"{', '.join(closed)} is not permissive although its lease is open: its module was removed")
    return problems


def _read(get: Callable[[], Any], missing: Any, problems: list[str]) -> Any:
    try:
        return get()
    except (SepolicydError, OSError) as error:
        problems.append(str(error))
        return missing
