"""What a boolean opens, beside setools' own expansion of the rules that name it."""

from __future__ import annotations

from sepolicyd.access import Access
from sepolicyd.policy.boolean_effects import opened
from sepolicyd.policy.index import PolicyIndex
from tests.cli.asking import under_boolean
from tests.policy.toys import DISTRIBUTION, needs_distribution


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
