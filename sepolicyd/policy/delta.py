"""Exact difference of two kernel policies: every access gained and lost, attributes expanded.

Rules are compared in their binary form, attributes unexpanded. A rule is expanded only if it differs or names an attribute
whose members differ. Accesses that the other policy allows by other rules are then removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Optional, Union

from sepolicyd.access import Access
from sepolicyd.errors import InputError
from sepolicyd.policy.constraint_exemptions import Exemption, exempted
from sepolicyd.policy.delta_statements import memberships, statements_of, transitions_beyond
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.model import ALL_XPERMS, Condition, Key, Ranges, Transition, XpermRule, subtract_ranges
from sepolicyd.policy.setools_adapter import without_collector

MAX_PAIRS = 2_000_000  # two builds of one policy differ in some ten thousand pairs, unrelated policies in many millions
MAX_CONDITION_BOOLEANS = 12  # 4,096 rows of a truth table; conditionals of the known policies have up to 5


@dataclass(frozen=True, order=True)
class Origin:
    """Rule that brought an access: its avtab key, and whether the rule itself is new.

    ``new_rule`` False: the old policy has the rule with this permission, and one of its attributes has new members.
    """

    source: str
    target: str
    tclass: str
    new_rule: bool
    condition: str = ""

    def __str__(self) -> str:
        under = f" [ {self.condition} ]" if self.condition else ""
        return f"{self.source} {self.target}:{self.tclass}{under}"


@dataclass(frozen=True)
class Gain:
    """Permissions that one rule brings to one pair of types; ``condition`` is None for an unconditional rule."""

    permissions: frozenset[str]
    condition: Optional[Condition]
    origin: Origin


@dataclass(frozen=True)
class Side:
    """Accesses of one policy that the other lacks. Keys are (source type, target type, class), with SELF resolved."""

    gains: Mapping[Key, tuple[Gain, ...]]
    numbers: Mapping[tuple[Key, str], Ranges] = field(default_factory=dict)

    @cached_property
    def accesses(self) -> frozenset[Access]:
        found = set()
        for key, gains in self.gains.items():
            source, target, tclass = key
            for permission in frozenset().union(*(gain.permissions for gain in gains)):
                ranges = self.numbers.get((key, permission), ALL_XPERMS)
                if ranges:
                    found.add(Access.of(source, target, tclass, permission, () if ranges == ALL_XPERMS else ranges))
        for ((source, target, tclass), permission), ranges in self.numbers.items():
            if ranges:
                found.add(Access.of(source, target, tclass, permission, () if ranges == ALL_XPERMS else ranges))
        return frozenset(found)

    def of(self, access: Access) -> tuple[Gain, ...]:
        """Return the gains that make up an access, of all rules that allow it."""
        gains = self.gains.get((access.source, access.target_type, access.tclass), ())
        return tuple(gain for gain in gains if access.permission in gain.permissions)


@dataclass(frozen=True, eq=False)
class Delta:
    """Differences of two policies in both directions; each part is computed on first use.

    Rules count under any setting of booleans; :meth:`conditions` returns the conditions of an access. Type bounds and
    constraints are not applied, because they only restrict. Changed constraints are in ``added`` and ``removed``.
    """

    before: PolicyIndex
    after: PolicyIndex

    @property
    def old(self) -> Path:
        return self.before.path

    @property
    def new(self) -> Path:
        return self.after.path

    @cached_property
    def _changed(self) -> frozenset[str]:
        """Names whose set of types differs: attributes with other members, and added or removed names."""
        left, right = self.before.attributes, self.after.attributes
        return frozenset(name for name in {*left, *right} if left.get(name) != right.get(name))

    def _side(self, rule: str, *, lost: bool = False) -> Side:
        with without_collector():
            return _side(*((self.after, self.before) if lost else (self.before, self.after)), self._changed, rule)

    @cached_property
    def gain(self) -> Side:
        return self._side("allow")

    @cached_property
    def loss(self) -> Side:
        return self._side("allow", lost=True)

    @cached_property
    def dontaudit_gain(self) -> Side:
        return self._side("dontaudit")

    @cached_property
    def dontaudit_loss(self) -> Side:
        return self._side("dontaudit", lost=True)

    @cached_property
    def _facts(self) -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]:
        with without_collector():
            return statements_of(self.before), statements_of(self.after)

    @cached_property
    def added(self) -> Mapping[str, frozenset[str]]:
        """Differences other than accesses and transitions, as statements by kind: type, typeattribute, permissive, role, ..."""
        before, after = self._facts
        return {kind: after[kind] - before[kind] for kind in after}

    @cached_property
    def removed(self) -> Mapping[str, frozenset[str]]:
        before, after = self._facts
        return {kind: before[kind] - after[kind] for kind in after}

    @cached_property
    def xperm_rules_added(self) -> frozenset[str]:
        """allowxperm, dontauditxperm, auditallowxperm rules as text; ``gained`` includes the accesses that allowxperm opens."""
        return frozenset(map(str, self.after.xperm_rules)) - frozenset(map(str, self.before.xperm_rules))

    @cached_property
    def xperm_rules_removed(self) -> frozenset[str]:
        return frozenset(map(str, self.before.xperm_rules)) - frozenset(map(str, self.after.xperm_rules))

    # the kernel looks up transitions by exact types (services.c, security_compute_sid), so nothing is expanded
    @cached_property
    def transitions_added(self) -> frozenset[Transition]:
        return transitions_beyond(self.after, self.before)

    @cached_property
    def transitions_removed(self) -> frozenset[Transition]:
        return transitions_beyond(self.before, self.after)

    @property
    def gained(self) -> frozenset[Access]:
        """All accesses that only the new policy allows, under any setting of booleans."""
        return self.gain.accesses

    @property
    def lost(self) -> frozenset[Access]:
        return self.loss.accesses

    @property
    def dontaudit_gained(self) -> frozenset[Access]:
        """Accesses whose denial is no longer logged."""
        return self.dontaudit_gain.accesses

    def conditions(self, access: Access) -> tuple[Condition, ...]:
        """Return the conditions of a gained (or lost) access, () if it is unconditional."""
        gains = self.gain.of(access) or self.loss.of(access)
        if any(gain.condition is None for gain in gains):
            return ()
        return tuple(gain.condition for gain in gains if gain.condition is not None)

    def active(self, access: Access) -> bool:
        """Tell whether a gained access is allowed with the current booleans of the new policy."""
        conditions = self.conditions(access)
        return not conditions or any(condition.active(self.after.booleans) for condition in conditions)

    def origins(self, access: Access) -> tuple[Origin, ...]:
        """Return the rules that allow a gained access (or allowed a lost one), sorted."""
        return tuple(sorted({gain.origin for gain in self.gain.of(access) or self.loss.of(access)}))

    @property
    def empty(self) -> bool:
        sides = (self.gain, self.loss, self.dontaudit_gain, self.dontaudit_loss)
        rules = (self.transitions_added, self.transitions_removed, self.xperm_rules_added, self.xperm_rules_removed)
        if any(side.accesses for side in sides) or any(rules):
            return False
        return not any(self.added.values()) and not any(self.removed.values())

    @property
    def new_types(self) -> frozenset[str]:
        return frozenset(self.after.types.keys() - self.before.types.keys())

    @property
    def joined(self) -> frozenset[tuple[str, str]]:
        """(type, attribute) of every new membership: an attribute may open more than its rules (neverallow exempts it)."""
        return memberships(self.after) - memberships(self.before)

    @cached_property
    def exempted(self) -> frozenset[Exemption]:
        """Types that a constraint restricted before and no longer restricts."""
        return exempted(self.before, self.after)

    @property
    def permissive_gained(self) -> frozenset[str]:
        return self.after.permissive_types - self.before.permissive_types


def difference(old: Union[Path, PolicyIndex], new: Union[Path, PolicyIndex]) -> Delta:
    """Return the exact difference of two kernel policies. Pass loaded indexes if available: loading takes most of the time.

    :raises ToolMissingError: no setools
    :raises InputError: the path is not a readable kernel policy. Parts of the Delta raise it for unrelated policies
    """
    before = old if isinstance(old, PolicyIndex) else PolicyIndex.load(Path(old))
    after = new if isinstance(new, PolicyIndex) else PolicyIndex.load(Path(new))
    return Delta(before, after)


def _side(before: PolicyIndex, after: PolicyIndex, changed: frozenset[str], rule: str) -> Side:
    """Return the accesses that only ``after`` has by rules of one kind (allow, dontaudit, ...)."""
    gains: dict[Key, tuple[Gain, ...]] = {}
    left = MAX_PAIRS
    for key, permissions, condition in _rules_to_expand(before, after, changed, rule):
        had = _had(before, rule, key, permissions, condition)
        made: dict[frozenset[str], tuple[Gain, ...]] = {}  # most pairs of one rule gain the same permissions
        for pair, wanted in _pairs(before, after, key, permissions, had):
            left -= 1
            if left < 0:
                raise InputError(
                    f"{after.path} differs from {before.path} in more than {MAX_PAIRS:,} pairs of types",
                    "compare two builds of the same policy",
                )
            new = _uncovered(before, pair, wanted, condition, rule)
            if new:
                if new not in made:
                    made[new] = _gains(new, had, key, condition)
                gains[pair] = (*gains.get(pair, ()), *made[new])
    return Side(gains, _numbers(before, after, changed, gains) if rule == "allow" else {})


def _gains(new: frozenset[str], had: frozenset[str], key: Key, condition: Optional[Condition]) -> tuple[Gain, ...]:
    parts = ((new - had, True), (new & had, False))
    return tuple(Gain(part, condition, Origin(*key, new_rule, str(condition or ""))) for part, new_rule in parts if part)


def _rules_to_expand(
    before: PolicyIndex, after: PolicyIndex, changed: frozenset[str], rule: str
) -> Iterator[tuple[Key, frozenset[str], Optional[Condition]]]:
    """Yield the rules of ``after`` that ``before`` lacks or whose attributes have other members there."""
    plain = before.plain_rules(rule)
    for key, permissions in after.plain_rules(rule).items():
        if plain.get(key) != permissions or key[0] in changed or key[1] in changed:
            yield key, permissions, None
    under = before.conditional_rules(rule)
    for key, conditional in after.conditional_rules(rule).items():
        if key[0] in changed or key[1] in changed or under.get(key) != conditional:
            for permissions, condition in conditional:
                yield key, permissions, condition


def _had(
    before: PolicyIndex, rule: str, key: Key, permissions: frozenset[str], condition: Optional[Condition]
) -> frozenset[str]:
    """Return the permissions of a rule that ``before`` has under the same key and condition."""
    if condition is None:
        return permissions & before.plain_rules(rule).get(key, frozenset())
    same = (found for found, when in before.conditional_rules(rule).get(key, ()) if when == condition)
    return permissions & frozenset().union(*same)


def _pairs(
    before: PolicyIndex, after: PolicyIndex, key: Key, permissions: frozenset[str], had: frozenset[str]
) -> Iterator[tuple[Key, frozenset[str]]]:
    """Yield the pairs of types that a rule covers only in ``after``, with the new permissions of each."""
    source, target, tclass = key
    sources, targets = after.types_of(source), after.types_of(target)
    old_sources, old_targets = before.types_of(source), before.types_of(target)
    for left, right in product(sources - old_sources, targets):
        yield (left, right, tclass), permissions
    for left, right in product(sources & old_sources, targets - old_targets):
        yield (left, right, tclass), permissions
    new = permissions - had
    if new:
        for left, right in product(sources & old_sources, targets & old_targets):
            yield (left, right, tclass), new


def _uncovered(
    before: PolicyIndex, pair: Key, wanted: frozenset[str], condition: Optional[Condition], rule: str
) -> frozenset[str]:
    """Return the permissions that ``before`` does not already allow whenever ``condition`` holds."""
    source, target, tclass = pair
    if source not in before.types or target not in before.types:
        return wanted
    have = before.pair(source, target, tclass, rule)
    left = wanted - have.permissions
    if not left or not have.conditional:
        return left
    return frozenset(permission for permission in left if not covers(have.conditions(permission), condition))


def covers(conditions: tuple[Condition, ...], condition: Optional[Condition]) -> bool:
    """Tell whether one of ``conditions`` holds whenever ``condition`` does (None: always)."""
    if not conditions:
        return False
    if condition is not None and condition in conditions:
        return True
    names = sorted({name for item in (*conditions, *((condition,) if condition else ())) for name in item.booleans})
    if len(names) > MAX_CONDITION_BOOLEANS:
        return False
    for values in product((False, True), repeat=len(names)):
        states = dict(zip(names, values))
        wanted = condition is None or condition.active(states)
        if wanted and not any(item.active(states) for item in conditions):
            return False
    return True


def _numbers(
    before: PolicyIndex, after: PolicyIndex, changed: frozenset[str], gains: Mapping[Key, tuple[Gain, ...]]
) -> dict[tuple[Key, str], Ranges]:
    """Return the ioctl (nlmsg) numbers gained by each pair whose filter differs, with the current booleans."""
    if not before.xperm_rules and not after.xperm_rules:
        return {}
    places = {(rule.key[2], rule.name) for rule in (*before.xperm_rules, *after.xperm_rules)}
    wanted = {
        (pair, permission)
        for pair, parts in gains.items()
        for part in parts
        for permission in part.permissions
        if (pair[2], permission) in places
    }
    for rule in _xperm_rules_that_differ(before, after, changed):
        source, target, tclass = rule.key
        lefts, rights = after.types_of(source) | before.types_of(source), after.types_of(target) | before.types_of(target)
        wanted.update(((left, right, tclass), rule.name) for left, right in product(lefts, rights))
    found = {}
    for pair, permission in wanted:
        gained = any(permission in gain.permissions for gain in gains.get(pair, ()))
        if after.grants(*pair, permission) or not gained:  # a conditional gain that is off stays complete
            found[(pair, permission)] = subtract_ranges(
                after.permitted_numbers(*pair, permission), before.permitted_numbers(*pair, permission)
            )
    return found


def _xperm_rules_that_differ(before: PolicyIndex, after: PolicyIndex, changed: frozenset[str]) -> Iterator[XpermRule]:
    left, right = set(before.xperm_rules), set(after.xperm_rules)
    for rule in left | right:
        if rule.key[0] in changed or rule.key[1] in changed or rule not in left or rule not in right:
            yield rule
