"""Gather the facts of this machine and judge them."""

from __future__ import annotations

from sepolicyd.problems import Problem
from sepolicyd.profiles import Profile
from sepolicyd.rollout.doctor.checks import judge
from sepolicyd.settings import Settings


def examine(settings: Settings, profile: Profile) -> tuple[Problem, ...]:
    """Look at this machine and judge it. Never raises for what it cannot ask: that is a finding too."""
    from sepolicyd.rollout.doctor.gather import gather

    return judge(gather(settings, profile), profile)
