"""A policy and booleans to be set in, the exact accesses out that they open: what a preview tells, and an apply must find."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

from sepolicyd.access import Access
from sepolicyd.policy.index import PolicyIndex


def opened(policy: PolicyIndex, settings: Mapping[str, bool], states: Mapping[str, bool]) -> frozenset[Access]:
    """Every access that these settings switch on and that the policy does not give today, attributes expanded.

    :param settings: booleans to be set; those that the policy does not have are left out
    :param states: how all booleans stand before
    """
    after = {**states, **{name: value for name, value in settings.items() if name in policy.booleans}}
    return frozenset(_switched(policy, settings, states, after))


def _switched(
    policy: PolicyIndex, settings: Mapping[str, bool], before: Mapping[str, bool], after: Mapping[str, bool]
) -> Iterator[Access]:
    for (source, target, tclass), conditional in policy.conditional_rules("allow").items():
        for permissions, condition in conditional:
            if not condition.active(after) or condition.active(before) or not settings.keys() & set(condition.booleans):
                continue
            for left, right in product(policy.types_of(source), policy.types_of(target)):
                for permission in permissions:
                    if not policy.grants(left, right, tclass, permission, before):
                        yield Access.of(left, right, tclass, permission)
