"""Decisions in, what they ask of the policy out: rules, labels, ports, booleans, and what only a person can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from sepolicyd.access import Access, is_identifier
from sepolicyd.errors import RefusedError
from sepolicyd.module.source import ALLOW, DONTAUDIT, FileContext, Provenance, Rule, TypeTransition
from sepolicyd.module.transaction import BooleanValue, PortLabel
from sepolicyd.rules.fixes import fix
from sepolicyd.rules.fixes.fix import is_plain_path
from sepolicyd.state.decisions import AnswerKind, Decision

RULES = ("", fix.ALLOW, fix.INTERFACE, fix.DONTAUDIT)
PROTOCOLS = ("tcp", "udp", "dccp", "sctp")


@dataclass(frozen=True)
class DesiredPolicy:
    """What all standing decisions ask together. ``paths`` are relabelled after the load; ``manual``: fixes for a person."""

    rules: tuple[Rule, ...] = ()
    contexts: tuple[FileContext, ...] = ()
    transitions: tuple[TypeTransition, ...] = ()
    ports: tuple[PortLabel, ...] = ()
    booleans: tuple[BooleanValue, ...] = ()
    paths: tuple[str, ...] = ()
    manual: tuple[str, ...] = ()


def desired_policy(decided: Mapping[Access, Decision]) -> DesiredPolicy:
    """
    :raises RefusedError: a stored fix is not what a fix may be (the decisions were written by other hands)
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
    details = [(decision, decision.fix_detail) for _, decision in sorted(fixes.items())]
    return DesiredPolicy(
        tuple(sorted(rules)),
        tuple(sorted({_context(item) for _, detail in details for item in detail.get("contexts", ())})),
        tuple(sorted({_transition(item) for _, detail in details for item in detail.get("transitions", ())})),
        tuple(sorted({_port(item) for _, detail in details for item in detail.get("ports", ())})),
        tuple(sorted({_boolean(detail) for _, detail in details if "boolean" in detail})),
        tuple(sorted({_path(item) for _, detail in details for item in detail.get("paths", ())})),
        tuple(text for decision, detail in details for text in (_manual(decision, detail),) if text),
    )


def rule_kind(decision: Decision, access: Access) -> Optional[str]:
    """allow or dontaudit where the decision is a rule for this access of it, None where it is something else.

    An interface is carried out as exactly the accesses that it was offered for, without its surplus; of an allow that a
    constraint holds back in part, only what it helps.
    """
    if decision.answer == AnswerKind.DONTAUDIT:
        return DONTAUDIT
    if decision.answer != AnswerKind.ALLOW:
        return None
    if decision.fix_kind == fix.DONTAUDIT:
        return DONTAUDIT
    if decision.fix_kind in RULES:
        return ALLOW if access.permission in decision.fix_detail.get("only", (access.permission,)) else None
    return ALLOW if access.permission in decision.fix_detail.get("allow", ()) else None


def _manual(decision: Decision, detail: Mapping[str, Any]) -> str:
    if decision.fix_kind == fix.APPLICATION:
        return f"{decision.candidate_id}: set {detail.get('line', '?')} in {detail.get('file', 'the application')}"
    if decision.fix_kind == fix.TRANSITION:
        return f"{decision.candidate_id}: write the transition to {detail.get('domain', '?')} into the base module"
    return "" if carried_out(detail) else f"{decision.candidate_id}: {decision.fix_kind} is done by hand"


def carried_out(detail: Mapping[str, Any]) -> bool:
    """Whether apply does what a fix says, and not a person."""
    return any(detail.get(key) for key in ("paths", "contexts", "transitions", "ports", "boolean"))


def _context(item: Mapping[str, Any]) -> FileContext:
    return FileContext(str(item["pattern"]), _name(item["type"]), str(item.get("kind", "")))


def _transition(item: Mapping[str, Any]) -> TypeTransition:
    return TypeTransition(*(_name(item[key]) for key in ("source", "target", "class", "type")))


def _port(item: Mapping[str, Any]) -> PortLabel:
    protocol, number = str(item["protocol"]), int(item["number"])
    if protocol not in PROTOCOLS or not 0 < number < 1 << 16:
        raise RefusedError(f"{protocol!r} {number} is no port", "reset that decision and decide again")
    return PortLabel(protocol, number, _name(item["type"]))


def _boolean(detail: Mapping[str, Any]) -> BooleanValue:
    return BooleanValue(_name(detail["boolean"]), bool(detail["value"]))


def _name(value: Any) -> str:
    if not isinstance(value, str) or not is_identifier(value):
        raise RefusedError(f"{str(value)[:128]!r} cannot be a name in a policy", "reset that decision and decide again")
    return value


def _path(value: Any) -> str:
    if not isinstance(value, str) or not is_plain_path(value):
        raise RefusedError(f"{str(value)[:128]!r} is no path to relabel", "reset that decision and decide again")
    return value
