"""The scenarios, longest first, so that two lanes end at about the same time."""

from __future__ import annotations

from tests.vm.bench import Scenario
from tests.vm.scenarios import change, cut, deadline, domain, forgery, hand, hostile, package, paper, rotation, smoke, survive

ALL: tuple[Scenario, ...] = tuple(
    module.SCENARIO
    for module in (smoke, domain, hand, hostile, survive, package, paper, deadline, cut, forgery, change, rotation)
)
