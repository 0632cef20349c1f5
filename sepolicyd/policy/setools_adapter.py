"""A kernel policy file in, a RawPolicy of plain strings and sets out; nothing of setools leaves this file.

setools 4.4 to 4.7 (its README and ChangeLog): the calls used here have not changed between them.
"""

from __future__ import annotations

import errno
import gc
import logging
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepolicyd.errors import InputError, ToolMissingError
from sepolicyd.kernel.policy_image import MAGIC as KERNEL_MAGIC
from sepolicyd.policy.model import Condition, Conditional, Constraint, Key, PortRange, Transition, XpermRule, ranges_of

MODULE_MAGIC = 0xF97CFF8D  # a .mod
PACKAGE_MAGIC = 0xF97CFF8F  # a .pp
PACKAGES = "python3-setools (Debian, Fedora, RHEL)"
BUSY_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
AV_RULES = {"allow", "dontaudit", "auditallow"}


@dataclass
class RawPolicy:
    """The policy's own rules, attributes not expanded. ``av`` and ``av_conditional`` by rule word, then by avtab key."""

    path: Path
    version: int
    mls: bool
    handle_unknown: str
    handle: Any
    types: dict[str, frozenset[str]] = field(default_factory=dict)
    attributes: dict[str, frozenset[str]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    permissive: frozenset[str] = frozenset()
    neveraudit: frozenset[str] = frozenset()
    classes: dict[str, frozenset[str]] = field(default_factory=dict)
    booleans: dict[str, bool] = field(default_factory=dict)
    av: dict[str, dict[Key, frozenset[str]]] = field(default_factory=dict)
    av_conditional: dict[str, dict[Key, tuple[Conditional, ...]]] = field(default_factory=dict)
    xperms: tuple[XpermRule, ...] = ()
    transitions: tuple[Transition, ...] = ()
    bounds: dict[str, str] = field(default_factory=dict)


def read_policy(path: Path) -> RawPolicy:
    """Read a kernel policy file once.

    :raises ToolMissingError: setools is missing, or is the speech toolkit of that name
    :raises InputError: no such file, no kernel policy, or a version that the installed libsepol cannot read
    """
    setools = _setools()
    logging.getLogger("setools").setLevel(logging.CRITICAL)
    policy = _patiently(lambda: _open(setools, path))
    with without_collector():
        return _read(policy, path)


def _patiently(attempt: Callable[[], Any]) -> Any:
    """The kernel lets one process at a time open its policy (selinuxfs.c, sel_open_policy: EBUSY): wait for our turn."""
    for pause in BUSY_PAUSES_S:
        try:
            return attempt()
        except InputError as error:
            if getattr(error.__cause__, "errno", None) != errno.EBUSY:
                raise
            time.sleep(pause)
    return attempt()


def _open(setools: Any, path: Path) -> Any:
    _check_header(path)
    try:
        return setools.SELinuxPolicy(str(path))
    except (OSError, ValueError, SyntaxError, RuntimeError) as error:
        # InvalidPolicy is a ValueError in 4.4 and a SyntaxError in older releases.
        version = "" if isinstance(error, OSError) else f" (version {_version(path)})"
        raise InputError(
            f"policy {path}{version} cannot be read by the installed libsepol: {_short(error)}",
            "read it on a machine with a newer libsepol and setools, or check that the file is whole",
        ) from error


def _setools() -> Any:
    try:
        import setools
    except ImportError as error:
        raise ToolMissingError("the policy cannot be read: setools is not installed", f"install {PACKAGES}") from error
    if not hasattr(setools, "SELinuxPolicy"):
        where = getattr(setools, "__file__", "") or "the package index"
        raise ToolMissingError(
            f"the policy cannot be read: {where} is not SELinux's setools but another package of that name",
            f"pip uninstall setools, then install {PACKAGES} and use a virtual environment with system site packages",
        )
    return setools


def _check_header(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        hint = "name a kernel policy file, for example /etc/selinux/targeted/policy/policy.33"
        raise InputError(f"policy {path} cannot be read: {error.strerror}", hint) from error
    magic = struct.unpack("<I", head)[0] if len(head) == 4 else 0
    if magic == KERNEL_MAGIC:
        return
    kind = "a policy module" if magic in {MODULE_MAGIC, PACKAGE_MAGIC} else "no kernel policy"
    raise InputError(f"{path} is {kind}", "name a linked kernel policy (policy.NN), not a .pp, .te or .cil file")


def _version(path: Path) -> str:
    """The policy version out of the header: magic, length of the name, the name, version (policydb.c, policydb_read)."""
    with path.open("rb") as file:
        head = file.read(64)
    try:
        (length,) = struct.unpack_from("<I", head, 4)
        return str(struct.unpack_from("<I", head, 8 + length)[0])
    except struct.error:  # cut, or a name that is none
        return "unknown"


def _short(error: BaseException) -> str:
    return str(error).split(". A binary policy", 1)[0].split("\n", 1)[0][:200] or type(error).__name__


@contextmanager
def without_collector() -> Iterator[None]:
    """The cyclic collector would walk 130,000 young rules again and again: a third of the loading time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _read(policy: Any, path: Path) -> RawPolicy:
    raw = RawPolicy(path, int(policy.version), bool(policy.mls), str(policy.handle_unknown), policy)
    _read_types(policy, raw)
    raw.classes = {item.name: frozenset(item.perms) | _common(item) for item in policy.classes()}
    raw.booleans = {item.name: bool(item.state) for item in policy.bools()}
    raw.bounds = {str(item.child): str(item.parent) for item in policy.bounds()}
    _read_rules(policy, raw)
    return raw


def _common(tclass: Any) -> frozenset[str]:
    try:
        return frozenset(tclass.common.perms)
    except AttributeError:  # setools.exception.NoCommon
        return frozenset()


def _read_types(policy: Any, raw: RawPolicy) -> None:
    members: dict[str, set[str]] = {item.name: set() for item in policy.typeattributes()}
    permissive, neveraudit = set(), set()
    for item in policy.types():
        name = item.name
        raw.types[name] = frozenset(attribute.name for attribute in item.attributes())
        for attribute in raw.types[name]:
            members.setdefault(attribute, set()).add(name)
        if item.ispermissive:
            permissive.add(name)
        if getattr(item, "isneveraudit", False):  # policy version 35; no accessor up to setools 4.7
            neveraudit.add(name)
        for alias in item.aliases():
            raw.aliases[str(alias)] = name
    raw.attributes = {name: frozenset(types) for name, types in members.items()}
    raw.permissive, raw.neveraudit = frozenset(permissive), frozenset(neveraudit)


def _read_rules(policy: Any, raw: RawPolicy) -> None:
    av: dict[str, dict[Key, frozenset[str]]] = {rule: {} for rule in AV_RULES}
    conditional: dict[str, dict[Key, tuple[Conditional, ...]]] = {rule: {} for rule in AV_RULES}
    words: dict[int, str] = {}
    conditions = _Conditions()
    xperms, transitions = [], []
    for rule in policy.terules():
        kind = rule.ruletype
        # by address: hashing an Enum member runs Python code, 130,000 times
        word = words.get(id(kind)) or words.setdefault(id(kind), str(kind))
        condition = conditions.of(rule)
        key = (rule.source.name, rule.target.name, rule.tclass.name)
        if word in AV_RULES:
            if condition is None:
                # one node of the avtab per key; a policy that repeats one (seen in hand-made ones) must not lose any
                table = av[word]
                table[key] = rule.perms | table[key] if key in table else rule.perms
            else:
                conditional[word][key] = (*conditional[word].get(key, ()), (rule.perms, condition))
        elif word.endswith("xperm"):
            xperms.append(XpermRule(word, key, rule.xperm_type, ranges_of(frozenset(rule.perms)), condition))
        elif word.startswith("type_"):
            transitions.append(Transition(word, *key, rule.default.name, _filename(rule), str(condition or "")))
    raw.av, raw.av_conditional, raw.xperms, raw.transitions = av, conditional, tuple(xperms), tuple(transitions)


def _filename(rule: Any) -> str:
    try:
        return str(rule.filename)
    except (AttributeError, RuntimeError):  # TERuleNoFilename, RuleUseError
        return ""


class _Conditions:
    """Conditional blocks by their address in the policy, each turned into a Condition once."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Any, bool], Condition] = {}

    def of(self, rule: Any) -> Any:
        try:
            block = rule.conditional
        except AttributeError:  # RuleNotConditional
            return None
        place = (block, bool(rule.conditional_block))
        if place not in self._seen:
            self._seen[place] = _condition(*place)
        return self._seen[place]


def _condition(block: Any, branch: bool) -> Condition:
    names = tuple(sorted(str(item) for item in block.booleans))
    rows = (row for row in block.truth_table() if bool(row.result) is branch)
    on = frozenset(tuple(bool(row.values[name]) for name in names) for row in rows)
    text = _infix(block)
    return Condition(names, on, text if branch else f"!{text}" if " " not in text else f"!({text})")


def _infix(block: Any) -> str:
    """setools prints the operands of a conditional in reverse order (boolcond.pxi): here in the order of the source."""
    stack: list[str] = []
    for item in block.expression():
        if hasattr(item, "state"):
            stack.append(item.name)
        elif item.unary:
            stack.append(f"!{_group(stack.pop())}")
        else:
            right, left = stack.pop(), stack.pop()
            stack.append(f"{_group(left)} {item} {_group(right)}")
    return stack[0]


def _group(text: str) -> str:
    return f"({text})" if " " in text else text


def read_roles(handle: Any) -> dict[str, frozenset[str]]:
    """Role -> its types."""
    return {item.name: frozenset(part.name for part in item.types()) for item in handle.roles()}


def read_dominated_roles(handle: Any) -> dict[str, frozenset[str]]:
    """Role -> the roles that it dominates."""
    found = {}
    for item in handle.roles():
        roles = item.dominated_roles  # a method in setools 4.3 and earlier
        found[item.name] = frozenset(str(part) for part in (roles() if callable(roles) else roles))
    return found


def read_role_allows(handle: Any) -> frozenset[tuple[str, str]]:
    """(role, role it may change to) of every `allow ROLE ROLE`."""
    return frozenset(
        (str(source), str(target))
        for rule in handle.rbacrules()
        if str(rule.ruletype) == "allow"
        for source in rule.source.expand()
        for target in rule.target.expand()
    )


def read_users(handle: Any) -> dict[str, frozenset[str]]:
    """User -> its roles."""
    return {item.name: frozenset(str(role) for role in item.roles) for item in handle.users()}


def read_ports(handle: Any) -> tuple[PortRange, ...]:
    """Every portcon, in the order of the policy: the kernel takes the first that fits (services.c, security_port_sid)."""
    return tuple(
        PortRange(str(item.protocol), int(item.ports.low), int(item.ports.high), str(item.context.type_))
        for item in handle.portcons()
    )


def read_categories(handle: Any) -> dict[str, int]:
    """Category name or alias -> its place in the order of the policy, which `c0.c3` counts along."""
    found: dict[str, int] = {}
    for item in handle.categories():
        # setools shows the order only as a private value; without it the number in the usual name c0..c1023 serves
        value = getattr(item, "_value", None)
        place = int(value) if value is not None else int(item.name.lstrip("c") or 0)
        for name in (item.name, *map(str, item.aliases())):
            found[name] = place
    return found


def read_sensitivities(handle: Any) -> dict[str, int]:
    """Sensitivity name or alias -> its rank, the higher dominates."""
    found: dict[str, int] = {}
    for rank, item in enumerate(sorted(handle.sensitivities())):
        for name in (item.name, *map(str, item.aliases())):
            found[name] = rank
    return found


def read_constraints(handle: Any) -> tuple[Constraint, ...]:
    """constrain and mlsconstrain (not validatetrans), the names in them expanded to types."""
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
            stack.append(f"not {_group(stack.pop())}")
        elif item in {"and", "or"}:
            right, left = stack.pop(), stack.pop()
            stack.append(f"{_group(left)} {item} {_group(right)}")
        elif item in {"==", "!=", "dom", "domby", "incomp"}:
            right, left = stack.pop(), stack.pop()
            stack.append(f"{left} {item} {right}")
        else:
            stack.append(str(item))
    return stack[0] if stack else ""


def read_statements(handle: Any) -> dict[str, frozenset[str]]:
    """Everything else that a difference must not overlook, as statements by kind."""
    kinds = ("portcons", "genfscons", "fs_uses", "nodecons", "netifcons", "initialsids", "ibpkeycons", "ibendportcons")
    found = {kind: frozenset(item.statement() for item in getattr(handle, kind)()) for kind in kinds}
    for kind in ("rbacrules", "mlsrules", "defaults", "polcaps"):
        found[kind] = frozenset(item.statement() for item in getattr(handle, kind)())
    found["users"] = frozenset(_user(item) for item in handle.users())
    found["validatetrans"] = frozenset(
        f"{item.ruletype} {item.tclass} ({_shown(item.expression)})"
        for item in handle.constraints()
        if str(item.ruletype).endswith("validatetrans")
    )
    return found


def _user(item: Any) -> str:
    roles = " ".join(sorted(str(role) for role in item.roles))
    try:
        return f"user {item.name} roles {{ {roles} }} level {item.mls_level} range {item.mls_range}"
    except AttributeError:  # MLSDisabled
        return f"user {item.name} roles {{ {roles} }}"
