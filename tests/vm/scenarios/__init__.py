"""The scenarios, in the order in which they are run."""

from __future__ import annotations

from tests.vm.bench import Scenario
from tests.vm.scenarios import deadline, domain, hand, hostile, paper, rotation, smoke

ALL: tuple[Scenario, ...] = tuple(module.SCENARIO for module in (smoke, hand, paper, domain, rotation, deadline, hostile))
