"""Queries for allow rules by the exact names in the rule; attributes of the target are not expanded.

The rule table is grouped by target and class, so a query reads only the groups that it needs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from sepolicyd.policy.index import PolicyIndex


def rules_of_class(policy: PolicyIndex, tclass: str) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield (source, target, permissions) of each allow rule of a class, including conditional rules."""
    tables = policy.tables
    number = tables.class_numbers.get(tclass)
    if number is None:
        return
    rules, symbols = tables.rules("allow"), tables.symbols
    for target in rules.keys_by_class.get(number, ()):
        for source, mask, _ in rules.of_pair(target, number):
            yield symbols[source], symbols[target], tables.permissions(number, mask)


def targets_of(policy: PolicyIndex, source: str, tclass: str) -> frozenset[str]:
    """Return the targets of the allow rules of a class that name exactly this source."""
    tables = policy.tables
    number, left = tables.class_numbers.get(tclass), tables.numbers.get(source)
    if number is None or left is None:
        return frozenset()
    rules = tables.rules("allow")
    targets = rules.keys_by_class.get(number, ())
    return frozenset(
        tables.symbols[target] for target in targets if any(one == left for one, _, _ in rules.of_pair(target, number))
    )


def types_that_hold(policy: PolicyIndex, targets: Iterable[str], tclass: str, permission: str) -> list[str]:
    """Return the types (sorted) that hold a permission by allow rules on exactly these types and attributes."""
    tables = policy.tables
    number = tables.class_numbers.get(tclass)
    if number is None:
        return []
    bit, found = tables.mask(number, permission), 0
    for target in targets:
        right = tables.numbers.get(target)
        if right is not None:
            for source, mask, _ in tables.rules("allow").of_pair(right, number):
                if mask & bit:
                    found |= tables.members(source)
    return tables.names_of(found)


def permissions_between(policy: PolicyIndex, sources: Collection[str], targets: Iterable[str], tclass: str) -> frozenset[str]:
    """Return the permissions of the allow rules whose source and target are among these names."""
    tables = policy.tables
    number = tables.class_numbers.get(tclass)
    if number is None:
        return frozenset()
    lefts = {tables.numbers[name] for name in sources if name in tables.numbers}
    found = 0
    for target in targets:
        right = tables.numbers.get(target)
        if right is not None:
            for source, mask, _ in tables.rules("allow").of_pair(right, number):
                found |= mask if source in lefts else 0
    return tables.permissions(number, found)
