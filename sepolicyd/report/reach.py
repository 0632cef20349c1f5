"""Reach of each domain of a service with the present policy, and the part that the module brought."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from sepolicyd.access import SELF, Access
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.report.model import DomainReach, Edge, ObjectKind, object_kind
from sepolicyd.rules.fixes.fix import rules_of

MAX_RULES = 1500  # per domain and kind, as a readable limit
Reached = dict[tuple[str, str], frozenset[str]]  # permissions by target type and class


def reach_of(policy: PolicyIndex, domains: Iterable[str], gained: Iterable[Access]) -> tuple[DomainReach, ...]:
    """Describe the reach of each domain that exists in the policy.

    Booleans have their present values. Constraints and type bounds, which only restrict, are not applied.

    :param gained: the accesses that the module brought
    """
    by_domain: dict[str, list[Access]] = {}
    for access in gained:
        by_domain.setdefault(access.source, []).append(access)
    return tuple(_reach(policy, name, by_domain.get(name, [])) for name in domains if policy.types_of(name))


def _reach(policy: PolicyIndex, domain: str, gained: list[Access]) -> DomainReach:
    own: dict[tuple[str, str], set[str]] = {}
    for access in gained:
        own.setdefault((access.target_type, access.tclass), set()).add(access.permission)
    rules: dict[ObjectKind, dict[tuple[str, str], frozenset[str]]] = {}
    reached = _reached(policy, domain, own, rules)
    before = {key: permissions - own.get(key, frozenset()) for key, permissions in reached.items()}
    return DomainReach(
        domain=domain,
        before=_types_by_kind({key for key, permissions in before.items() if permissions}),
        after=_types_by_kind({*reached, *own}),
        edges=_edges(gained, {target for (target, _), permissions in before.items() if permissions}),
        rules=tuple((kind, tuple(_texts(domain, rules[kind]))) for kind in ObjectKind if kind in rules),
    )


def _reached(
    policy: PolicyIndex,
    domain: str,
    own: Mapping[tuple[str, str], set[str]],
    rules: dict[ObjectKind, dict[tuple[str, str], frozenset[str]]],
) -> Reached:
    """Return the permissions by target type and class, and add rules from outside the module to ``rules``."""
    found: dict[tuple[str, str], set[str]] = {}
    names = (domain, *policy.attributes_of(domain))
    for (source, target, tclass), permissions, condition in policy.rules("allow", names):
        if condition is not None and not condition.active(policy.booleans):
            continue
        types = (domain,) if target == SELF else policy.types_of(target)
        for one in types:
            found.setdefault((one, tclass), set()).update(permissions)
        of_base = permissions
        if source == domain and tuple(types) in ((target,), (domain,)):  # a rule for exactly this pair may come from the module
            of_base = permissions - own.get((next(iter(types)), tclass), set())
        if of_base:
            listed = rules.setdefault(object_kind(tclass), {})
            key = (SELF if target == domain else target, tclass)
            listed[key] = listed.get(key, frozenset()) | of_base
    return {key: frozenset(permissions) for key, permissions in found.items()}


def _texts(domain: str, rules: Mapping[tuple[str, str], frozenset[str]]) -> list[str]:
    shown = [f"{target}:{tclass} {{ {' '.join(sorted(names))} }}" for (target, tclass), names in sorted(rules.items())]
    left = len(shown) - MAX_RULES
    return shown if left <= 0 else [*shown[:MAX_RULES], f"and {left} more rules of {domain}"]


def _types_by_kind(pairs: Iterable[tuple[str, str]]) -> dict[ObjectKind, int]:
    kinds = {(target, object_kind(tclass)) for target, tclass in pairs}
    counts = Counter(kind for _, kind in kinds)
    return {kind: counts[kind] for kind in ObjectKind}


def _edges(gained: Iterable[Access], before: set[str]) -> tuple[Edge, ...]:
    by_target: dict[str, list[Access]] = {}
    for access in gained:
        by_target.setdefault(access.target, []).append(access)
    return tuple(
        Edge(
            target=target,
            kinds=tuple(sorted({object_kind(access.tclass) for access in accesses}, key=list(ObjectKind).index)),
            accesses=len(accesses),
            widened=accesses[0].target_type in before,
            text="; ".join(rule.partition(":")[2].rstrip(";") for rule in rules_of(accesses)),
        )
        for target, accesses in sorted(by_target.items())
    )
