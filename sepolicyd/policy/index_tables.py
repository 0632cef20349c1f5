"""Packed tables of one policy, for queries and for the file on disk.

A symbol is the number of a type or attribute: first the types, then the attributes, each sorted by name. In a set of types,
bit N of an int stands for type N. In a permission mask, bit N stands for the Nth permission of the class, sorted by name.
Rules have the form of the binary policy, attributes not expanded, grouped by target and class.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import compress
from typing import Any, NamedTuple, Union

from sepolicyd.policy.model import Condition, Conditional

Section = Union[bytes, memoryview]
CLASS_BITS = 16  # the kernel's avtab keys are three 16-bit numbers (security/selinux/ss/avtab.h)
# array and memoryview.cast codes of the columns of a rule table
COLUMNS = {"keys": "I", "starts": "I", "sources": "H", "masks": "I", "conditions": "I"}
_BIT_VALUES = bytes.maketrans(b"01", b"\0\1")


def key_of(target: int, tclass: int) -> int:
    """Return the group key of a target symbol and class."""
    return target << CLASS_BITS | tclass


def class_of(key: int) -> int:
    """Return the class number in a group key."""
    return key & (1 << CLASS_BITS) - 1


class Row(NamedTuple):
    """One rule: numbers of target, class and source, the permission mask, and the number of its condition (0: none)."""

    target: int
    tclass: int
    source: int
    mask: int
    condition: int


class RuleTable:
    """Rules of one kind (allow, dontaudit, ...), unconditional and conditional together, grouped by (target, class)."""

    def __init__(self, columns: Mapping[str, memoryview]) -> None:
        self._keys = columns["keys"]
        self._starts = columns["starts"]
        self._sources = columns["sources"]
        self._masks = columns["masks"]
        self._conditions = columns["conditions"]

    def __len__(self) -> int:
        return len(self._sources)

    def of(self, key: int) -> Iterator[tuple[int, int, int]]:
        """Yield (source, mask, condition) of every rule under a key of :func:`key_of`."""
        place = bisect_left(self._keys, key)
        if place == len(self._keys) or self._keys[place] != key:
            return iter(())
        cut = slice(self._starts[place], self._starts[place + 1])
        return zip(self._sources[cut], self._masks[cut], self._conditions[cut])

    def of_pair(self, target: int, tclass: int) -> Iterator[tuple[int, int, int]]:
        """Yield the same as :meth:`of`, by target symbol and class."""
        return self.of(key_of(target, tclass))

    @cached_property
    def conditional_rows(self) -> tuple[Row, ...]:
        """The conditional rules."""
        found = []
        key = 0
        for number, condition in enumerate(self._conditions):
            if condition:
                while self._starts[key + 1] <= number:
                    key += 1
                pair = self._keys[key]
                found.append(Row(pair >> CLASS_BITS, class_of(pair), self._sources[number], self._masks[number], condition))
        return tuple(found)

    def rows(self) -> Iterator[Row]:
        """Yield every rule, by target, class, source."""
        starts, sources, masks, conditions = self._starts, self._sources, self._masks, self._conditions
        for place, key in enumerate(self._keys):
            target, tclass = key >> CLASS_BITS, class_of(key)
            for number in range(starts[place], starts[place + 1]):
                yield Row(target, tclass, sources[number], masks[number], conditions[number])

    @cached_property
    def keys_by_class(self) -> dict[int, list[int]]:
        """Target symbols with rules, by class number."""
        found: dict[int, list[int]] = {}
        for key in self._keys:
            found.setdefault(class_of(key), []).append(key >> CLASS_BITS)
        return found


class Tables:
    """Sections of an index, decoded on first use."""

    def __init__(self, sections: Mapping[str, Section]) -> None:
        self.sections = sections
        names: dict[str, Any] = self.values("names")
        self.types: list[str] = names["types"]
        self.attributes: list[str] = names["attributes"]
        self.aliases: dict[str, str] = names["aliases"]
        self.classes: dict[str, list[str]] = names["classes"]
        self.symbols: list[str] = [*self.types, *self.attributes]
        self.numbers = {name: number for number, name in enumerate(self.symbols)}
        self.class_names = list(self.classes)
        self.class_numbers = {name: number for number, name in enumerate(self.class_names)}
        self._width = (len(self.types) + 7) // 8
        self._members: dict[int, int] = {}
        self._permissions: dict[tuple[int, int], frozenset[str]] = {}
        self._rules: dict[str, RuleTable] = {}

    # -- sections ------------------------------------------------------------------------------------------------------

    def values(self, name: str) -> Any:
        """Return a JSON section."""
        return json.loads(bytes(self.sections[name]))

    def column(self, name: str, code: str) -> memoryview:
        """Return a section of numbers, by struct code."""
        return memoryview(self.sections[name]).cast("B").cast(code)  # type: ignore[call-overload, no-any-return]

    def rules(self, kind: str) -> RuleTable:
        """Return the rules of a kind: allow, dontaudit or auditallow."""
        if kind not in self._rules:
            self._rules[kind] = RuleTable({name: self.column(f"{kind}.{name}", code) for name, code in COLUMNS.items()})
        return self._rules[kind]

    # -- sets of types -------------------------------------------------------------------------------------------------

    def members(self, symbol: int) -> int:
        """Return the types of an attribute, or the type itself, as a bit set."""
        if symbol < len(self.types):
            return 1 << symbol
        found = self._members.get(symbol)
        if found is None:
            found = self._members[symbol] = self.bit_set("members", symbol - len(self.types))
        return found

    def bit_set(self, section: str, place: int) -> int:
        """Return one bit set of a section that holds many."""
        start = place * self._width
        return int.from_bytes(self.sections[section][start : start + self._width], "little")

    def names_of(self, bits: int) -> list[str]:
        """Return the names of a set of types, sorted."""
        return list(compress(self.types, bin(bits)[:1:-1].encode().translate(_BIT_VALUES)))

    def bits_of(self, names: Any) -> int:
        """Return the set of the types with these names. Unknown names are ignored."""
        found = 0
        for name in names:
            number = self.numbers.get(name, len(self.types))
            if number < len(self.types):
                found |= 1 << number
        return found

    def attributes_of(self, symbol: int) -> memoryview:
        """Return the symbols of a type's attributes; none for an attribute."""
        starts, symbols = self._type_attributes
        return symbols[starts[symbol] : starts[symbol + 1]] if symbol < len(self.types) else symbols[:0]

    @cached_property
    def _type_attributes(self) -> tuple[memoryview, memoryview]:
        return self.column("type_attributes.starts", "I"), self.column("type_attributes.symbols", "H")

    # -- permissions ---------------------------------------------------------------------------------------------------

    def mask(self, tclass: int, permission: str) -> int:
        """Return the mask of one permission of a class, 0 for an unknown permission."""
        names = self.classes[self.class_names[tclass]]
        place = bisect_left(names, permission)
        return 1 << place if place < len(names) and names[place] == permission else 0

    def permissions(self, tclass: int, mask: int) -> frozenset[str]:
        """Return the permissions of a mask."""
        found = self._permissions.get((tclass, mask))
        if found is None:
            names = self.classes[self.class_names[tclass]]
            found = frozenset(name for place, name in enumerate(names) if mask >> place & 1)
            self._permissions[tclass, mask] = found
        return found


def count(bits: int) -> int:
    """Return the number of types in a set (int.bit_count needs Python 3.10)."""
    return bin(bits).count("1")


class Pair(NamedTuple):
    """Permissions of one source type on one target type and class, attributes expanded."""

    permissions: frozenset[str]
    conditional: tuple[Conditional, ...]

    def conditions(self, permission: str) -> tuple[Condition, ...]:
        return tuple(condition for permissions, condition in self.conditional if permission in permissions)


class Group(NamedTuple):
    """All rules on one target type and class: masks by source symbol, and conditional (source, mask, condition)."""

    masks: dict[int, int]
    conditional: list[tuple[int, int, int]]


EMPTY = Pair(frozenset(), ())
NO_RULES = Group({}, [])
