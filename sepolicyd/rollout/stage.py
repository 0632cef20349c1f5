"""The stage of a profile's rollout: new, confined, learning, reviewing, trial or enforced."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Rollout(str, Enum):
    """Stages of a rollout, from a service without policy to an enforced one."""

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
    """The loaded policy defines the profile's domains."""
    unconfined: bool = False
    """A domain of the profile is unconfined, so its accesses are never denied."""
    lease_open: bool = False
    """A lease is open and not due."""
    permissive: bool = False
    """A domain of the profile, or the whole machine, is permissive for any reason."""
    pending: int = 0
    """Undecided accesses."""
    unapplied: int = 0
    """Decisions that the loaded module does not contain yet."""
    trial_open: bool = False
    """A module was applied with --confirm-within and is not confirmed."""
    version: int = 0
    """Version of the loaded module, 0 without one."""


@dataclass(frozen=True)
class StageReport:
    """A stage, its reason, and the command for the next step."""

    state: Rollout
    why: str
    next: str


def stage_report(facts: StageFacts) -> StageReport:
    """Return the stage. Of several that apply, the most permissive one is reported."""
    if not facts.domains_loaded:
        return StageReport(Rollout.NEW, "the loaded policy defines no domain of this service", "sepolicyd init")
    if facts.unconfined:
        return StageReport(Rollout.NEW, "the service runs unconfined, so its accesses are never denied", "sepolicyd init")
    if facts.lease_open:
        return StageReport(Rollout.LEARNING, "a lease is open", 'sepolicyd learn mark "NAME", then sepolicyd review')
    if facts.trial_open:
        return StageReport(Rollout.TRIAL, "a module on trial awaits confirmation", "sepolicyd confirm")
    if facts.permissive:
        return StageReport(Rollout.CONFINED, "a domain or the machine is permissive without a lease", "sepolicyd doctor")
    if facts.pending or facts.unapplied:
        waiting = f"{facts.pending} accesses are undecided, {facts.unapplied} decided changes are not applied"
        return StageReport(Rollout.REVIEWING, waiting, "sepolicyd review" if facts.pending else "sepolicyd apply")
    if not facts.version:
        return StageReport(
            Rollout.CONFINED, "the domain is loaded and enforced, but nothing has been learned yet", "sepolicyd learn start"
        )
    return StageReport(
        Rollout.ENFORCED, f"version {facts.version} is loaded, enforced, and nothing is pending", "sepolicyd status"
    )
