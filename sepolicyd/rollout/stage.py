"""The stage of a profile's rollout: new, confined, learning, reviewing, trial or enforced."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Rollout(str, Enum):
    """How far a profile is on its way to enforcing."""

    NEW = "new"
    CONFINED = "confined"
    LEARNING = "learning"
    REVIEWING = "reviewing"
    TRIAL = "trial"
    ENFORCED = "enforced"


@dataclass(frozen=True)
class StageFacts:
    """Facts that decide the stage."""

    domains_loaded: bool
    """The loaded policy knows the profile's domains."""
    unconfined: bool = False
    """It allows one of them everything, so nothing is denied."""
    lease_open: bool = False
    """A lease is open and not due."""
    permissive: bool = False
    """A domain of the profile, or the whole machine, is permissive for whatever reason."""
    pending: int = 0
    """Undecided accesses."""
    unapplied: int = 0
    """Decisions that the loaded module does not contain yet."""
    trial_open: bool = False
    """A module was applied with --confirm-within and is not confirmed."""
    version: int = 0
    """Of the loaded module, 0 without one."""


@dataclass(frozen=True)
class StageReport:
    """A stage, its reason, and the command that leads on."""

    state: Rollout
    why: str
    next: str


def standing(facts: StageFacts) -> StageReport:
    """Return the stage. The most open stage that applies is reported, so that an opening is never hidden."""
    if not facts.domains_loaded:
        return StageReport(Rollout.NEW, "the loaded policy knows no domain of this service", "sepolicyd init")
    if facts.unconfined:
        return StageReport(Rollout.NEW, "the service runs unconfined, so nothing is denied to it", "sepolicyd init")
    if facts.lease_open:
        return StageReport(Rollout.LEARNING, "a lease is open", 'sepolicyd learn mark "NAME", then sepolicyd review')
    if facts.trial_open:
        return StageReport(Rollout.TRIAL, "a module waits to be confirmed", "sepolicyd confirm")
    if facts.permissive:
        return StageReport(Rollout.CONFINED, "it is permissive without a lease", "sepolicyd doctor")
    if facts.pending or facts.unapplied:
        waiting = f"{facts.pending} accesses are undecided, {facts.unapplied} decided changes are not applied"
        return StageReport(Rollout.REVIEWING, waiting, "sepolicyd review" if facts.pending else "sepolicyd apply")
    if not facts.version:
        return StageReport(
            Rollout.CONFINED, "its domain is loaded and enforced, nothing was learnt yet", "sepolicyd learn start"
        )
    return StageReport(
        Rollout.ENFORCED, f"version {facts.version} is loaded, enforced, and nothing is pending", "sepolicyd status"
    )
