"""The scenarios, in the order in which they are run."""

from __future__ import annotations

from tests.vm.bench import Scenario
from tests.vm.scenarios import change, deadline, domain, hand, hostile, paper, rotation, smoke, survive

ALL: tuple[Scenario, ...] = tuple(
    module.SCENARIO for module in (smoke, hand, paper, domain, survive, rotation, change, deadline, hostile)
)
