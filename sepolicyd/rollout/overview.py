"""Settings, a profile and the evidence in, everything that `status` shows on one screen out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, TypeVar

from sepolicyd.access import Access
from sepolicyd.errors import SepolicydError
from sepolicyd.profiles import Profile
from sepolicyd.rollout import lease as leases
from sepolicyd.rollout import readiness, taint, trial
from sepolicyd.rollout.history import Entry, History
from sepolicyd.rollout.plan import module_name
from sepolicyd.rollout.state import Facts, Standing, standing
from sepolicyd.rollout.undo import LeaseBook
from sepolicyd.rollout.versions import NONE, Versions
from sepolicyd.rollout.world import World
from sepolicyd.rules.evidence import Evidence
from sepolicyd.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Overview:
    """``evidence`` is the given one with taints; ``last`` the newest line of history; ``problems`` what could not be read."""

    standing: Standing
    lease: leases.LeaseStatus
    readiness: readiness.Readiness
    taints: tuple[taint.Taint, ...]
    evidence: Mapping[Access, Evidence]
    version: int
    trial: Optional[trial.Trial]
    trial_seconds: float
    last: Optional[Entry]
    problems: tuple[str, ...]


def overview(
    settings: Settings,
    profile: Profile,
    evidence: Mapping[Access, Evidence],
    remarks: Sequence[taint.Remark],
    *,
    pending: int,
    unapplied: int,
    unconfined: bool = False,
    world: Optional[World] = None,
) -> Overview:
    """
    :param evidence: all accesses of the profile, exercises assigned
    :param remarks: what the daemon noted beside them (policy loads, switches, losses)
    :param pending: undecided accesses
    :param unapplied: decided ones that the loaded module does not hold
    :param unconfined: the loaded policy lets a domain of the profile do everything
    :raises RefusedError: not called by root
    """
    problems: list[str] = []
    state = leases.status(settings, profile, world=world)
    book = world.book if world else LeaseBook(settings.rollout_dir)
    no_lines: list[dict[str, Any]] = []
    history = _read(book.history, no_lines, problems)
    now = trial.now() if world is None else world.clock.now()
    windows = taint.windows(history, profile.name, now.wall)
    entries: list[Entry] = _read(History(settings.rollout_dir).entries, [], problems)
    ours = taint.own_acts(history, [mark.epoch for mark in state.marks], [entry.at for entry in entries])
    found = taint.taints(remarks, windows, ours)
    running = _read(lambda: trial.read_trial(settings), None, problems)
    versions = Versions(settings.rollout_dir, module_name(profile.name))
    version = _read(versions.current, NONE, problems)
    own = frozenset(name for name in profile.domains if name not in profile.unpoliced)
    facts = Facts(
        domains_loaded=bool(own & state.known_types),
        unconfined=unconfined,
        lease_open=state.lease is not None and state.remaining > 0,
        permissive=bool(own & frozenset(state.open_types)) or not state.enforcing,
        pending=pending,
        unapplied=unapplied,
        trial_open=running is not None,
        version=version,
    )
    return Overview(
        standing=standing(facts),
        lease=state,
        readiness=readiness.judge(
            evidence,
            [mark.name for mark in state.marks],
            [exercise.name for exercise in profile.exercises],
            taints=taint.summary(found),
            hidden=any(window.hidden for window in windows),
        ),
        taints=found,
        evidence=taint.colour(evidence, found, own),
        version=version,
        trial=running,
        trial_seconds=running.remaining(now) if running else 0.0,
        last=entries[-1] if entries else None,
        problems=tuple(dict.fromkeys((*state.problems, *problems))),
    )


def _read(get: Callable[[], T], missing: T, problems: list[str]) -> T:
    try:
        return get()
    except (SepolicydError, OSError) as error:
        problems.append(str(error))
        return missing
