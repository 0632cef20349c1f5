"""Render decided accesses as sorted, byte-stable module source (.te, .fc). Lists what cannot be rendered, with the reason.

The text is plain checkmodule language without macros, so it builds without the reference policy's headers. It consists of
checked identifiers; user-written text appears only in comments, escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Optional

from sepolicyd.access import SELF, Access, is_identifier
from sepolicyd.audit.model import ErrorOperation
from sepolicyd.errors import RefusedError

ALLOW, DONTAUDIT = "allow", "dontaudit"
# Permissions of a class are bits of a 32-bit word (libsepol, sepol_access_vector_t); checkmodule silently loses a 33rd.
MAX_PERMISSIONS = 32
MAX_XPERM = 0xFFFF
XPERM_PERMISSIONS = ("ioctl", "nlmsg")
MAX_REASON = 200
# Keywords of checkmodule (checkpolicy/policy_scan.l), valid in lower and upper case; a test tries each.
_KEYWORDS = """
alias allow allowxperm and attribute attribute_role auditallow auditallowxperm auditdeny bool category class
clone common constrain default_range default_role default_type default_user devicetreecon dom domby dominance
dontaudit dontauditxperm else eq expandattribute false fs_use_task fs_use_trans fs_use_xattr fscon genfscon
glblub h1 h2 high ibendportcon ibpkeycon if incomp inherits iomemcon ioportcon l1 l2 level low low-high
mlsconstrain mlsvalidatetrans module netifcon neverallow neverallowxperm nodecon not optional or pcidevicecon
permissive pirqcon policycap portcon r1 r2 r3 range range_transition require role role_transition
roleattribute roles sameuser sensitivity sid source t1 t2 t3 target true tunable type type_change type_member
type_transition typealias typeattribute typebounds types u1 u2 u3 user validatetrans xor
"""
KEYWORDS = frozenset(_KEYWORDS.split())
RESERVED = KEYWORDS | {word.upper() for word in KEYWORDS}
# Syntax of file contexts for semodule_package: pattern, blanks, optional file kind, blanks, context.
FILE_KINDS = ("", "--", "-d", "-l", "-s", "-p", "-b", "-c")
PATTERN = re.compile(r"/[\x21-\x7e]*\Z")


@dataclass(frozen=True, order=True)
class Provenance:
    """The decision behind a rule: its id in decisions.db, the user, the time (epoch seconds) and the reason."""

    decision: str
    by: str
    at: float
    reason: str = ""

    def __str__(self) -> str:
        try:
            when = datetime.fromtimestamp(self.at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        except (ValueError, OverflowError, OSError):
            when = "an unknown time"
        return f"decision {self.decision} by {self.by} at {when}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, order=True)
class Rule:
    """One access to allow or to dontaudit."""

    access: Access
    kind: str = ALLOW
    provenance: Optional[Provenance] = field(default=None, compare=False)


@dataclass(frozen=True, order=True)
class FileContext:
    """A line of .fc: a regular expression as in file_contexts, a type, and the kind of file ("" any, "--" plain, "-d" ...)."""

    pattern: str
    type: str
    kind: str = ""


@dataclass(frozen=True, order=True)
class TypeTransition:
    """A type transition: files that ``source`` creates in a directory of ``target`` get ``type``."""

    source: str
    target: str
    tclass: str
    type: str

    def __str__(self) -> str:
        return f"type_transition {self.source} {self.target}:{self.tclass} {self.type};"


@dataclass(frozen=True)
class Refused:
    """An access that cannot be written as a rule."""

    access: Access
    reason: str

    def __str__(self) -> str:
        return f"{self.access}: {self.reason}"


@dataclass(frozen=True)
class SourceText:
    """A module's source. ``rules`` are those written in ``te``; ``refused`` lists the others with the reason."""

    name: str
    version: str
    te: str
    fc: str
    rules: tuple[Rule, ...]
    refused: tuple[Refused, ...]
    transitions: tuple[TypeTransition, ...] = ()


def version_text(number: int) -> str:
    """Return the module's version string for a version number."""
    return f"{number}.0"


def render_te(name: str, accesses: Iterable[Access]) -> SourceText:
    """Return the source of a module that allows these accesses, for `analyze --te`. checkmodule accepts it for any log.

    :raises RefusedError: the name is not valid for a module
    """
    return render(name, 1, [Rule(access) for access in accesses])


def render(
    name: str,
    version: int,
    rules: Iterable[Rule],
    contexts: Iterable[FileContext] = (),
    transitions: Iterable[TypeTransition] = (),
    *,
    mls: bool = True,
) -> SourceText:
    """Return the source of one module; the text depends only on the set of rules. Of equal rules the earliest decision is kept.

    :param mls: whether the policy has MLS or MCS levels, so that contexts in the .fc end in ``:s0``
    :raises RefusedError: the name, a file context or a transition cannot be written in a module
    """
    moves = tuple(sorted(set(transitions)))
    for word in (word for move in moves for word in (move.source, move.target, move.tclass, move.type)):
        if name_problem(word):
            raise RefusedError(f"a type transition cannot be written: {name_problem(word)}", "choose another fix for it")
    if not is_identifier(name) or name in RESERVED or "." in name:
        raise RefusedError(f"{name[:128]!r} is not a valid module name", "use letters, digits, _ and -")
    distinct = _distinct(rules)
    reasons = _reasons([rule.access for rule in distinct])
    kept = tuple(rule for rule in distinct if rule.access not in reasons)
    refused = tuple(Refused(access, reasons[access]) for access in sorted(reasons))
    text = version_text(version)
    fc = render_fc(contexts, mls=mls)
    return SourceText(name, text, _te(name, text, kept, moves), fc, kept, refused, moves)


def render_fc(contexts: Iterable[FileContext], *, mls: bool = True) -> str:
    """Return the text of a .fc.

    :raises RefusedError: an invalid pattern or type
    """
    lines = []
    for item in sorted(set(contexts)):
        if not PATTERN.match(item.pattern) or item.kind not in FILE_KINDS or name_problem(item.type):
            raise RefusedError(
                f"{item.pattern[:200]!r} as {item.type[:128]!r} is not a valid file context", "patterns begin with /"
            )
        kind = f"\t{item.kind}" if item.kind else ""
        lines.append(f"{item.pattern}{kind}\tsystem_u:object_r:{item.type}{':s0' if mls else ''}\n")
    return "".join(lines)


def name_problem(name: str) -> str:
    """Return the reason why a type, class or permission cannot be written in module source, "" if it can."""
    shown = escape(name)[:MAX_REASON]
    if not is_identifier(name):
        return f"{shown} is not a valid identifier"
    if name in RESERVED:
        return f"{shown} is a keyword of checkmodule's language"
    if "." in name:
        return f"{shown} belongs to a CIL block, which checkmodule cannot reference"
    return ""


def escape(text: str) -> str:
    """Return one printable line, with control characters, line separators and direction marks escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text)


def _distinct(rules: Iterable[Rule]) -> list[Rule]:
    found: dict[Rule, Rule] = {}
    nobody = Provenance("", "", float("inf"))
    for rule in rules:
        old = found.get(rule)
        if old is None or (rule.provenance or nobody) < (old.provenance or nobody):
            found[rule] = rule
    return sorted(found.values())


def _reasons(accesses: Iterable[Access]) -> dict[Access, str]:
    found = {}
    permissions: dict[str, set[str]] = {}
    for access in accesses:
        reason = _reason(access)
        if reason:
            found[access] = reason
        else:
            permissions.setdefault(access.tclass, set()).add(access.permission)
    for access in accesses:
        count = len(permissions.get(access.tclass, ()))
        if access not in found and count > MAX_PERMISSIONS:
            found[access] = f"class {access.tclass} with {count} permissions: none has more than {MAX_PERMISSIONS}"
    return found


def _reason(access: Access) -> str:
    names = [access.source, access.tclass, access.permission] + ([] if access.target == SELF else [access.target])
    for name in names:
        problem = name_problem(name) or (f"{SELF} is not a type" if name == SELF else "")
        if problem:
            return problem
    if ErrorOperation.of(access.permission) is not None:
        return f"{access.permission} is an error of the kernel's security server, not a permission"
    if access.xperms and access.permission not in XPERM_PERMISSIONS:
        return f"permission {access.permission} takes no ioctl numbers"
    if any(not 0 <= low <= high <= MAX_XPERM for low, high in access.xperms):
        return "its ioctl numbers are not ranges within 0x0 to 0xffff"
    return ""


def _te(name: str, version: str, rules: tuple[Rule, ...], moves: tuple[TypeTransition, ...]) -> str:
    """Return the .te. Rules with a type that is not a source are in an optional block for that type.

    If a package update removes such a type, only the block is dropped. Otherwise the module would make every transaction of the
    store fail, including the update (coreos/fedora-coreos-tracker issue 1839).
    """
    own = {rule.access.source for rule in rules} | {move.source for move in moves}
    blocks: dict[tuple[str, ...], list[str]] = {(): []}
    groups: dict[tuple[str, str, str, str], list[Rule]] = {}
    for rule in rules:
        groups.setdefault((*rule.access.group, rule.kind), []).append(rule)
    for key in sorted(groups):
        foreign = {groups[key][0].access.target_type} - own
        blocks.setdefault(tuple(foreign), []).extend(_group(key, groups[key]))
    for move in moves:
        blocks.setdefault(tuple(sorted({move.target, move.type} - own)), []).append(str(move))
    parts = [f"# {name} {version}: made by sepolicyd out of decisions; an edit here is never read back.\n"]
    parts.append(f"module {name} {version};\n")
    parts.append(_require(own, [rule.access for rule in rules], moves))
    parts.extend(_block(foreign, blocks[foreign]) for foreign in sorted(blocks) if blocks[foreign])
    return "\n".join(parts)


def _block(foreign: tuple[str, ...], lines: list[str]) -> str:
    if not foreign:
        return "\n".join([*lines, ""])
    needs = " ".join(f"type {name};" for name in foreign)
    return "\n".join(["optional {", f"\trequire {{ {needs} }}", *(f"\t{line}" for line in lines), "}", ""])


def _require(own: Iterable[str], accesses: Iterable[Access], moves: Iterable[TypeTransition]) -> str:
    classes: dict[str, set[str]] = {move.tclass: set() for move in moves}
    for access in accesses:
        classes.setdefault(access.tclass, set()).add(access.permission)
    lines = [f"\ttype {name};" for name in sorted(own)]
    lines += [f"\tclass {tclass} {{ {' '.join(sorted(classes[tclass] or {'create'}))} }};" for tclass in sorted(classes)]
    # checkmodule requires a non-empty require block or a declaration; every base policy has this role
    return "\n".join(["require {", *(lines or ["\trole object_r;"]), "}", ""])


def _group(key: tuple[str, str, str, str], rules: list[Rule]) -> list[str]:
    source, target, tclass, kind = key
    by_provenance: dict[str, set[str]] = {}
    for rule in rules:
        if rule.provenance is not None:
            by_provenance.setdefault(_comment(rule.provenance), set()).add(rule.access.permission)
    lines = [f"# {' '.join(sorted(permissions))}: {text}" for text, permissions in sorted(by_provenance.items())]
    permissions = sorted({rule.access.permission for rule in rules})
    lines.append(f"{kind} {source} {target}:{tclass} {{ {' '.join(permissions)} }};")
    numbers = _numbers(rule.access for rule in rules)
    for permission in sorted(numbers):
        ranges = " ".join(f"{low:#x}" if low == high else f"{low:#x}-{high:#x}" for low, high in numbers[permission])
        lines.append(f"{kind}xperm {source} {target}:{tclass} {permission} {{ {ranges} }};")
    return lines


def _numbers(accesses: Iterable[Access]) -> Mapping[str, list[tuple[int, int]]]:
    """Return the ioctl ranges by permission. An access without ranges next to one with ranges means all numbers."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    whole = set()
    for access in accesses:
        ranges.setdefault(access.permission, []).extend(access.xperms)
        if not access.xperms:
            whole.add(access.permission)
    return {
        permission: [(0, MAX_XPERM)] if permission in whole else _joined(found) for permission, found in ranges.items() if found
    }


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for low, high in sorted(set(ranges)):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return joined


def _comment(provenance: Provenance) -> str:
    text = escape(str(provenance))
    return text if len(text) <= MAX_REASON + 120 else text[: MAX_REASON + 117] + "..."
