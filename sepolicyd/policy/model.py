"""Values of the policy package: conditions, verdicts, rules, ranges of extended permissions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Optional

Key = tuple[str, str, str]  # source type or attribute, target type or attribute, class: a key of the kernel's avtab
Ranges = tuple[tuple[int, int], ...]  # inclusive, sorted, disjoint
ALL_XPERMS: Ranges = ((0, 0xFFFF),)


class VerdictKind(str, Enum):
    """Verdict of the policy about one access; the first applicable one in this order."""

    ALLOWED = "allowed"
    BOOLEAN = "boolean"  # a conditional rule would allow it with another boolean setting

    XPERM = "xperm"  # the permission is allowed, but allowxperm rules exclude this number
    BOUNDS = "bounds"  # the rule exists, but the bounding type of the source lacks the access
    DONTAUDIT = "dontaudit"
    NONE = "none"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Condition:
    """Condition of a conditional rule. ``on`` lists the values of ``booleans`` (sorted by name) that enable it.

    ``text`` is for display. Conditions are equal if they are equivalent, so `a && b` equals `b && a` of another policy.
    """

    booleans: tuple[str, ...]
    on: frozenset[tuple[bool, ...]]
    text: str = ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Condition):
            return NotImplemented
        return self._meaning == other._meaning

    def __hash__(self) -> int:
        return hash(self._meaning)

    @property
    def _meaning(self) -> tuple[tuple[str, ...], frozenset[tuple[bool, ...]]]:
        return (self.booleans, self.on)

    def __str__(self) -> str:
        return self.text

    def active(self, states: Mapping[str, bool]) -> bool:
        """Tell whether the condition holds. A missing boolean counts as off."""
        return tuple(states.get(name, False) for name in self.booleans) in self.on

    def switched_by(self, name: str, state: bool) -> bool:
        """Tell whether this setting of one boolean can enable the condition, for some values of the others."""
        place = self.booleans.index(name)
        rows = (row for row in self.on if row[place] is state)
        return any((*row[:place], not state, *row[place + 1 :]) not in self.on for row in rows)


Conditional = tuple[frozenset[str], Condition]  # permissions and their condition


@dataclass(frozen=True)
class Verdict:
    """Verdict about one access. ``conditions``: conditions of all conditional rules that grant it, active or not.

    ``dontaudited``: a denial would not be logged. ``unknown``: names that the policy does not have ("type x_t").
    ``xperms``: the numbers that the policy allows, None if it does not filter them.
    """

    kind: VerdictKind
    conditions: tuple[Condition, ...] = ()
    dontaudited: bool = False
    unknown: tuple[str, ...] = ()
    xperms: Optional[Ranges] = None
    bound: str = ""

    @property
    def allowed(self) -> bool:
        return self.kind is VerdictKind.ALLOWED


@dataclass(frozen=True, order=True)
class Transition:
    """A type_transition, type_change or type_member rule; ``filename`` is "" for a rule without file name."""

    rule: str
    source: str
    target: str
    tclass: str
    default: str
    filename: str = ""
    condition: str = ""

    def __str__(self) -> str:
        name = f' "{self.filename}"' if self.filename else ""
        under = f" [ {self.condition} ]" if self.condition else ""
        return f"{self.rule} {self.source} {self.target}:{self.tclass} {self.default}{name};{under}"


@dataclass(frozen=True)
class XpermRule:
    """An allowxperm, auditallowxperm or dontauditxperm rule: ``name`` is ioctl or nlmsg, ``ranges`` its numbers."""

    rule: str
    key: Key
    name: str
    ranges: Ranges
    condition: Optional[Condition] = None

    def __str__(self) -> str:
        source, target, tclass = self.key
        numbers = " ".join(f"{low:#06x}" if low == high else f"{low:#06x}-{high:#06x}" for low, high in self.ranges)
        under = f" [ {self.condition} ]" if self.condition else ""
        return f"{self.rule} {source} {target}:{tclass} {self.name} {{ {numbers} }};{under}"


@dataclass(frozen=True)
class PortRange:
    """One portcon: protocol, inclusive range, type."""

    protocol: str
    low: int
    high: int
    type: str


@dataclass(frozen=True)
class Constraint:
    """A constrain or mlsconstrain statement: ``expression`` in postfix form, attributes expanded.

    Items: "u1" "r2" "t1" "l1" "h2" (operands), a frozenset of names, "==" "!=" "dom" "domby" "incomp", "and" "or" "not".
    """

    rule: str
    tclass: str
    permissions: frozenset[str]
    expression: tuple[object, ...]
    text: str


def ranges_of(numbers: frozenset[int]) -> Ranges:
    """Return the numbers as inclusive ranges."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


def join_ranges(*many: Ranges) -> Ranges:
    """Return the union of the ranges."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(part for ranges in many for part in ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return tuple(found)


def subtract_ranges(left: Ranges, right: Ranges) -> Ranges:
    """Return the numbers of ``left`` that are not in ``right``."""
    found: list[tuple[int, int]] = []
    for start, end in left:
        low = start
        for cut_low, cut_high in join_ranges(right):
            if cut_high < low or cut_low > end:
                continue
            if cut_low > low:
                found.append((low, cut_low - 1))
            low = cut_high + 1
        if low <= end:
            found.append((low, end))
    return tuple(found)
