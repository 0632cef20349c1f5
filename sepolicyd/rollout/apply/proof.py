"""Two linked policies and the decisions in, the proof out: each access that would be gained, and the decision for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.module.source import ALLOW, SourceText
from sepolicyd.policy.delta import Delta
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.profiles import Profile
from sepolicyd.rollout.apply.desired import DesiredPolicy
from sepolicyd.rollout.apply.verify import some
from sepolicyd.rules.guard import delta as judged
from sepolicyd.rules.guard.delta import Judge
from sepolicyd.rules.guard.level import GuardLevel
from sepolicyd.rules.guard.override import Override
from sepolicyd.rules.guard.rule import Finding
from sepolicyd.state.decisions import Decision


@dataclass(frozen=True)
class Proof:
    """What the difference of the decisions' own module holds, judged.

    ``covered``: each gained access with its decision; ``uncovered``: gained, and nobody decided it; ``strange``: what else
    would change; ``without_effect``: decided accesses that the resulting policy does not allow all the same, and why;
    ``overrides``: findings of level refuse that root's configuration allows in writing; ``refusals`` () means it may be done.
    """

    covered: Mapping[Access, Decision]
    uncovered: tuple[Access, ...]
    strange: tuple[str, ...]
    without_effect: Mapping[Access, str]
    findings: Mapping[Access, tuple[Finding, ...]]
    overrides: Mapping[Access, Override]
    refusals: tuple[str, ...]


def prove(
    delta: Delta,
    linked: PolicyIndex,
    source: SourceText,
    asked: DesiredPolicy,
    decided: Mapping[Access, Decision],
    guard: Judge,
    profile: Profile,
    overrides: Sequence[Override],
    drift: Optional[Delta] = None,
    *,
    base: Optional[Delta] = None,
    opened: Iterable[Access] = (),
) -> Proof:
    """
    :param linked: the policy that would result; ``delta`` is its difference to the present one
    :param drift: on the machine itself, how the store differs from the running kernel before anything is done; what it holds
        besides accesses is not ours, and partly only how the kernel writes its policy out. Accesses count all the same.
    :param base: what base modules of the same transaction bring; the guard judges it, decisions do not cover it
    :param opened: what decided booleans switch on
    """
    rules = _by_key(source, linked)
    cover = {access: _cover(access, rules.get(_key(access, linked), ())) for access in delta.gained}
    covered = {access: decided[by] for access, by in sorted(cover.items()) if by is not None}
    uncovered = tuple(sorted(access for access, by in cover.items() if by is None))
    strange = tuple(_strange(delta, source, asked, drift))
    findings = _findings(delta, linked, source, guard, profile)
    findings.update(_switched(opened, linked, guard, profile))
    excused = {override.access: override for override in overrides if override.access in findings}
    refusals = []
    if uncovered:
        refusals.append(f"{some([_whence(access, delta) for access in uncovered])} would be gained, and no decision covers it")
    if strange:
        refusals.append(f"the policy would change in other ways: {some(strange)}")
    for access, found in findings.items():
        worst = next((finding for finding in found if finding.level is GuardLevel.REFUSE), None)
        if worst is not None and access not in excused:
            refusals.append(f"{worst.code}: {worst.text}")
    unruly = judged.memberships(delta, guard, profile, drift)
    unruly += judged.base(base, guard, profile, overrides) if base is not None else []
    refusals += [f"{finding.code}: {finding.text}" for finding in unruly]
    without = _without_effect(linked, source)
    return Proof(covered, uncovered, strange, without, findings, excused, tuple(refusals))


def _findings(
    delta: Delta, linked: PolicyIndex, source: SourceText, guard: Judge, profile: Profile
) -> dict[Access, tuple[Finding, ...]]:
    """The guard on what would be gained, and on every rule of the module: one may be in the policy by another way today."""
    allowed = {rule.access for rule in source.rules if rule.kind == ALLOW}
    found = guard.judge(sorted(delta.gained | allowed), profile, linked)
    for rule in source.rules:
        if rule.kind != ALLOW:
            silenced = guard.judge_dontaudit(rule.access, profile, linked)
            if silenced:
                found[rule.access] = [*found.get(rule.access, []), *silenced]
    return {access: tuple(items) for access, items in sorted(found.items())}


def _switched(
    opened: Iterable[Access], linked: PolicyIndex, guard: Judge, profile: Profile
) -> dict[Access, tuple[Finding, ...]]:
    """The guard on what a boolean opens for the service. What it opens for others its author decided; the preview tells it."""
    mine = sorted(access for access in opened if access.source in profile.domains)
    found = guard.judge(mine, profile, linked)
    return {access: tuple(items) for access, items in found.items()}


def _whence(access: Access, delta: Delta) -> str:
    """An access with the rule that brings it, where that is an attribute's."""
    through = next((origin for origin in delta.origins(access) if not origin.new_rule), None)
    return f"{access} (by the rule on {through})" if through else str(access)


def _key(access: Access, policy: PolicyIndex) -> tuple[str, str, str, str]:
    """What an access is but for its numbers, aliases resolved."""
    return (policy.resolve(access.source), policy.resolve(access.target_type), access.tclass, access.permission)


def _by_key(source: SourceText, policy: PolicyIndex) -> dict[tuple[str, str, str, str], list[Access]]:
    found: dict[tuple[str, str, str, str], list[Access]] = {}
    for rule in source.rules:
        if rule.kind == ALLOW:
            found.setdefault(_key(rule.access, policy), []).append(rule.access)
    return found


def _cover(access: Access, rules: Sequence[Access]) -> Optional[Access]:
    """The rule that covers a gained access: one without numbers, or with numbers that hold all of its own."""
    for rule in rules:
        wide = rule.xperms
        if not wide or (access.xperms and all(any(a <= low and high <= b for a, b in wide) for low, high in access.xperms)):
            return rule
    return None


def _strange(delta: Delta, source: SourceText, asked: DesiredPolicy, drift: Optional[Delta]) -> Iterable[str]:
    """Every difference that is no access and that no decision asks for.

    Booleans are left out: the kernel keeps its running values over a load, so that they differ from the store's by right,
    and a rule counts as gained whatever its boolean. What a decision sets is set by name.
    """
    ports = {(port.protocol, str(port.number)) for port in asked.ports}
    for kind, added in sorted(delta.added.items()):
        # a permissive type opens as an access does, so that no drift excuses it
        lines = added if drift is None or kind == "permissive" else added - drift.added[kind]
        for line in sorted(lines):
            if kind != "boolean" and not (kind == "portcon" and tuple(line.split()[1:3]) in ports):
                yield line if line.startswith(kind) else f"{kind} {line}"
    moves = {(move.source, move.target, move.tclass, move.type) for move in source.transitions}
    for transition in sorted(delta.transitions_added - (drift.transitions_added if drift else frozenset())):
        if (transition.source, transition.target, transition.tclass, transition.default) not in moves:
            yield str(transition)
    quiet = [rule.access for rule in source.rules if rule.kind != ALLOW]
    for access in sorted(delta.dontaudit_gained):
        if not any((a.source, a.target, a.tclass, a.permission) == (*access.group, access.permission) for a in quiet):
            yield f"{access} would no longer be logged"


def _without_effect(linked: PolicyIndex, source: SourceText) -> dict[Access, str]:
    found = {}
    for rule in source.rules:
        if rule.kind == ALLOW:
            answer = linked.allowed(rule.access)
            if not answer.allowed:
                found[rule.access] = f"the rule is there, and the policy still says {answer.kind.value}"
    return found
