"""Parts of a policy comparison other than accesses: declarations as lines by kind, transitions, memberships."""

from __future__ import annotations

from collections.abc import Iterator

from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.model import Transition

OTHER_KINDS = {
    "portcons": "portcon",
    "genfscons": "genfscon",
    "fs_uses": "fs_use",
    "nodecons": "nodecon",
    "netifcons": "netifcon",
    "initialsids": "sid",
    "ibpkeycons": "ibpkeycon",
    "ibendportcons": "ibendportcon",
    "rbacrules": "role rule",
    "mlsrules": "range_transition",
    "defaults": "default",
    "polcaps": "policycap",
    "users": "user",
    "validatetrans": "validatetrans",
}


def transitions_beyond(one: PolicyIndex, other: PolicyIndex) -> frozenset[Transition]:
    """Return the transitions that only the first has. Fedora's policy has 260,000 for file names."""
    found = set(one.plain_transitions()) - set(other.plain_transitions())
    for place, sources in one.named_transitions.items():
        target, tclass, filename, default = place
        for source in sources - other.named_transitions.get(place, frozenset()):
            found.add(Transition("type_transition", source, target, tclass, default, filename))
    return frozenset(found)


def memberships(policy_index: PolicyIndex) -> frozenset[tuple[str, str]]:
    return frozenset((name, attribute) for name, attributes in policy_index.types.items() for attribute in attributes)


def statements_of(policy_index: PolicyIndex) -> dict[str, frozenset[str]]:
    """Return all statements other than access rules, as sets of lines by kind."""
    types = policy_index.types
    found = {
        "type": frozenset(types),
        "typeattribute": frozenset(f"{name} {attribute}" for name, attributes in types.items() for attribute in attributes),
        "alias": frozenset(f"{alias} {name}" for alias, name in policy_index.aliases.items()),
        "permissive": policy_index.permissive_types,
        "neveraudit": policy_index.neveraudit_types,
        "class": frozenset(
            f"{name} {{ {' '.join(sorted(permissions))} }}" for name, permissions in policy_index.classes.items()
        ),
        "boolean": frozenset(f"{name} {'on' if state else 'off'}" for name, state in policy_index.booleans.items()),
        "typebounds": frozenset(f"{parent} {child}" for child, parent in policy_index.bounds.items()),
        "role": frozenset(f"{role} {name}" for role, types in policy_index.roles.items() for name in types),
        "constraint": frozenset(constraint.text for constraint in policy_index.constraints),
        "handle_unknown": frozenset((policy_index.handle_unknown, "mls" if policy_index.mls else "no mls")),
        "auditallow": frozenset(_lines(policy_index, "auditallow")),
    }
    found.update({OTHER_KINDS[kind]: lines for kind, lines in policy_index.statements.items()})
    return found


def _lines(policy_index: PolicyIndex, rule: str) -> Iterator[str]:
    for (source, target, tclass), permissions in policy_index.plain_rules(rule).items():
        yield f"{source} {target}:{tclass} {{ {' '.join(sorted(permissions))} }}"
    for (source, target, tclass), conditional in policy_index.conditional_rules(rule).items():
        for permissions, condition in conditional:
            yield f"{source} {target}:{tclass} {{ {' '.join(sorted(permissions))} }} [ {condition} ]"
