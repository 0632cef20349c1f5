"""Accesses that a boolean setting opens: the count for a proposal, the exact list for a preview and for apply."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, Optional

from sepolicyd.access import Access
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.index_tables import Row, count

# Up to this many target types are looked up one by one; for more, all rules of the class are read once.
MAX_TARGETS = 64


class BooleanGain(NamedTuple):
    """New accesses of one permission, between one type and each type of a set."""

    tclass: int
    bit: int
    type: int
    others: int
    """Bit set of the types on the other side."""
    is_source: bool
    """Whether ``type`` is the source and ``others`` are targets."""


def opened(policy: PolicyIndex, settings: Mapping[str, bool], states: Mapping[str, bool]) -> frozenset[Access]:
    """Return every access that these settings switch on and that the policy does not give today, attributes expanded.

    A boolean of Fedora's policy can open 500,000 accesses: call :func:`opened_count` first.

    :param settings: booleans to be set; booleans that the policy does not have are ignored
    :param states: the present values of all booleans
    """
    return frozenset(_accesses(policy, settings, states))


def opened_count(
    policy: PolicyIndex,
    settings: Mapping[str, bool],
    states: Mapping[str, bool],
    sources: Optional[Collection[str]] = None,
) -> int:
    """Return the number of accesses in :func:`opened`.

    :param sources: count only those of these types
    """
    among = None if sources is None else policy.tables.bits_of(map(policy.resolve, sources))
    return sum(count(gain.others) for gain in _gains(policy, settings, states, among))


def _accesses(policy: PolicyIndex, settings: Mapping[str, bool], states: Mapping[str, bool]) -> Iterator[Access]:
    tables = policy.tables
    for gain in _gains(policy, settings, states, None):
        (permission,) = tables.permissions(gain.tclass, gain.bit)
        one, tclass = tables.types[gain.type], tables.class_names[gain.tclass]
        for other in tables.names_of(gain.others):
            yield Access.of(*((one, other) if gain.is_source else (other, one)), tclass, permission)


def _gains(
    policy: PolicyIndex, settings: Mapping[str, bool], states: Mapping[str, bool], among: Optional[int]
) -> Iterator[BooleanGain]:
    by_class: dict[int, list[Row]] = {}
    for row in _switched(policy, settings, states):
        if among is None or policy.tables.members(row.source) & among:
            by_class.setdefault(row.tclass, []).append(row)
    for tclass, rows in by_class.items():
        targets = 0
        for row in rows:
            targets |= policy.tables.members(row.target)
        by_target = among is None and count(targets) <= MAX_TARGETS
        find = _by_target if by_target else _by_source
        yield from find(policy, tclass, rows, states, -1 if among is None else among)


def _switched(policy: PolicyIndex, settings: Mapping[str, bool], states: Mapping[str, bool]) -> Iterator[Row]:
    """Return the conditional allow rules that these settings switch on."""
    after = {**states, **{name: value for name, value in settings.items() if name in policy.booleans}}
    numbers = {
        number
        for number, condition in enumerate(policy.conditions, start=1)
        if settings.keys() & set(condition.booleans) and condition.active(after) and not condition.active(states)
    }
    return (row for row in policy.tables.rules("allow").conditional_rows if row.condition in numbers)


def _active(policy: PolicyIndex, states: Mapping[str, bool]) -> frozenset[int]:
    """Return the numbers of the conditions that hold; 0 stands for no condition."""
    return frozenset((0, *(number for number, one in enumerate(policy.conditions, start=1) if one.active(states))))


def _by_target(
    policy: PolicyIndex, tclass: int, rows: list[Row], states: Mapping[str, bool], among: int
) -> Iterator[BooleanGain]:
    """Yield the new sources of each target type."""
    tables, active = policy.tables, _active(policy, states)
    wanted: dict[tuple[int, int], int] = {}
    for row in rows:
        for target in _numbers(tables.members(row.target)):
            for bit in _bits(row.mask):
                wanted[target, bit] = wanted.get((target, bit), 0) | tables.members(row.source) & among
    for (target, bit), sources in wanted.items():
        new = sources
        for symbol in (target, *tables.attributes_of(target)):
            for source, mask, condition in tables.rules("allow").of_pair(symbol, tclass):
                if mask & bit and condition in active:
                    new &= ~tables.members(source)
        if new:
            yield BooleanGain(tclass, bit, target, new, is_source=False)


def _by_source(
    policy: PolicyIndex, tclass: int, rows: list[Row], states: Mapping[str, bool], among: int
) -> Iterator[BooleanGain]:
    """Yield the new targets of each source type."""
    tables = policy.tables
    wanted: dict[tuple[int, int], int] = {}
    asked = 0
    for row in rows:
        asked |= row.mask
        for source in _numbers(tables.members(row.source) & among):
            for bit in _bits(row.mask):
                wanted[source, bit] = wanted.get((source, bit), 0) | tables.members(row.target)
    held = _held(policy, tclass, asked, states)
    for (source, bit), targets in wanted.items():
        new = targets
        for symbol in (source, *tables.attributes_of(source)):
            new &= ~held.get((symbol, bit), 0)
        if new:
            yield BooleanGain(tclass, bit, source, new, is_source=True)


def _held(policy: PolicyIndex, tclass: int, asked: int, states: Mapping[str, bool]) -> dict[tuple[int, int], int]:
    """Map (source symbol, permission) to the targets that rules of a class grant, for the permissions of a mask."""
    tables, active = policy.tables, _active(policy, states)
    held: dict[tuple[int, int], int] = {}
    rules = tables.rules("allow")
    for target in rules.keys_by_class.get(tclass, ()):
        members = tables.members(target)
        for source, mask, condition in rules.of_pair(target, tclass):
            if mask & asked and condition in active:
                for bit in _bits(mask & asked):
                    held[source, bit] = held.get((source, bit), 0) | members
    return held


def _numbers(bits: int) -> Iterator[int]:
    """Yield the numbers of the types of a set."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def _bits(mask: int) -> Iterator[int]:
    """Yield each bit of a mask as a mask."""
    while mask:
        low = mask & -mask
        yield low
        mask ^= low
