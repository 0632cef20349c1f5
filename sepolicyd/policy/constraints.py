"""Evaluate constraints on two full contexts: which ones deny, and because of which part of the contexts.

The evaluation follows the kernel (security/selinux/ss/services.c, constraint_expr_eval; mls_types.h for levels), with a
third value for unknown operands: a type that this policy does not have, or a level that it cannot read.
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
    """Rank of the sensitivity and numbers of the categories; ``text`` is the level as written in the context."""

    rank: int
    categories: frozenset[int]
    text: str = ""

    def dominates(self, other: MlsLevel) -> bool:
        return self.rank >= other.rank and self.categories >= other.categories

    def equals(self, other: MlsLevel) -> bool:
        return self.rank == other.rank and self.categories == other.categories


@dataclass(frozen=True)
class Subject:
    """One side of a constraint: user, role, type and, in an MLS policy, low and high level. None stands for unknown."""

    user: str
    role: str
    type: Optional[str]
    low: Optional[MlsLevel] = None
    high: Optional[MlsLevel] = None


class ContextPart(str, Enum):
    """Part of a context that a comparison uses."""

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
    """Operand: u, r, t, l (low) or h (high), with 1 for the source and 2 for the target."""
    operator: str
    """==, !=, dom, domby or incomp."""
    right: str
    """The other operand; "" if ``left`` is compared with ``names``."""
    left_value: str
    right_value: str
    names: frozenset[str] = frozenset()
    missing: str = ""
    """Categories that the dominating side lacks (for ==: that only one side has), as "c1,c3.c5"."""

    def __str__(self) -> str:
        if not self.right:
            return f"{self.left_value} is {'not ' if self.operator == '==' else ''}in {_brief(self.names)}"
        return f"{self.left} {self.operator} {self.right}: {self.left_value} against {self.right_value}"


@dataclass(frozen=True)
class Denied:
    """A constraint that denies."""

    constraint: Constraint
    reason: str
    """The failures as text, the most informative first."""
    failures: tuple[Failure, ...] = ()
    certain: bool = True
    """False if a type that this policy does not have may be exempt from the constraint."""

    @property
    def parts(self) -> frozenset[ContextPart]:
        """Return the parts of the contexts that fail. TYPE alone: only an exempt type has this access."""
        return frozenset(failure.part for failure in self.failures)


@dataclass(frozen=True)
class LevelNames:
    """Names in the levels of an MLS policy: sensitivities by rank, categories by number."""

    sensitivities: Mapping[str, int]
    categories: Mapping[str, int]

    def parse_range(self, text: str) -> Optional[tuple[MlsLevel, MlsLevel]]:
        """Parse `s0-s15:c0.c1023` into low and high level; return None for an unknown name (a translated range)."""
        low_text, _, high_text = text.partition("-")
        low = self.parse_level(low_text)
        high = self.parse_level(high_text) if high_text else low
        return None if low is None or high is None else (low, high)

    def parse_level(self, text: str) -> Optional[MlsLevel]:
        """Parse `s0:c1,c5.c9`; return None for an unknown name."""
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
        """Format categories as in a level: "c1,c3.c5"."""
        names: dict[int, str] = {}
        for name, place in self.categories.items():
            names.setdefault(place, name)
        return ",".join(
            names.get(low, str(low)) + (f"{'.' if high > low + 1 else ','}{names.get(high, str(high))}" if high > low else "")
            for low, high in ranges_of(places)
        )


def subject_of(context: Context, type_name: Optional[str], names: Optional[LevelNames]) -> Subject:
    """Return a side of a constraint, built from a context.

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
    """Return the constraints on a permission that these two contexts fail.

    :param dominated: role -> the roles that it dominates
    :param names: names of categories for the texts of failures
    """
    found = []
    for constraint in constraints:
        if constraint.tclass == tclass and permission in constraint.permissions:
            evaluation = _Evaluation(source, target, dominated, names)
            holds = evaluation.run(constraint.expression)
            # with an unknown type: failures of users, roles or levels from which only the type could be exempt
            shown = None in (source.type, target.type) and any(one.part is not ContextPart.TYPE for one in evaluation.failed)
            if holds is False or (holds is None and shown):
                found.append(_denied(constraint, evaluation.failed, certain=holds is False))
    return tuple(found)


def _denied(constraint: Constraint, failed: list[Failure], *, certain: bool) -> Denied:
    # comparisons of the two contexts are the most informative, exempt types (often a dozen attributes) the least
    failures = tuple(sorted(dict.fromkeys(failed), key=lambda failure: not failure.right))
    texts = tuple(dict.fromkeys(map(str, failures)))
    more = f"; and {len(texts) - MAX_REASONS} more" if len(texts) > MAX_REASONS else ""
    return Denied(constraint, "; ".join(texts[:MAX_REASONS]) + more, failures, certain)


class _Evaluation:
    """Evaluation of one postfix expression over two contexts, with its failed comparisons. None stands for "unknown"."""

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
                decided = item == "or"  # the value that decides the result alone
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
        if not result and names:  # an attribute without types gives no information
            self.failed.append(Failure(_part(left), left, operator, "", _text(value), "", names))
        return result

    def _roles(self, left: str, operator: str, right: str) -> bool:
        down = right in self._dominated.get(left, frozenset()) or left == right
        up = left in self._dominated.get(right, frozenset()) or left == right
        return {"==": left == right, "!=": left != right, "dom": down, "domby": up}.get(operator, not down and not up)


def _part(operand: str) -> ContextPart:
    return {"u": ContextPart.USER, "r": ContextPart.ROLE, "t": ContextPart.TYPE}.get(operand[0], ContextPart.SENSITIVITY)


def _failing_part(left: MlsLevel, operator: str, right: MlsLevel) -> tuple[ContextPart, frozenset[int]]:
    """Return the failing part (sensitivity or categories), with the missing categories."""
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
