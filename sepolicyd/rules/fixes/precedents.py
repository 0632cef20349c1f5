"""Precedents: rules of the policy for other domains with the same target (transitions, dontaudit rules, ports, types)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import FILE_CLASSES
from sepolicyd.policy.rule_queries import targets_of

Value = TypeVar("Value")
MIN_SHARED = 3  # minimum length of the common prefix of related names

# cached as long as the policy object exists
_KEPT: WeakKeyDictionary[PolicyIndex, dict[tuple[object, ...], Any]] = WeakKeyDictionary()


def _kept(policy: PolicyIndex, key: tuple[object, ...], make: Callable[[], Value]) -> Value:
    known = _KEPT.setdefault(policy, {})
    if key not in known:
        known[key] = make()
    found: Value = known[key]
    return found


def stem(type_name: str) -> str:
    """Return the name of a domain or program type without its suffix: httpd for httpd_t and httpd_exec_t."""
    for ending in ("_exec_t", "_t"):
        if type_name.endswith(ending):
            return type_name[: -len(ending)]
    return type_name


def related(left: str, right: str) -> int:
    """Return the length of the common prefix of two names, 0 if it is too short."""
    shared = next((place for place, (one, other) in enumerate(zip(left, right)) if one != other), min(len(left), len(right)))
    return shared if shared >= MIN_SHARED else 0


def is_of_program(domain: str, program: str) -> bool:
    """Tell whether a domain is named after a program, such as staff_gkeyringd_t for gkeyringd_exec_t."""
    return stem(program) in stem(domain) or related(domain, program) > MIN_SHARED


def domain_of_program(policy: PolicyIndex, program: str) -> str:
    """Return the domain of a program type: by type_transition rules, or the only domain that it can enter; "" for none."""
    return _kept(policy, ("domain", program), lambda: _domain_of_program(policy, program))


def _domain_of_program(policy: PolicyIndex, program: str) -> str:
    named: dict[str, int] = {}
    for rule in policy.transitions_on(program, "process"):
        if rule.rule == "type_transition" and rule.default != program:
            named[rule.default] = named.get(rule.default, 0) + 1
    own = f"{stem(program)}_t"
    if named:
        return own if own in named else max(sorted(named), key=lambda name: (related(name, program), named[name]))
    entered = policy.sources_of("file", "entrypoint", program) & policy.domains - policy.unconfined
    if own in entered:
        return own
    return next(iter(entered)) if len(entered) == 1 else ""


def starters(policy: PolicyIndex, program: str) -> int:
    """Return the number of domains with a transition when they execute a program."""

    def count() -> int:
        found: set[str] = set()
        for rule in policy.transitions_on(program, "process"):
            if rule.rule == "type_transition":
                found |= policy.types_of(rule.source)
        return len(found & policy.domains)

    return _kept(policy, ("starters", program), count)


def makers_apart(policy: PolicyIndex, directory: str) -> int:
    """Return the number of domains with type_transition rules for files in directories of a type."""

    def count() -> int:
        found: set[str] = set()
        for rule in (rule for tclass in FILE_CLASSES for rule in policy.transitions_on(directory, tclass)):
            if rule.rule == "type_transition" and rule.default != directory:
                found |= policy.types_of(rule.source)
        return len(found & policy.domains - policy.unconfined)

    return _kept(policy, ("makers", directory), count)


def runners(policy: PolicyIndex, program: str) -> int:
    """Return the number of confined domains with execute_no_trans on a program, by a rule that names its type."""

    def count() -> int:
        confined = policy.domains - policy.unconfined
        return sum("execute_no_trans" in policy.rule("allow", source, program, "file") for source in confined)

    return _kept(policy, ("runners", program), count)


def silenced_for(policy: PolicyIndex, tclass: str, permission: str, target: str) -> int:
    """Return the number of confined domains with a dontaudit rule for an access that names the domain itself."""
    return _kept(policy, ("silenced", tclass, permission, target), lambda: _silenced_for(policy, tclass, permission, target))


def _silenced_for(policy: PolicyIndex, tclass: str, permission: str, target: str) -> int:
    if target == "self":
        left = (policy.domains - policy.unconfined).difference(policy.holders(tclass, permission, target))
        return sum(permission in policy.rule("dontaudit", source, source, tclass) for source in left)
    named: set[str] = set()
    for other in (target, *policy.attributes_of(target)):
        named |= policy.rule_sources("dontaudit", other, tclass, permission, conditional=False)
    confined = {name for name in named if name in policy.domains and name not in policy.unconfined}
    return len(confined.difference(policy.holders(tclass, permission, target))) if confined else 0


def named_targets(policy: PolicyIndex, source: str, tclass: str) -> frozenset[str]:
    """Return the targets of a class in allow rules that name the source itself rather than an attribute."""
    return _kept(policy, ("named", source, tclass), lambda: targets_of(policy, source, tclass))


def is_configuration(policy: PolicyIndex, type_name: str) -> bool:
    """Tell whether files of a type are configuration that no service writes logs into."""
    return bool(policy.attributes_of(type_name) & {"configfile", "base_ro_file_type"}) or type_name == "etc_runtime_t"


def is_program(policy: PolicyIndex, type_name: str) -> bool:
    """Tell whether a type is a program type, by its attribute or because it is an entry point of a domain."""
    attributes = policy.attributes_of(type_name)
    return bool(attributes & {"exec_type", "application_exec_type", "entry_type"}) or type_name.endswith("_exec_t")
