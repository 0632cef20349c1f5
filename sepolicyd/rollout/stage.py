"""Facts about one profile in, its rollout state out: new, confined, learning, reviewing, trial or enforced."""

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
    """What is true now. ``domains_loaded``: the loaded policy knows the profile's domains.

    ``unconfined``: the loaded policy lets them do everything, so nothing is denied. ``lease_open``: a lease of ours is
    open and not due. ``permissive``: a domain of the profile, or the whole machine, is permissive for whatever reason.
    ``pending``: undecided accesses. ``unapplied``: decisions that the loaded module does not hold yet.
    ``trial_open``: a module was applied with --confirm-within and is not confirmed. ``version``: of the loaded module, or 0.
    """

    domains_loaded: bool
    unconfined: bool = False
    lease_open: bool = False
    permissive: bool = False
    pending: int = 0
    unapplied: int = 0
    trial_open: bool = False
    version: int = 0


@dataclass(frozen=True)
class StageReport:
    """A state, why it is that one, and the command that leads on."""

    state: Rollout
    why: str
    next: str


def standing(facts: StageFacts) -> StageReport:
    """The first of these that holds; what is more open wins over what is more closed, so that it is never hidden."""
    if not facts.domains_loaded:
        return StageReport(Rollout.NEW, "the loaded policy knows no domain of this service", "sepolicyd init")
    if facts.unconfined:
        return StageReport(Rollout.NEW, "the service runs unconfined, so nothing is denied to it", "sepolicyd init")
    if facts.lease_open:
        return StageReport(Rollout.LEARNING, "a lease is open", 'sepolicyd learn mark "NAME", then sepolicyd review')
    if facts.trial_open:
        return StageReport(Rollout.TRIAL, "a module waits to be confirmed", "sepolicyd confirm")
    if facts.permissive:
        return StageReport(Rollout.CONFINED, "it is permissive without a lease of ours", "sepolicyd doctor")
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
