"""Boolean effects, compared with setools' expansion of the conditional rules."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from sepolicyd.access import Access
from sepolicyd.policy import boolean_effects
from sepolicyd.policy.boolean_effects import opened, opened_count
from sepolicyd.policy.index import PolicyIndex
from tests.cli.asking import under_boolean
from tests.policy.toys import DISTRIBUTION, FURTHER_POLICIES, compile_cil, needs_distribution, needs_secilc, types


@needs_distribution
def test_a_boolean_of_the_distribution_opens_what_its_rules_say(distribution: PolicyIndex) -> None:
    rows = under_boolean(DISTRIBUTION, "httpd_can_network_connect")
    expected = {
        Access.of(source, target, tclass, permission)
        for source, target, tclass, permission in rows
        if not distribution.grants(source, target, tclass, permission)
    }
    assert opened(distribution, {"httpd_can_network_connect": True}, distribution.booleans) == expected
    assert len(expected) > 1000


@needs_distribution
def test_what_is_on_already_and_what_is_unknown_opens_nothing(distribution: PolicyIndex) -> None:
    on = {**distribution.booleans, "httpd_can_network_connect": True}
    assert not opened(distribution, {"httpd_can_network_connect": True}, on)
    assert not opened(distribution, {"no_such_boolean": True}, distribution.booleans)
    assert not opened(distribution, {"httpd_can_network_connect": False}, distribution.booleans)


def slowly(policy: PolicyIndex, settings: dict[str, bool], states: dict[str, bool]) -> set[Access]:
    """Pair by pair, as the definition says."""
    after = {**states, **settings}
    found: set[Any] = set()
    for (source, target, tclass), conditional in policy.conditional_rules("allow").items():
        for permissions, condition in conditional:
            if condition.active(after) and not condition.active(states) and settings.keys() & set(condition.booleans):
                found.update(
                    Access.of(left, right, tclass, permission)
                    for left in policy.types_of(source)
                    for right in policy.types_of(target)
                    for permission in permissions
                    if not policy.grants(left, right, tclass, permission, states)
                )
    return found


@needs_distribution
@pytest.mark.parametrize("most_targets", [0, 64, 10**6])
def test_counts_and_lists_agree_with_the_definition(
    distribution: PolicyIndex, monkeypatch: pytest.MonkeyPatch, most_targets: int
) -> None:
    """Booleans drawn at random, switched either way, also two together; by targets, by sources, and mixed."""
    monkeypatch.setattr(boolean_effects, "MAX_TARGETS", most_targets)
    chance = random.Random(most_targets)
    names = sorted(distribution.booleans)
    states = dict(distribution.booleans)
    seen = 0
    for _ in range(8):
        settings = {name: not states[name] for name in chance.sample(names, chance.choice((1, 2)))}
        if opened_count(distribution, settings, states) > 20_000:
            continue  # the definition takes a second for 100,000
        expected = slowly(distribution, settings, states)
        assert opened(distribution, settings, states) == expected
        assert opened_count(distribution, settings, states) == len(expected)
        for source in sorted({access.source for access in expected})[:3]:
            mine = [access for access in expected if access.source == source]
            assert opened_count(distribution, settings, states, [source]) == len(mine)
        seen += bool(expected)
    assert seen >= 2


@needs_secilc
def test_whose_a_boolean_is(tmp_path: Path) -> None:
    body = types("web_t", "mail_t", "data_t") + (
        "(boolean web_reads false)(boolean both false)"
        "(booleanif web_reads (true (allow web_t data_t (file (read)))))"
        "(booleanif both (true (allow web_t data_t (file (read write)))(allow mail_t data_t (file (read)))))"
    )
    policy = PolicyIndex.load(compile_cil(body, tmp_path / "policy"))
    off = {"web_reads": False, "both": False}
    assert opened_count(policy, {"both": True}, off) == 3
    assert opened_count(policy, {"both": True}, off, ["mail_t"]) == 1
    assert opened_count(policy, {"both": True}, {**off, "web_reads": True}, ["web_t"]) == 1


@needs_distribution
@pytest.mark.parametrize("path", [DISTRIBUTION, *FURTHER_POLICIES], ids=str)
def test_counting_is_quick_for_every_boolean(path: Path) -> None:
    """The widest opens 500,000 accesses and more."""
    policy = PolicyIndex.load(path)
    started = time.process_time()
    counts = {name: opened_count(policy, {name: not state}, policy.booleans) for name, state in policy.booleans.items()}
    assert time.process_time() - started < 0.1 * len(counts)
    assert max(counts.values()) > 50_000
