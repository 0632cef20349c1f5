"""Constraints evaluated: a class, permissions and two whole contexts in, the constraints that deny and why out.

The evaluation is the kernel's (security/selinux/ss/services.c, constraint_expr_eval; mls_types.h for levels).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from sepolicyd.audit.model import Context
from sepolicyd.policy.model import Constraint

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
    """One side of a constraint: user, role, type and, in an MLS policy, low and high level."""

    user: str
    role: str
    type: str
    low: Optional[MlsLevel] = None
    high: Optional[MlsLevel] = None


@dataclass(frozen=True)
class Denied:
    """A constraint that denies: its text and the comparisons in it that failed, for people."""

    constraint: Constraint
    reason: str


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


def subject_of(context: Context, type_name: str, names: Optional[LevelNames]) -> Optional[Subject]:
    """A side of a constraint out of a context; ``names`` None in a policy without MLS. None: the range cannot be read."""
    if names is None:
        return Subject(context.user, context.role, type_name)
    levels = names.parse_range(context.range)
    return None if levels is None else Subject(context.user, context.role, type_name, *levels)


def denying(
    constraints: tuple[Constraint, ...],
    tclass: str,
    permission: str,
    source: Subject,
    target: Subject,
    dominated: Mapping[str, frozenset[str]],
) -> tuple[Denied, ...]:
    """The constraints on a permission that these two contexts fail.

    :param dominated: role -> the roles that it dominates
    """
    found = []
    for constraint in constraints:
        if constraint.tclass == tclass and permission in constraint.permissions:
            evaluation = _Evaluation(source, target, dominated)
            if not evaluation.run(constraint.expression):
                # comparisons of the two contexts say most, exempt types (often a dozen attributes) least
                failed = sorted(dict.fromkeys(evaluation.failed), key=lambda text: " against " not in text)
                more = f"; and {len(failed) - MAX_REASONS} more" if len(failed) > MAX_REASONS else ""
                found.append(Denied(constraint, "; ".join(failed[:MAX_REASONS]) + more))
    return tuple(found)


class _Evaluation:
    """One postfix expression over two contexts; remembers the comparisons that failed."""

    def __init__(self, source: Subject, target: Subject, dominated: Mapping[str, frozenset[str]]) -> None:
        self.failed: list[str] = []
        self._dominated = dominated
        self._values: dict[str, object] = {
            "u1": source.user, "r1": source.role, "t1": source.type, "l1": source.low, "h1": source.high,
            "u2": target.user, "r2": target.role, "t2": target.type, "l2": target.low, "h2": target.high,
        }  # fmt: skip

    def run(self, expression: tuple[object, ...]) -> bool:
        stack: list[object] = []
        for item in expression:
            if item == "not":
                stack.append(not stack.pop())
            elif item in {"and", "or"}:
                both = (bool(stack.pop()), bool(stack.pop()))
                stack.append(all(both) if item == "and" else any(both))
            elif item in {"==", "!=", "dom", "domby", "incomp"}:
                right, left = stack.pop(), stack.pop()
                stack.append(self._compare(str(left), str(item), right))
            else:
                stack.append(item)
        return bool(stack.pop()) if stack else True

    def _compare(self, left: str, operator: str, right: object) -> bool:
        value = self._values.get(left)
        if isinstance(right, frozenset):
            result = (value in right) is (operator == "==")
            if not result and right:  # an attribute that has lost its types says nothing
                self.failed.append(f"{value} is {'not ' if operator == '==' else ''}in {_brief(right)}")
            return result
        other = self._values.get(str(right))
        if isinstance(value, MlsLevel) and isinstance(other, MlsLevel):
            result = _levels(value, operator, other)
        elif left.startswith("r"):
            result = self._roles(str(value), operator, str(other))
        else:
            result = (value == other) is (operator == "==")
        if not result:
            self.failed.append(f"{left} {operator} {right}: {_text(value)} against {_text(other)}")
        return result

    def _roles(self, left: str, operator: str, right: str) -> bool:
        down = right in self._dominated.get(left, frozenset()) or left == right
        up = left in self._dominated.get(right, frozenset()) or left == right
        return {"==": left == right, "!=": left != right, "dom": down, "domby": up}.get(operator, not down and not up)


def _levels(left: MlsLevel, operator: str, right: MlsLevel) -> bool:
    down, up = left.dominates(right), right.dominates(left)
    same = left.equals(right)
    return {"==": same, "!=": not same, "dom": down, "domby": up}.get(operator, not down and not up)


def _text(value: object) -> str:
    return value.text if isinstance(value, MlsLevel) else str(value)


def _brief(names: frozenset[str]) -> str:
    shown = sorted(names)
    return f"{{ {' '.join(shown[:4])}{f' and {len(shown) - 4} more' if len(shown) > 4 else ''} }}"
