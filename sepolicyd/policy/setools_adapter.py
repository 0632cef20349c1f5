"""Read a kernel policy file with setools into plain strings and sets.

The calls used here are the same in setools 4.4 to 4.7 (README and ChangeLog of setools).
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Optional

from sepolicyd.errors import InputError, ToolMissingError
from sepolicyd.kernel.policy_image import MAGIC as KERNEL_MAGIC
from sepolicyd.policy.model import Condition, Conditional, Key, XpermRule, ranges_of
from sepolicyd.storage.files import write_all

MODULE_MAGIC = 0xF97CFF8D  # a .mod
PACKAGE_MAGIC = 0xF97CFF8F  # a .pp
PACKAGES = "python3-setools (Debian, Fedora, RHEL)"
BUSY_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
AV_RULES = {"allow", "dontaudit", "auditallow"}
TRANSITION_RULES = ("type_transition", "type_change", "type_member")


class RawTransition(NamedTuple):
    """A type_transition, type_change or type_member rule; ``filename`` is "" for a rule without file name."""

    rule: str
    key: Key
    default: str
    filename: str
    condition: Optional[Condition]


@dataclass
class RawPolicy:
    """Rules of the policy, attributes not expanded. ``av`` and ``av_conditional``: by rule word, then by avtab key."""

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
    transitions: tuple[RawTransition, ...] = ()
    bounds: dict[str, str] = field(default_factory=dict)


def read_policy(content: bytes, path: Path) -> RawPolicy:
    """Parse a kernel policy from the bytes of :func:`read_content`.

    :param path: file name for messages
    :raises ToolMissingError: setools is missing, or another package of that name is installed
    :raises InputError: the policy is damaged, or its version is not supported by the installed libsepol
    """
    setools = _setools()
    logging.getLogger("setools").setLevel(logging.CRITICAL)
    with without_collector():
        return _read(_open(setools, content, path), path)


def read_content(path: Path) -> bytes:
    """Return the bytes of a kernel policy file.

    Only one process at a time may open the policy in selinuxfs (selinuxfs.c, sel_open_policy: EBUSY), so retry.

    :raises InputError: no such file, or not a kernel policy
    """
    content = _read_patiently(path)
    magic = struct.unpack("<I", content[:4])[0] if len(content) >= 4 else 0
    if magic != KERNEL_MAGIC:
        kind = "a policy module" if magic in {MODULE_MAGIC, PACKAGE_MAGIC} else "not a kernel policy"
        raise InputError(f"{path} is {kind}", "give a linked kernel policy (policy.NN), not a .pp, .te or .cil file")
    return content


def _read_patiently(path: Path) -> bytes:
    pauses = iter(BUSY_PAUSES_S)
    while True:
        try:
            with path.open("rb") as file:
                return file.read()
        except OSError as error:
            pause = next(pauses, None) if error.errno == errno.EBUSY else None
            if pause is None:
                hint = "give a kernel policy file, for example /etc/selinux/targeted/policy/policy.33"
                raise InputError(f"policy {path} cannot be read: {error.strerror}", hint) from error
            time.sleep(pause)


def _open(setools: Any, content: bytes, path: Path) -> Any:
    """Open exactly these bytes with setools, because a policy loaded in between would not match the hash."""
    with _unnamed_file(content) as copy:
        try:
            return setools.SELinuxPolicy(copy)
        except (OSError, ValueError, SyntaxError, RuntimeError) as error:
            # InvalidPolicy is a ValueError in 4.4 and a SyntaxError in older releases.
            version = "" if isinstance(error, OSError) else f" (version {_version(content)})"
            raise InputError(
                f"policy {path}{version} cannot be read by the installed libsepol: {_short(error).replace(copy, str(path))}",
                "read it on a machine with a newer libsepol and setools, or check that the file is complete",
            ) from error


@contextmanager
def _unnamed_file(content: bytes) -> Iterator[str]:
    """Provide a private path to a file with this content, in memory if the kernel supports it."""
    try:
        fd = os.memfd_create("sepolicyd-policy", os.MFD_CLOEXEC)
    except OSError:
        import tempfile

        with tempfile.TemporaryFile(buffering=0) as file:
            fd = os.dup(file.fileno())
    try:
        write_all(fd, content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


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


def _version(content: bytes) -> str:
    """Return the policy version from the header: magic, length of the name, name, version (policydb.c, policydb_read)."""
    try:
        (length,) = struct.unpack_from("<I", content, 4)
        return str(struct.unpack_from("<I", content, 8 + length)[0])
    except struct.error:  # truncated, or an impossible length
        return "unknown"


def _short(error: BaseException) -> str:
    return str(error).split(". A binary policy", 1)[0].split("\n", 1)[0][:200] or type(error).__name__


@contextmanager
def without_collector() -> Iterator[None]:
    """Disable garbage collection: repeated passes over 130,000 new rules take a third of the loading time."""
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
                # one avtab node per key; if a policy repeats a key (seen in hand-made policies), all its rules are kept
                table = av[word]
                table[key] = rule.perms | table[key] if key in table else rule.perms
            else:
                conditional[word][key] = (*conditional[word].get(key, ()), (rule.perms, condition))
        elif word.endswith("xperm"):
            xperms.append(XpermRule(word, key, rule.xperm_type, ranges_of(frozenset(rule.perms)), condition))
        elif word in TRANSITION_RULES:
            transitions.append(RawTransition(word, key, rule.default.name, _filename(rule), condition))
    raw.av, raw.av_conditional, raw.xperms, raw.transitions = av, conditional, tuple(xperms), tuple(transitions)


def _filename(rule: Any) -> str:
    try:
        return str(rule.filename)
    except (AttributeError, RuntimeError):  # TERuleNoFilename, RuleUseError
        return ""


class _Conditions:
    """Conditional blocks by address in the policy, each converted into a Condition once."""

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
    """Return the condition with operands in source order (setools reverses them, boolcond.pxi)."""
    stack: list[str] = []
    for item in block.expression():
        if hasattr(item, "state"):
            stack.append(item.name)
        elif item.unary:
            stack.append(f"!{parenthesised(stack.pop())}")
        else:
            right, left = stack.pop(), stack.pop()
            stack.append(f"{parenthesised(left)} {item} {parenthesised(right)}")
    return stack[0]


def parenthesised(text: str) -> str:
    """Return the expression as an operand, in parentheses if needed."""
    return f"({text})" if " " in text else text
