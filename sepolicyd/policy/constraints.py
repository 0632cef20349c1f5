"""Evaluate constraints on two whole contexts: which deny, and by which part of the contexts.

The evaluation is the kernel's (security/selinux/ss/services.c, constraint_expr_eval; mls_types.h for levels), with a third
value for comparisons with what is not known here: a type that this policy does not have, a level that it cannot read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Optional

from sepolicyd.audit.model import Context
from sepolicyd.policy.model import Constraint, ranges_of

MAX_REASONS = 3


@dataclass(frozen=True)
class MlsLevel:
    """Rank of the sensitivity and the places of the categories; ``text`` as the context wrote it."""

    rank: int
    categories: frozenset[int]
    text: str = ""

    def dominates(self, other: MlsLevel) -> bool:
        return self.rank >= other.rank and self.categories >= other.categories

    def equals(self, other: MlsLevel) -> bool:
        return self.rank == other.rank and self.categories == other.categories


@dataclass(frozen=True)
class Subject:
    """One side of a constraint: user, role, type and, in an MLS policy, low and high level. None is not known."""

    user: str
    role: str
    type: Optional[str]
    low: Optional[MlsLevel] = None
    high: Optional[MlsLevel] = None


class ContextPart(str, Enum):
    """The part of a context that a comparison is about."""

    USER = "user"
    ROLE = "role"
    TYPE = "type"
    SENSITIVITY = "sensitivity"
    CATEGORIES = "categories"


@dataclass(frozen=True)
class Failure:
    """One comparison of a constraint that failed."""

    part: ContextPart
    left: str
    """Operand of the expression: u, r, t, l (low) or h (high), with 1 for the source and 2 for the target."""
    operator: str
    """==, !=, dom, domby or incomp."""
    right: str
    """The other operand; "" where ``left`` is compared with ``names``."""
    left_value: str
    right_value: str
    names: frozenset[str] = frozenset()
    missing: str = ""
    """Categories that the side which must dominate lacks (for ==: that only one side has), as "c1,c3.c5"."""

    def __str__(self) -> str:
        if not self.right:
            return f"{self.left_value} is {'not ' if self.operator == '==' else ''}in {_brief(self.names)}"
        return f"{self.left} {self.operator} {self.right}: {self.left_value} against {self.right_value}"


@dataclass(frozen=True)
class Denied:
    """A constraint that denies."""

    constraint: Constraint
    reason: str
    """The failures for people, those that say most first."""
    failures: tuple[Failure, ...] = ()
    certain: bool = True
    """False where it denies unless a type that this policy does not have is exempt from it."""

    @property
    def parts(self) -> frozenset[ContextPart]:
        """What of the contexts would have to be otherwise. TYPE alone: only an exempt type may do this."""
        return frozenset(failure.part for failure in self.failures)


@dataclass(frozen=True)
class LevelNames:
    """What levels are written with: sensitivities by rank, categories by place, in an MLS policy."""

    sensitivities: Mapping[str, int]
    categories: Mapping[str, int]

    def parse_range(self, text: str) -> Optional[tuple[MlsLevel, MlsLevel]]:
        """Low and high of `s0-s15:c0.c1023`, None where a name is not the policy's (a translated range)."""
        low_text, _, high_text = text.partition("-")
        low = self.parse_level(low_text)
        high = self.parse_level(high_text) if high_text else low
        return None if low is None or high is None else (low, high)

    def parse_level(self, text: str) -> Optional[MlsLevel]:
        """`s0:c1,c5.c9` as a MlsLevel, or None."""
        sensitivity, _, categories = text.strip().partition(":")
        if sensitivity not in self.sensitivities:
            return None
        places: set[int] = set()
        for part in filter(None, categories.split(",")):
            first, _, last = part.partition(".")
            if first not in self.categories or (last or first) not in self.categories:
                return None
            places.update(range(self.categories[first], self.categories[last or first] + 1))
        return MlsLevel(self.sensitivities[sensitivity], frozenset(places), text.strip())

    def format_categories(self, places: frozenset[int]) -> str:
        """Categories as a level writes them: "c1,c3.c5"."""
        names: dict[int, str] = {}
        for name, place in self.categories.items():
            names.setdefault(place, name)
        return ",".join(
            names.get(low, str(low)) + (f"{'.' if high > low + 1 else ','}{names.get(high, str(high))}" if high > low else "")
            for low, high in ranges_of(places)
        )


def subject_of(context: Context, type_name: Optional[str], names: Optional[LevelNames]) -> Subject:
    """A side of a constraint out of a context.

    :param type_name: None for a type that the policy does not have
    :param names: None in a policy without MLS
    """
    levels = names.parse_range(context.range) if names is not None else None
    return Subject(context.user, context.role, type_name, *(levels or ()))


def denying(
    constraints: tuple[Constraint, ...],
    tclass: str,
    permission: str,
    source: Subject,
    target: Subject,
    dominated: Mapping[str, frozenset[str]],
    names: Optional[LevelNames] = None,
) -> tuple[Denied, ...]:
    """The constraints on a permission that these two contexts fail.

    :param dominated: role -> the roles that it dominates
    :param names: for the names of categories in what failed
    """
    found = []
    for constraint in constraints:
        if constraint.tclass == tclass and permission in constraint.permissions:
            evaluation = _Evaluation(source, target, dominated, names)
            holds = evaluation.run(constraint.expression)
            # with an unknown type: what users, roles or levels fail and only the type could exempt from
            shown = None in (source.type, target.type) and any(one.part is not ContextPart.TYPE for one in evaluation.failed)
            if holds is False or (holds is None and shown):
                found.append(_denied(constraint, evaluation.failed, certain=holds is False))
    return tuple(found)


def _denied(constraint: Constraint, failed: list[Failure], *, certain: bool) -> Denied:
    # comparisons of the two contexts say most, exempt types (often a dozen attributes) least
    failures = tuple(sorted(dict.fromkeys(failed), key=lambda failure: not failure.right))
    texts = tuple(dict.fromkeys(map(str, failures)))
    more = f"; and {len(texts) - MAX_REASONS} more" if len(texts) > MAX_REASONS else ""
    return Denied(constraint, "; ".join(texts[:MAX_REASONS]) + more, failures, certain)


class _Evaluation:
    """One postfix expression over two contexts; remembers the comparisons that failed. None stands for "not known"."""

    def __init__(
        self, source: Subject, target: Subject, dominated: Mapping[str, frozenset[str]], names: Optional[LevelNames]
    ) -> None:
        self.failed: list[Failure] = []
        self._dominated = dominated
        self._names = names
        self._values: dict[str, object] = {
            "u1": source.user, "r1": source.role, "t1": source.type, "l1": source.low, "h1": source.high,
            "u2": target.user, "r2": target.role, "t2": target.type, "l2": target.low, "h2": target.high,
        }  # fmt: skip

    def run(self, expression: tuple[object, ...]) -> Optional[bool]:
        stack: list[object] = []
        for item in expression:
            if item == "not":
                value = stack.pop()
                stack.append(None if value is None else not value)
            elif item in {"and", "or"}:
                both = {stack.pop(), stack.pop()}
                decided = item == "or"  # the value of one side that decides for both
                stack.append(decided if decided in both else None if None in both else not decided)
            elif item in {"==", "!=", "dom", "domby", "incomp"}:
                right, left = stack.pop(), stack.pop()
                stack.append(self._compare(str(left), str(item), right))
            else:
                stack.append(item)
        result = stack.pop() if stack else True
        return None if result is None else bool(result)

    def _compare(self, left: str, operator: str, right: object) -> Optional[bool]:
        value = self._values.get(left)
        if isinstance(right, frozenset):
            return self._compare_names(left, operator, right)
        other = self._values.get(str(right))
        if value is None or other is None:
            return None
        if isinstance(value, MlsLevel) and isinstance(other, MlsLevel):
            result = _levels(value, operator, other)
        elif left.startswith("r"):
            result = self._roles(str(value), operator, str(other))
        else:
            result = (value == other) is (operator == "==")
        if not result:
            part, missing = _part(left), ""
            if isinstance(value, MlsLevel) and isinstance(other, MlsLevel):
                part, places = _failing_part(value, operator, other)
                missing = self._names.format_categories(places) if self._names is not None else ""
            self.failed.append(Failure(part, left, operator, str(right), _text(value), _text(other), missing=missing))
        return result

    def _compare_names(self, left: str, operator: str, names: frozenset[str]) -> Optional[bool]:
        value = self._values.get(left)
        if value is None:
            return None if names else operator != "=="
        result = (value in names) is (operator == "==")
        if not result and names:  # an attribute that has lost its types says nothing
            self.failed.append(Failure(_part(left), left, operator, "", _text(value), "", names))
        return result

    def _roles(self, left: str, operator: str, right: str) -> bool:
        down = right in self._dominated.get(left, frozenset()) or left == right
        up = left in self._dominated.get(right, frozenset()) or left == right
        return {"==": left == right, "!=": left != right, "dom": down, "domby": up}.get(operator, not down and not up)


def _part(operand: str) -> ContextPart:
    return {"u": ContextPart.USER, "r": ContextPart.ROLE, "t": ContextPart.TYPE}.get(operand[0], ContextPart.SENSITIVITY)


def _failing_part(left: MlsLevel, operator: str, right: MlsLevel) -> tuple[ContextPart, frozenset[int]]:
    """Whether the sensitivities fail or the categories, and the categories that are missing."""
    if operator == "dom":
        ranks, missing = left.rank >= right.rank, right.categories - left.categories
    elif operator == "domby":
        ranks, missing = left.rank <= right.rank, left.categories - right.categories
    else:
        ranks, missing = left.rank == right.rank, left.categories ^ right.categories
    return (ContextPart.CATEGORIES if ranks else ContextPart.SENSITIVITY), missing


def _levels(left: MlsLevel, operator: str, right: MlsLevel) -> bool:
    down, up = left.dominates(right), right.dominates(left)
    same = left.equals(right)
    return {"==": same, "!=": not same, "dom": down, "domby": up}.get(operator, not down and not up)


def _text(value: object) -> str:
    return value.text if isinstance(value, MlsLevel) else str(value)


def _brief(names: frozenset[str]) -> str:
    shown = sorted(names)
    return f"{{ {' '.join(shown[:4])}{f' and {len(shown) - 4} more' if len(shown) > 4 else ''} }}"
