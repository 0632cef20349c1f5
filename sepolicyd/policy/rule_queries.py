"""Allow rules by the names that they are written with, attributes of the target not added.

The rule table is grouped by target and class: these queries read the groups that they need, not all of a policy's rules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from sepolicyd.policy.index import PolicyIndex


def rules_of_class(policy: PolicyIndex, tclass: str) -> Iterator[tuple[str, str, frozenset[str]]]:
    """(source, target, permissions) of each allow rule of a class, conditional rules included."""
    tables = policy.tables
    number = tables.class_numbers.get(tclass)
    if number is None:
        return
    rules, symbols = tables.rules("allow"), tables.symbols
    for target in rules.keys_by_class.get(number, ()):
        for source, mask, _ in rules.of_pair(target, number):
            yield symbols[source], symbols[target], tables.permissions(number, mask)


def targets_of(policy: PolicyIndex, source: str, tclass: str) -> frozenset[str]:
    """Targets of the allow rules of a class that name exactly this source."""
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
    """The types, sorted, that allow rules on exactly these types and attributes give a permission."""
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
    """The permissions of the allow rules whose source and target are exactly one of these names each."""
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
