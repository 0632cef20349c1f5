"""What the policy does for other domains in the same place: precedents for a transition, a dontaudit rule, a port or a type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import FILE_CLASSES
from sepolicyd.policy.rule_queries import targets_of

Value = TypeVar("Value")
MIN_SHARED = 3  # characters of a name that two stems must share to be called related

# Kept with the policy and no longer than it.
_KEPT: WeakKeyDictionary[PolicyIndex, dict[tuple[object, ...], Any]] = WeakKeyDictionary()


def _kept(policy: PolicyIndex, key: tuple[object, ...], make: Callable[[], Value]) -> Value:
    known = _KEPT.setdefault(policy, {})
    if key not in known:
        known[key] = make()
    found: Value = known[key]
    return found


def stem(type_name: str) -> str:
    """The name of a domain or program type without its ending: httpd of httpd_t and httpd_exec_t."""
    for ending in ("_exec_t", "_t"):
        if type_name.endswith(ending):
            return type_name[: -len(ending)]
    return type_name


def related(left: str, right: str) -> int:
    """The length of the common beginning of two names, 0 where it is too short to mean anything."""
    shared = next((place for place, (one, other) in enumerate(zip(left, right)) if one != other), min(len(left), len(right)))
    return shared if shared >= MIN_SHARED else 0


def is_of_program(domain: str, program: str) -> bool:
    """Whether the names say that a domain is made for a program, as staff_gkeyringd_t is for gkeyringd_exec_t."""
    return stem(program) in stem(domain) or related(domain, program) > MIN_SHARED


def domain_of_program(policy: PolicyIndex, program: str) -> str:
    """The domain that a program type starts: by type_transition rules, else the one that it alone enters; "" for none."""
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
    """How many domains leave their own when they start a program."""

    def count() -> int:
        found: set[str] = set()
        for rule in policy.transitions_on(program, "process"):
            if rule.rule == "type_transition":
                found |= policy.types_of(rule.source)
        return len(found & policy.domains)

    return _kept(policy, ("starters", program), count)


def makers_apart(policy: PolicyIndex, directory: str) -> int:
    """How many domains get types of their own for what they make in directories of a type, by type_transition rules."""

    def count() -> int:
        found: set[str] = set()
        for rule in policy.transitions():
            if rule.rule == "type_transition" and rule.tclass in FILE_CLASSES and rule.target == directory:
                found |= policy.types_of(rule.source) if rule.default != directory else frozenset()
        return len(found & policy.domains - policy.unconfined)

    return _kept(policy, ("makers", directory), count)


def runners(policy: PolicyIndex, program: str) -> int:
    """How many confined domains run a program without leaving their own, by a rule that names the program's type."""

    def count() -> int:
        confined = policy.domains - policy.unconfined
        return sum("execute_no_trans" in policy.rule("allow", source, program, "file") for source in confined)

    return _kept(policy, ("runners", program), count)


def silenced_for(policy: PolicyIndex, tclass: str, permission: str, target: str) -> int:
    """How many confined domains are denied an access in silence, by a dontaudit rule that names the domain itself."""
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
    """Targets of a class in allow rules that name the source itself and not one of its attributes."""
    return _kept(policy, ("named", source, tclass), lambda: targets_of(policy, source, tclass))


def is_program(policy: PolicyIndex, type_name: str) -> bool:
    """Whether files of a type are programs: by the attribute, or because they are a door into a domain."""
    attributes = policy.attributes_of(type_name)
    return bool(attributes & {"exec_type", "application_exec_type", "entry_type"}) or type_name.endswith("_exec_t")
