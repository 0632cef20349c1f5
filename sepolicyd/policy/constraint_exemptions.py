"""Types exempt from a constraint in the new policy only. The allow rules do not show this gain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.model import Constraint

SIDES = {"t1": "source", "t2": "target"}
Key = tuple[str, str, frozenset[str], tuple[object, ...]]


@dataclass(frozen=True, order=True)
class Exemption:
    """A type that is exempt from a constraint. ``side``: source or target of the access."""

    type: str
    side: str
    rule: str
    tclass: str
    permissions: tuple[str, ...]

    def __str__(self) -> str:
        shown = " ".join(self.permissions[:4]) + (" ..." if len(self.permissions) > 4 else "")
        return f"{self.type} as {self.side} of {self.rule} {self.tclass} {{ {shown} }}"


def exempted(before: PolicyIndex, after: PolicyIndex) -> frozenset[Exemption]:
    """Return the types that are exempt from a constraint in ``after`` and restricted in ``before``.

    Attributes are expanded, because the binary policy may lack the attribute that a type joined. New and changed constraints
    are ignored here: Delta.added lists them.
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
    """Yield (side, type) of the types that a set of the expression exempts in the new policy only."""
    for index, side, lets_in in _sets(now.expression):
        left, right = was.expression[index], now.expression[index]
        if isinstance(left, frozenset) and isinstance(right, frozenset):
            # a negated set (mcs_constrained_type) restricts its members: leaving the set is the gain
            for name in right - left if lets_in else left - right:
                yield side, str(name)


def _sets(expression: tuple[object, ...]) -> Iterator[tuple[int, str, bool]]:
    """Yield the place and side of each set of types in a postfix expression, and whether membership exempts."""
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
    """Return a constraint without the names in its sets."""
    shape = tuple("set" if isinstance(item, frozenset) else item for item in constraint.expression)
    return (constraint.rule, constraint.tclass, constraint.permissions, shape)
