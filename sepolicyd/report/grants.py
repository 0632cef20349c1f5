"""Rows of a report: accesses of one source, target and class with one decision, and accesses without a decision."""

from __future__ import annotations

from collections.abc import Mapping

from sepolicyd.access import Access
from sepolicyd.module.source import ALLOW, DONTAUDIT, Rule
from sepolicyd.report.model import Grant, GrantState, Pending
from sepolicyd.rollout.apply.changes_besides_modules import booleans_of as booleans_in
from sepolicyd.rollout.apply.changes_besides_modules import paths_of, ports_of
from sepolicyd.rollout.apply.desired_policy import rule_kind
from sepolicyd.rollout.apply.versions import Version
from sepolicyd.rules.evidence import Evidence
from sepolicyd.rules.fixes.detail import FixDetail, booleans_of, is_automatic, labels_of
from sepolicyd.rules.fixes.fix import FixKind
from sepolicyd.state.decisions import AnswerKind, Decision

Key = tuple[str, str, str, int, str, GrantState, int]


def grants_of(decided: Mapping[Access, Decision], version: Version, loaded_since: Mapping[Rule, int]) -> list[Grant]:
    """Return the accesses that decisions in force allow or silence, and rules of the loaded module without a decision.

    :param version: the installed version
    :param loaded_since: the version since which each of its rules is in force
    """
    loaded = {(rule.access, rule.kind): loaded_since.get(rule, 0) for rule in version.rules}
    groups: dict[Key, list[str]] = {}
    decisions: dict[int, Decision] = {}
    for access, decision in decided.items():
        if decision.answer not in (AnswerKind.ALLOW, AnswerKind.DONTAUDIT):
            continue
        kind = rule_kind(decision, access)
        if kind:
            state = GrantState.LOADED if (access, kind) in loaded else GrantState.WAITING
        else:
            state = _state_of(decision.fix_detail, version)
        means = DONTAUDIT if kind == DONTAUDIT else "" if kind == ALLOW else _means(decision)
        first = loaded.pop((access, kind), 0) if kind else 0
        decisions[decision.id] = decision
        groups.setdefault((*access.group, decision.id, means, state, first), []).append(_permission(access))
    for (access, kind), first in loaded.items():
        means = DONTAUDIT if kind == DONTAUDIT else ""
        groups.setdefault((*access.group, 0, means, GrantState.WITHDRAWN, first), []).append(_permission(access))
    return [
        Grant(source, target, tclass, tuple(sorted(permissions)), decisions.get(number), means, state, first)
        for (source, target, tclass, number, means, state, first), permissions in sorted(groups.items())
    ]


def _state_of(detail: FixDetail, version: Version) -> GrantState:
    """Tell whether a version implements a fix other than a rule."""
    if not is_automatic(detail):
        return GrantState.BY_HAND
    values = {(one.name, one.on) for one in booleans_in(version.changes)}
    ports = {(one.protocol, one.number, one.type) for one in ports_of(version.changes)}
    contexts = {(one.pattern, one.type, one.kind) for one in version.contexts}
    moves = {(one.source, one.target, one.tclass, one.type) for one in version.transitions}
    labels = labels_of(detail)
    wanted = (
        {(one.boolean, one.value) for one in booleans_of(detail)} <= values,
        {(one.protocol, one.number, one.type) for one in getattr(detail, "ports", ())} <= ports,
        {(one.pattern, one.type, one.kind) for one in labels.contexts} <= contexts,
        {(one.source, one.target, one.tclass, one.type) for one in getattr(detail, "created", ())} <= moves,
        set(labels.paths) <= set(paths_of(version.changes)),
    )
    return GrantState.LOADED if all(wanted) else GrantState.WAITING


def denied(decided: Mapping[Access, Decision]) -> tuple[Grant, ...]:
    """Return the accesses that decisions in force deny."""
    groups: dict[tuple[str, str, str, int], list[str]] = {}
    decisions = {}
    for access, decision in decided.items():
        if decision.answer is AnswerKind.DENY:
            decisions[decision.id] = decision
            groups.setdefault((*access.group, decision.id), []).append(_permission(access))
    return tuple(
        Grant(source, target, tclass, tuple(sorted(permissions)), decisions[number])
        for (source, target, tclass, number), permissions in sorted(groups.items())
    )


def _permission(access: Access) -> str:
    return str(access).partition(f":{access.tclass} ")[2]


def _means(decision: Decision) -> str:
    """Return the means that implement a decision without a rule."""
    settings = booleans_of(decision.fix_detail)
    if settings:
        return "; ".join(f"boolean {one.boolean} {'on' if one.value else 'off'}" for one in settings)
    by_hand = "" if is_automatic(decision.fix_detail) else ", by hand"
    names = {FixKind.RELABEL: "file label", FixKind.OWN_TYPE: "type of its own", FixKind.PORT: "port label"}
    kind = decision.fix_kind
    return (names.get(kind, f"{kind}") if kind is not None else "nothing") + by_hand


def pending_rows(waiting: Mapping[Access, Evidence]) -> tuple[Pending, ...]:
    """Return the accesses that wait for a decision."""
    groups: dict[tuple[str, str, str], dict[str, Evidence]] = {}
    for access, seen in waiting.items():
        groups.setdefault(access.group, {})[access.permission] = seen
    return tuple(
        Pending(*key, tuple(sorted(found)), sum(one.count for one in found.values()), max(one.last for one in found.values()))
        for key, found in sorted(groups.items())
    )
