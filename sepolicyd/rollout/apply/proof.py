"""Proof of a linked policy: each gained access with the decision that covers it, and the reasons against loading it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.module.source import ALLOW, SourceText
from sepolicyd.policy.delta import Delta
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.profiles import Profile
from sepolicyd.rollout.apply.desired_policy import DesiredPolicy
from sepolicyd.rollout.apply.verify_loaded import shortlist
from sepolicyd.rules.guard import policy_delta as judged
from sepolicyd.rules.guard.level import GuardLevel
from sepolicyd.rules.guard.override import Override
from sepolicyd.rules.guard.policy_delta import Judge
from sepolicyd.rules.guard.rule import Finding
from sepolicyd.state.decisions import Decision


@dataclass(frozen=True)
class Proof:
    """The assessment of a policy difference."""

    covered: Mapping[Access, Decision]
    """Each gained access with its decision."""
    uncovered: tuple[Access, ...]
    """Gained accesses without a decision."""
    strange: tuple[str, ...]
    """Other changes that no decision asks for."""
    without_effect: Mapping[Access, str]
    """Decided accesses that the resulting policy still denies, with the reason."""
    findings: Mapping[Access, tuple[Finding, ...]]
    overrides: Mapping[Access, Override]
    """Accesses that the guard refuses and an override in root's configuration allows."""
    refusals: tuple[str, ...]
    """Reasons why the policy may not be loaded; empty if it may."""


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
    """Assess the effect of a change.

    :param delta: the difference between the present policy and ``linked``
    :param drift: on this machine, the difference between store and running kernel before the change. Its accesses count;
        its other differences are not caused by sepolicyd and partly artefacts of how the kernel writes its policy out.
    :param base: the difference made by base modules in the same transaction, checked by the guard but not by decisions
    :param opened: the accesses that decided booleans enable
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
        refusals.append(
            f"{shortlist([_with_origin(access, delta) for access in uncovered])} would be gained, but no decision covers it"
        )
    if strange:
        refusals.append(f"the policy would change in other ways: {shortlist(strange)}")
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
    """Check gained accesses and all rules of the module; a rule may grant something that another rule already allows."""
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
    """Check the accesses that a boolean enables for the service. Those for other domains are only shown in the preview."""
    own_accesses = sorted(access for access in opened if access.source in profile.domains)
    found = guard.judge(own_accesses, profile, linked)
    return {access: tuple(items) for access, items in found.items()}


def _with_origin(access: Access, delta: Delta) -> str:
    """Return an access as text, with the rule that grants it if that rule names an attribute."""
    through = next((origin for origin in delta.origins(access) if not origin.new_rule), None)
    return f"{access} (by the rule on {through})" if through else str(access)


def _key(access: Access, policy: PolicyIndex) -> tuple[str, str, str, str]:
    """Return an access without its ioctl numbers, with aliases resolved."""
    return (policy.resolve(access.source), policy.resolve(access.target_type), access.tclass, access.permission)


def _by_key(source: SourceText, policy: PolicyIndex) -> dict[tuple[str, str, str, str], list[Access]]:
    found: dict[tuple[str, str, str, str], list[Access]] = {}
    for rule in source.rules:
        if rule.kind == ALLOW:
            found.setdefault(_key(rule.access, policy), []).append(rule.access)
    return found


def _cover(access: Access, rules: Sequence[Access]) -> Optional[Access]:
    """Return the rule that covers a gained access: a rule without ioctl numbers, or with ranges that contain all of them."""
    for rule in rules:
        wide = rule.xperms
        if not wide or (access.xperms and all(any(a <= low and high <= b for a, b in wide) for low, high in access.xperms)):
            return rule
    return None


def _strange(delta: Delta, source: SourceText, asked: DesiredPolicy, drift: Optional[Delta]) -> Iterable[str]:
    """Yield every difference besides accesses that no decision asks for.

    Booleans are omitted: the kernel keeps its current values over a load, so they may differ from the store's, and a rule
    counts as gained regardless of its boolean. Decisions set booleans by name.
    """
    ports = {(port.protocol, str(port.number)) for port in asked.ports}
    for kind, added in sorted(delta.added.items()):
        # a permissive type allows everything, so it is reported even if it is drift
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
                found[rule.access] = f"the rule is in the module, but the policy still says {answer.kind.value}"
    return found
