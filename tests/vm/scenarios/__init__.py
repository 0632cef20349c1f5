"""The scenarios, in the order in which they are run."""

from __future__ import annotations

from tests.vm.bench import Scenario
from tests.vm.scenarios import smoke

ALL: tuple[Scenario, ...] = (smoke.SCENARIO,)
