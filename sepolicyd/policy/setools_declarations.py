"""Read roles, users, levels, ports, constraints and the remaining statements from setools' policy object."""

from __future__ import annotations

from typing import Any

from sepolicyd.policy.model import Constraint, PortRange
from sepolicyd.policy.setools_adapter import parenthesised


def read_roles(handle: Any) -> dict[str, frozenset[str]]:
    """Return the types of each role."""
    return {item.name: frozenset(part.name for part in item.types()) for item in handle.roles()}


def read_dominated_roles(handle: Any) -> dict[str, frozenset[str]]:
    """Return the dominated roles of each role."""
    found = {}
    for item in handle.roles():
        roles = item.dominated_roles  # a method in setools 4.3 and earlier
        found[item.name] = frozenset(str(part) for part in (roles() if callable(roles) else roles))
    return found


def read_role_allows(handle: Any) -> frozenset[tuple[str, str]]:
    """Return (role, target role) of every `allow ROLE ROLE`."""
    return frozenset(
        (str(source), str(target))
        for rule in handle.rbacrules()
        if str(rule.ruletype) == "allow"
        for source in rule.source.expand()
        for target in rule.target.expand()
    )


def read_users(handle: Any) -> dict[str, frozenset[str]]:
    """Return the roles of each user."""
    return {item.name: frozenset(str(role) for role in item.roles) for item in handle.users()}


def read_ports(handle: Any) -> tuple[PortRange, ...]:
    """Return all portcon statements in policy order: the kernel uses the first match (services.c, security_port_sid)."""
    return tuple(
        PortRange(str(item.protocol), int(item.ports.low), int(item.ports.high), str(item.context.type_))
        for item in handle.portcons()
    )


def read_categories(handle: Any) -> dict[str, int]:
    """Return the number of each category name or alias, in policy order, as ranges like `c0.c3` use it."""
    found: dict[str, int] = {}
    for item in handle.categories():
        # setools has the order only as a private value; without it the number in the usual names c0..c1023 is used
        value = getattr(item, "_value", None)
        place = int(value) if value is not None else int(item.name.lstrip("c") or 0)
        for name in (item.name, *map(str, item.aliases())):
            found[name] = place
    return found


def read_sensitivities(handle: Any) -> dict[str, int]:
    """Return the rank of each sensitivity name or alias; higher ranks dominate."""
    found: dict[str, int] = {}
    for rank, item in enumerate(sorted(handle.sensitivities())):
        for name in (item.name, *map(str, item.aliases())):
            found[name] = rank
    return found


def read_constraints(handle: Any) -> tuple[Constraint, ...]:
    """Return all constrain and mlsconstrain statements (not validatetrans), names expanded to types."""
    found = []
    for item in handle.constraints():
        rule = str(item.ruletype)
        if rule.endswith("constrain"):
            expression = tuple(_names(part) if isinstance(part, frozenset) else str(part) for part in item.expression)
            permissions = frozenset(item.perms)
            text = f"{rule} {item.tclass} {{ {' '.join(sorted(permissions))} }} ({_shown(item.expression)})"
            found.append(Constraint(rule, str(item.tclass), permissions, expression, text))
    return tuple(sorted(found, key=lambda constraint: constraint.text))


def _names(items: frozenset[Any]) -> frozenset[str]:
    return frozenset(str(part) for item in items for part in (item.expand() if hasattr(item, "expand") else (item,)))


def _shown(expression: Any) -> str:
    stack: list[str] = []
    for item in expression:
        if isinstance(item, frozenset):
            names = sorted(str(part) for part in item)
            stack.append(names[0] if len(names) == 1 else f"{{ {' '.join(names)} }}")
        elif item == "not":
            stack.append(f"not {parenthesised(stack.pop())}")
        elif item in {"and", "or"}:
            right, left = stack.pop(), stack.pop()
            stack.append(f"{parenthesised(left)} {item} {parenthesised(right)}")
        elif item in {"==", "!=", "dom", "domby", "incomp"}:
            right, left = stack.pop(), stack.pop()
            stack.append(f"{left} {item} {right}")
        else:
            stack.append(str(item))
    return stack[0] if stack else ""


def read_statements(handle: Any) -> dict[str, frozenset[str]]:
    """Return all other statements that a policy comparison needs, by kind."""
    kinds = ("portcons", "genfscons", "fs_uses", "nodecons", "netifcons", "initialsids", "ibpkeycons", "ibendportcons")
    found = {kind: frozenset(item.statement() for item in getattr(handle, kind)()) for kind in kinds}
    for kind in ("rbacrules", "mlsrules", "defaults", "polcaps"):
        found[kind] = frozenset(item.statement() for item in getattr(handle, kind)())
    found["users"] = frozenset(_user(item, mls=bool(handle.mls)) for item in handle.users())
    found["validatetrans"] = frozenset(
        f"{item.ruletype} {item.tclass} ({_shown(item.expression)})"
        for item in handle.constraints()
        if str(item.ruletype).endswith("validatetrans")
    )
    return found


def _user(item: Any, *, mls: bool) -> str:
    roles = " ".join(sorted(str(role) for role in item.roles))
    levels = f" level {item.mls_level} range {item.mls_range}" if mls else ""
    return f"user {item.name} roles {{ {roles} }}{levels}"
