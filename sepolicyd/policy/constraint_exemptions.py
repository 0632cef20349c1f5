"""Types that became exempt from a constraint between two policies. Such a gain is invisible in the allow rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.model import Constraint

SIDES = {"t1": "source", "t2": "target"}
Key = tuple[str, str, frozenset[str], tuple[object, ...]]


@dataclass(frozen=True, order=True)
class Exemption:
    """A type that a constraint names as one that it does not hold back. ``side``: source or target of the access."""

    type: str
    side: str
    rule: str
    tclass: str
    permissions: tuple[str, ...]

    def __str__(self) -> str:
        shown = " ".join(self.permissions[:4]) + (" ..." if len(self.permissions) > 4 else "")
        return f"{self.type} as {self.side} of {self.rule} {self.tclass} {{ {shown} }}"


def exempted(before: PolicyIndex, after: PolicyIndex) -> frozenset[Exemption]:
    """Types that ``after`` names in a constraint so as to let them pass, and that ``before`` held back.

    Attributes are expanded, so that a type counts too which joins an attribute that the binary does not hold any more by
    name. A constraint that is new, or was made otherwise, is not looked at here: it stands in Delta.added.
    """
    old: dict[Key, list[Constraint]] = {}
    for constraint in before.constraints:
        old.setdefault(_key(constraint), []).append(constraint)
    found: set[Exemption] = set()
    for constraint in after.constraints:
        same = old.get(_key(constraint), [])
        if same:
            was = same.pop(0)
            for side, name in _passed(was, constraint):
                found.add(Exemption(name, side, constraint.rule, constraint.tclass, tuple(sorted(constraint.permissions))))
    return frozenset(found)


def _passed(was: Constraint, now: Constraint) -> Iterator[tuple[str, str]]:
    """(side, type) of those that a set of the expression lets pass now and did not before."""
    for index, side, lets_in in _sets(now.expression):
        left, right = was.expression[index], now.expression[index]
        if isinstance(left, frozenset) and isinstance(right, frozenset):
            # a set that must not be hit (mcs_constrained_type) holds its members back: leaving it is the gain
            for name in right - left if lets_in else left - right:
                yield side, str(name)


def _sets(expression: tuple[object, ...]) -> Iterator[tuple[int, str, bool]]:
    """Place, side, and whether being in it helps, of every set of types in a postfix expression."""
    stack: list[list[tuple[int, str, bool]]] = []
    for index, item in enumerate(expression):
        if item == "not":
            stack.append([(place, side, not helps) for place, side, helps in stack.pop()])
        elif item in ("and", "or"):
            stack.append(stack.pop() + stack.pop())
        elif item in ("==", "!=", "dom", "domby", "incomp"):
            stack.pop()
            stack.pop()
            left, right = expression[index - 2], expression[index - 1]
            side = SIDES.get(str(left), "")
            stack.append([(index - 1, side, item == "==")] if side and isinstance(right, frozenset) else [])
        else:
            stack.append([])
    yield from (found for parts in stack for found in parts)


def _key(constraint: Constraint) -> Key:
    """A constraint without the names of its sets."""
    shape = tuple("set" if isinstance(item, frozenset) else item for item in constraint.expression)
    return (constraint.rule, constraint.tclass, constraint.permissions, shape)
