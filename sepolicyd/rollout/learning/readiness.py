"""Readiness to enforce: how many accesses are still unseen, estimated from the exercises in which each access was seen.

The estimator is Chao2 in its bias-corrected form for incidence data: with t samples, Q1 accesses seen in exactly one of
them and Q2 in exactly two, at least (t-1)/t * Q1(Q1-1) / 2(Q2+1) are unseen.
A. Chao, "Estimating the population size for capture-recapture data with unequal catchability", Biometrics 43 (1987) 783;
A. Chao, "Species estimation and applications", Encyclopedia of Statistical Sciences (2005); R. K. Colwell and
J. A. Coddington, Phil. Trans. R. Soc. B 345 (1994) 101; variance and interval as in EstimateS (appendix B) and SpadeR.
The estimate is a lower bound and does not cover uses that were never exercised, so `ready` also requires the profile's
exercises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.rollout.learning.chao2 import Unseen, chao2
from sepolicyd.rules.evidence import MAX_KEPT, Evidence

MIN_EXERCISES = 3
UNSEEN_SHARE = 0.05  # not ready if more accesses than this share of those seen (and more than one) are estimated as unseen


@dataclass(frozen=True)
class CurvePoint:
    """One exercise of the accumulation curve."""

    name: str
    seen: int
    """Accesses seen in this exercise."""
    new: int
    """Accesses not seen in an earlier exercise."""


@dataclass(frozen=True)
class Readiness:
    """Readiness to enforce, with the reasons for it (``because``) and against it (``but``)."""

    unseen: Optional[Unseen]
    curve: tuple[CurvePoint, ...]
    undone: tuple[str, ...]
    because: tuple[str, ...]
    but: tuple[str, ...]

    @property
    def ready(self) -> bool:
        return not self.but and bool(self.because)


def curve(evidence: Mapping[Access, Evidence], order: Sequence[str]) -> tuple[CurvePoint, ...]:
    """Count seen and new accesses per exercise, in the order in which the exercises began."""
    met: set[Access] = set()
    steps = []
    for name in dict.fromkeys(order):
        in_exercise = {access for access, seen in evidence.items() if name in seen.exercises}
        steps.append(CurvePoint(name, len(in_exercise), len(in_exercise - met)))
        met |= in_exercise
    return tuple(steps)


def judge(
    evidence: Mapping[Access, Evidence],
    done: Sequence[str],
    wanted: Sequence[str],
    *,
    taints: Sequence[str] = (),
    hidden: bool = True,
) -> Readiness:
    """Collect the reasons for and against enforcing now.

    :param evidence: all accesses of the profile, with the exercises in which each was seen
    :param done: names of the exercises in the order in which they began (repeated names count once)
    :param wanted: the profile's exercises
    :param taints: reasons why the evidence is incomplete or unreliable, one sentence each
    :param hidden: whether dontaudit rules were off while learning
    """
    names = tuple(dict.fromkeys(done))
    undone = tuple(name for name in wanted if name not in names)
    steps = curve(evidence, names)
    estimate = chao2((len(seen.exercises) for seen in evidence.values()), len(names))
    because: list[str] = []
    but = [f"tainted: {text}" for text in taints]
    _judge_exercises(names, wanted, undone, because, but)
    _judge_curve(steps, because, but)
    _judge_estimate(estimate, because, but)
    if not hidden:
        but.append("dontaudit rules were active, so the denials that they suppress were not logged (learn start --hidden)")
    if len(names) > MAX_KEPT:
        but.append(f"{len(names)} exercises were done, but only {MAX_KEPT} are kept per access: the estimate is too low")
    return Readiness(estimate, steps, undone, tuple(because), tuple(but))


def _judge_exercises(
    names: Sequence[str], wanted: Sequence[str], undone: Sequence[str], because: list[str], but: list[str]
) -> None:
    if undone:
        but.append(f"not done yet: {', '.join(undone)}")
    elif wanted:
        because.append(f"all {len(wanted)} exercises of the profile are done")
    if len(names) < MIN_EXERCISES:
        but.append(f"{len(names)} exercises are too few for an estimate; do at least {MIN_EXERCISES} (learn mark NAME)")


def _judge_curve(steps: Sequence[CurvePoint], because: list[str], but: list[str]) -> None:
    if len(steps) < MIN_EXERCISES:
        return
    last = steps[-1]
    if last.new:
        but.append(f"the last exercise, {last.name}, revealed {last.new} new accesses")
    else:
        because.append(f"the last exercise, {last.name}, revealed no new access")


def _judge_estimate(estimate: Optional[Unseen], because: list[str], but: list[str]) -> None:
    if estimate is None:
        return
    text = (
        f"about {estimate.unseen:.0f} accesses are still unseen (Chao2; 95 %: {max(0.0, estimate.lower - estimate.seen):.0f}"
        f" to {estimate.upper - estimate.seen:.0f}), {estimate.seen} are seen, {estimate.uniques} of them only once"
    )
    (but if estimate.unseen > max(1.0, UNSEEN_SHARE * estimate.seen) else because).append(text)
