"""The value Fix, a way to answer a denial, with its kinds and constructors that build exact commands or rules."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from sepolicyd.access import Access, is_identifier
from sepolicyd.rules.fixes.detail import (
    NO_DETAIL,
    BooleanSetting,
    BooleanSettings,
    DomainTransition,
    FixDetail,
    LabelledPort,
    LabelledPorts,
    NewLabels,
    OwnType,
    PathLabel,
)


class FixKind(str, Enum):
    """Kind of a fix. The values are stored in decisions.db and in JSON output: never change one."""

    APPLICATION = "application"  # a line of the application's, systemd's or the system's configuration
    RELABEL = "relabel"
    OWN_TYPE = "own-type"
    PORT = "port"
    DONTAUDIT = "dontaudit"
    BOOLEAN = "boolean"
    TRANSITION = "transition"
    INTERFACE = "interface"
    ALLOW = "allow"
    REFUSE = "refuse"
    UNKNOWN = "unknown"
    CONTEXT = "context"  # user, role or range of a context
    OWNER = "owner"  # owner or mode of a file

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Fix:
    """One way to answer a denial."""

    kind: FixKind
    text: str
    """One sentence for the reviewer."""
    commands: tuple[str, ...] = ()
    """Commands to run, or lines of policy or configuration."""
    detail: FixDetail = NO_DETAIL
    """The part that `apply` carries out."""


def rules_of(accesses: Iterable[Access], verb: str = "allow") -> tuple[str, ...]:
    """Return the accesses as policy statements, one per source, target and class."""
    groups: dict[tuple[str, str, str], set[str]] = {}
    for access in accesses:
        groups.setdefault(access.group, set()).add(access.permission)
    return tuple(
        f"{verb} {source} {target}:{tclass} {_braced(sorted(permissions))};"
        for (source, target, tclass), permissions in sorted(groups.items())
    )


def allow(accesses: Sequence[Access], text: str = "") -> Fix:
    return Fix(FixKind.ALLOW, text or "allow exactly these accesses, and nothing else", rules_of(accesses))


def dontaudit(accesses: Sequence[Access], text: str) -> Fix:
    return Fix(FixKind.DONTAUDIT, text, rules_of(accesses, "dontaudit"))


def refuse(text: str) -> Fix:
    return Fix(FixKind.REFUSE, text)


def relabel(paths: Sequence[str], text: str, contexts: Sequence[PathLabel] = (), kind: FixKind = FixKind.RELABEL) -> Fix:
    """Return a fix that runs restorecon on exactly these paths, after adding file_contexts rules if there are any."""
    named = tuple(path for path in paths if is_plain_path(path))
    adds = [f"semanage fcontext -a -t {one.type} {shlex.quote(one.pattern)}" for one in contexts]
    run = [f"restorecon -v {' '.join(shlex.quote(path) for path in named)}"] if named else []
    labels = NewLabels(named, tuple(contexts))
    return Fix(kind, text, (*adds, *run), OwnType(labels) if kind is FixKind.OWN_TYPE else labels)


def port(protocol: str, number: int, type_name: str, owner: str, text: str) -> Fix:
    # "add" for a port with another type silently modifies it (seobject.py: already defined, modifying instead)
    verb = "-m" if owner else "-a"
    command = f"semanage port {verb} -t {type_name} -p {protocol} {number}"
    return Fix(FixKind.PORT, text, (command,), LabelledPorts((LabelledPort(protocol, number, type_name, owner),)))


def boolean(settings: Sequence[tuple[str, bool]], text: str) -> Fix:
    """Return a fix that sets all booleans with one setsebool."""
    chosen = tuple(BooleanSetting(name, value) for name, value in settings)
    if len(chosen) == 1:
        return Fix(
            FixKind.BOOLEAN, text, (f"setsebool -P {chosen[0].boolean} {'on' if chosen[0].value else 'off'}",), chosen[0]
        )
    words = " ".join(f"{one.boolean}={'on' if one.value else 'off'}" for one in chosen)
    return Fix(FixKind.BOOLEAN, text, (f"setsebool -P {words}",), BooleanSettings(chosen))


def transition(source: str, program: str, domain: str, text: str) -> Fix:
    """Return a fix that runs a program in a domain of its own. Rules are shown only if all three names are known."""
    rules: tuple[str, ...] = ()
    if all(is_identifier(name) for name in (source, program, domain)):
        rules = (
            f"type_transition {source} {program}:process {domain};",
            f"allow {source} {domain}:process transition;",
            f"allow {source} {program}:file {{ execute getattr map open read }};",
        )
    return Fix(FixKind.TRANSITION, text, rules, DomainTransition(program, domain))


def is_plain_path(path: str) -> bool:
    """Tell whether a path from the log is valid for restorecon: absolute, printable, neither a memfd nor deleted."""
    if not path.startswith("/") or path == "/" or not path.isprintable() or path.endswith("(deleted)"):
        return False
    if path.startswith(("/proc/", "/sys/", "/dev/pts/", "/memfd:", "/dev/shm/", "/anon_hugepage", "/SYSV", "/dev/zero ")):  # noqa: S108
        return False
    return "//" not in path and not {".", ".."} & set(path.split("/"))


def shortlist(values: Sequence[str], limit: int = 2) -> str:
    """Return the first values, and the number of the others."""
    shown = ", ".join(values[:limit])
    return f"{shown} and {len(values) - limit} more" if len(values) > limit else shown


def _braced(permissions: Sequence[str]) -> str:
    return permissions[0] if len(permissions) == 1 else "{ " + " ".join(permissions) + " }"
