"""The policy that the decisions in force ask for: rules, labels, ports, booleans, and fixes that must be made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from sepolicyd.access import Access, is_identifier
from sepolicyd.audit.model import ErrorOperation
from sepolicyd.errors import RefusedError
from sepolicyd.module.source import ALLOW, DONTAUDIT, FileContext, Provenance, Rule, TypeTransition
from sepolicyd.module.transaction import BooleanValue, PortLabel
from sepolicyd.rules.fixes.detail import (
    BooleanSetting,
    ConfigurationLine,
    CreatedLabel,
    DomainTransition,
    FixDetail,
    LabelledPort,
    LabelledPorts,
    OnlyPermissions,
    OwnType,
    PathLabel,
    booleans_of,
    is_automatic,
    labels_of,
)
from sepolicyd.rules.fixes.fix import FixKind, is_plain_path
from sepolicyd.state.decisions import AnswerKind, Decision

RULES = (None, FixKind.ALLOW, FixKind.INTERFACE, FixKind.DONTAUDIT)
PROTOCOLS = ("tcp", "udp", "dccp", "sctp")


@dataclass(frozen=True)
class DesiredPolicy:
    """The combined result of all decisions in force."""

    rules: tuple[Rule, ...] = ()
    contexts: tuple[FileContext, ...] = ()
    transitions: tuple[TypeTransition, ...] = ()
    ports: tuple[PortLabel, ...] = ()
    booleans: tuple[BooleanValue, ...] = ()
    paths: tuple[str, ...] = ()
    """Paths to relabel after the load."""
    manual: tuple[str, ...] = ()
    """Fixes that must be made by hand, one sentence each."""


def desired_policy(decided: Mapping[Access, Decision]) -> DesiredPolicy:
    """Collect the desired policy from the decisions in force.

    :raises RefusedError: a stored fix contains an invalid name, path or port
    """
    rules: set[Rule] = set()
    fixes: dict[int, Decision] = {}
    for access, decision in decided.items():
        kind = rule_kind(decision, access)
        if kind:
            origin = Provenance(str(decision.id), decision.by, decision.at, decision.reason)
            rules.add(Rule(access, kind, origin))
        if decision.answer == AnswerKind.ALLOW and decision.fix_kind not in RULES:
            fixes[decision.id] = decision
    chosen = [decision for _, decision in sorted(fixes.items())]
    details = [decision.fix_detail for decision in chosen]
    return DesiredPolicy(
        tuple(sorted(rules)),
        tuple(sorted({_context(one) for detail in details for one in labels_of(detail).contexts})),
        tuple(sorted({_transition(one) for detail in details if isinstance(detail, OwnType) for one in detail.created})),
        tuple(sorted({_port(one) for detail in details if isinstance(detail, LabelledPorts) for one in detail.ports})),
        tuple(sorted({_boolean(one) for detail in details for one in booleans_of(detail)})),
        tuple(sorted({_path(path) for detail in details for path in labels_of(detail).paths})),
        tuple(text for decision in chosen for text in (_manual(decision),) if text),
    )


def rule_kind(decision: Decision, access: Access) -> Optional[str]:
    """Return the kind of rule that a decision creates for one of its accesses, None for no rule.

    An interface is replaced by exactly the accesses for which it was offered. If a constraint denies some permissions of an
    allow rule, the rule is written for the others only.
    """
    if ErrorOperation.of(access.permission) is not None:
        return None  # from an SELINUX_ERR record; not a permission of any policy
    if decision.answer == AnswerKind.DONTAUDIT:
        return DONTAUDIT
    if decision.answer != AnswerKind.ALLOW:
        return None
    if decision.fix_kind is FixKind.DONTAUDIT:
        return DONTAUDIT
    return ALLOW if _is_allowed(decision, access.permission) else None


def _is_allowed(decision: Decision, permission: str) -> bool:
    detail = decision.fix_detail
    if decision.fix_kind in RULES:
        return permission in detail.permissions if isinstance(detail, OnlyPermissions) else True
    return isinstance(detail, OwnType) and permission in detail.allowed


def _manual(decision: Decision) -> str:
    """Return the manual step of a decision, "" if `apply` carries it out."""
    detail: FixDetail = decision.fix_detail
    if isinstance(detail, ConfigurationLine):
        return f"{decision.candidate_id}: set {detail.line or '?'} in {detail.file or 'the application'}"
    if isinstance(detail, DomainTransition):
        return f"{decision.candidate_id}: write the transition to {detail.domain or '?'} into the base module"
    return "" if is_automatic(detail) else f"{decision.candidate_id}: {decision.fix_kind} is done by hand"


def _context(one: PathLabel) -> FileContext:
    return FileContext(one.pattern, _name(one.type), one.kind)


def _transition(one: CreatedLabel) -> TypeTransition:
    return TypeTransition(_name(one.source), _name(one.target), _name(one.tclass), _name(one.type))


def _port(one: LabelledPort) -> PortLabel:
    if one.protocol not in PROTOCOLS or not 0 < one.number < 1 << 16:
        raise RefusedError(f"{one.protocol!r} {one.number} is not a port", "reset that decision and decide again")
    return PortLabel(one.protocol, one.number, _name(one.type))


def _boolean(detail: BooleanSetting) -> BooleanValue:
    return BooleanValue(_name(detail.boolean), detail.value)


def _name(value: str) -> str:
    if not is_identifier(value):
        raise RefusedError(f"{value[:128]!r} is not a valid name in a policy", "reset that decision and decide again")
    return value


def _path(value: str) -> str:
    if not is_plain_path(value):
        raise RefusedError(f"{value[:128]!r} is not a path that can be relabelled", "reset that decision and decide again")
    return value
