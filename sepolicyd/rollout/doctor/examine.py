"""Gather the facts of this machine and check them."""

from __future__ import annotations

from sepolicyd.problems import Problem
from sepolicyd.profiles import Profile
from sepolicyd.rollout.doctor.checks import judge
from sepolicyd.settings import Settings


def examine(settings: Settings, profile: Profile) -> tuple[Problem, ...]:
    """Examine this machine and return its problems. A fact that cannot be examined is reported as a problem, too."""
    from sepolicyd.rollout.doctor.gather import gather

    return judge(gather(settings, profile), profile)
