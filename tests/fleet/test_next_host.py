"""The estimate for the next host, compared with simulated fleets."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from sepolicyd.fleet.next_host import CONFIDENCE, next_host

TRIALS = 300


def _fleet(chance: random.Random, hosts: int, features: int, size: int, spread: float) -> list[set[int]]:
    """Hosts with features of ``size`` accesses each; the features' probabilities follow a power law."""
    rates = [min(0.95, (number + 1) ** -spread) for number in range(features)]
    made = []
    for _ in range(hosts):
        having = [number for number, rate in enumerate(rates) if chance.random() < rate]
        made.append({number * size + part for number in having for part in range(size)})
    return made


def _estimated(fleet: Sequence[set[int]]) -> tuple[float, int, float]:
    counts = Counter(access for host in fleet for access in host)
    alone = [sum(counts[access] == 1 for access in host) for host in fleet]
    found = next_host(counts.values(), alone)
    assert found is not None
    return found.expected, found.upper, found.confidence


@pytest.mark.parametrize("hosts", [5, 10, 40])
@pytest.mark.parametrize(("features", "size", "spread"), [(200, 1, 1.0), (200, 1, 0.6), (60, 8, 1.1), (500, 1, 1.5)])
def test_the_bound_holds_for_a_host_that_was_not_seen(hosts: int, features: int, size: int, spread: float) -> None:
    chance = random.Random(f"{hosts} {features} {size} {spread}")
    held, brought, expected, confidence = 0, 0.0, 0.0, 0.0
    for _ in range(TRIALS):
        *fleet, last = _fleet(chance, hosts + 1, features, size, spread)
        point, upper, confidence = _estimated(fleet)
        new = len(last - set().union(*fleet))
        held += new <= upper
        brought += new / TRIALS
        expected += point / TRIALS
    assert confidence == (CONFIDENCE if hosts >= 19 else hosts / (hosts + 1))
    # of what was promised, less three standard deviations of this many trials
    slack = 3 * (confidence * (1 - confidence) / TRIALS) ** 0.5
    assert held / TRIALS >= confidence - slack
    assert expected == pytest.approx(brought, rel=0.35, abs=0.35)


def test_two_hosts_are_too_few() -> None:
    assert next_host([1, 2], [1, 0]) is None


def test_nothing_new_is_expected_where_every_host_showed_the_same() -> None:
    found = next_host([20] * 50, [0] * 20)
    assert found is not None
    assert (found.expected, found.upper) == (0.0, 0)
