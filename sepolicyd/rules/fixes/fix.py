"""What would mend a cause: the value Fix, its kinds in the order of preference, and the exact commands or rules each makes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sepolicyd.access import Access, is_identifier

# The ladder of domain.md C6: the first kind that applies is proposed, the others stand as alternatives.
APPLICATION, RELABEL, OWN_TYPE, PORT, DONTAUDIT = "application", "relabel", "own-type", "port", "dontaudit"
BOOLEAN, TRANSITION, INTERFACE, ALLOW, REFUSE, UNKNOWN = "boolean", "transition", "interface", "allow", "refuse", "unknown"
KINDS = (APPLICATION, RELABEL, OWN_TYPE, PORT, DONTAUDIT, BOOLEAN, TRANSITION, INTERFACE, ALLOW, REFUSE, UNKNOWN)


@dataclass(frozen=True)
class Fix:
    """One way to mend it. ``text``: a sentence, ``commands``: what would be run, or the lines of policy or configuration.

    ``detail`` (JSON) is what ``apply`` carries out:
    relabel {"paths": [absolute], "contexts": [{"pattern", "type", "kind"}]} (contexts may be empty: restorecon alone);
    own-type the same, "transitions": [{"source", "target", "class", "type"}], and "allow": permissions of the question that are
    allowed with it (names in a shared directory);
    port {"ports": [{"protocol", "number", "type", "owner"}]}, owner "" where nobody has it; boolean {"boolean", "value"};
    application {"file", "line"}; transition {"program", "domain"}; interface {"call"}; allow {} or
    {"only": permissions of the question that a rule helps}; the others {}.
    Paths, and nothing else in it, come from the log: they are not escaped.
    """

    kind: str
    text: str
    commands: tuple[str, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)


def rules_of(accesses: Iterable[Access], verb: str = "allow") -> tuple[str, ...]:
    """The accesses as policy statements, one for each source, target and class."""
    groups: dict[tuple[str, str, str], set[str]] = {}
    for access in accesses:
        groups.setdefault(access.group, set()).add(access.permission)
    return tuple(
        f"{verb} {source} {target}:{tclass} {_braced(sorted(permissions))};"
        for (source, target, tclass), permissions in sorted(groups.items())
    )


def allow(accesses: Sequence[Access], text: str = "") -> Fix:
    return Fix(ALLOW, text or "allow exactly these accesses, and nothing else", rules_of(accesses))


def dontaudit(accesses: Sequence[Access], text: str) -> Fix:
    return Fix(DONTAUDIT, text, rules_of(accesses, "dontaudit"))


def refuse(text: str) -> Fix:
    return Fix(REFUSE, text)


def relabel(paths: Sequence[str], text: str, contexts: Sequence[Mapping[str, str]] = (), kind: str = RELABEL) -> Fix:
    """restorecon of exactly these paths, after fcontext rules where there are any."""
    named = [path for path in paths if is_plain_path(path)]
    adds = [f"semanage fcontext -a -t {one['type']} {shlex.quote(one['pattern'])}" for one in contexts]
    run = [f"restorecon -v {' '.join(shlex.quote(path) for path in named)}"] if named else []
    return Fix(kind, text, (*adds, *run), {"paths": named, "contexts": [dict(one) for one in contexts]})


def port(protocol: str, number: int, type_name: str, owner: str, text: str) -> Fix:
    # "add" on a port that has an owner silently takes it (seobject.py: already defined, modifying instead)
    verb = "-m" if owner else "-a"
    return Fix(
        PORT,
        text,
        (f"semanage port {verb} -t {type_name} -p {protocol} {number}",),
        {"ports": [{"protocol": protocol, "number": number, "type": type_name, "owner": owner}]},
    )


def boolean(name: str, value: bool, text: str) -> Fix:
    return Fix(BOOLEAN, text, (f"setsebool -P {name} {'on' if value else 'off'}",), {"boolean": name, "value": value})


def transition(source: str, program: str, domain: str, text: str) -> Fix:
    """A program in a domain of its own. Rules are shown only where all three names are known."""
    rules: tuple[str, ...] = ()
    if all(is_identifier(name) for name in (source, program, domain)):
        rules = (
            f"type_transition {source} {program}:process {domain};",
            f"allow {source} {domain}:process transition;",
            f"allow {source} {program}:file {{ execute getattr map open read }};",
        )
    return Fix(TRANSITION, text, rules, {"program": program, "domain": domain})


def is_plain_path(path: str) -> bool:
    """Whether a path of the log names a file that restorecon could be given: absolute, printable, no memfd, no deleted file."""
    if not path.startswith("/") or path == "/" or not path.isprintable() or path.endswith("(deleted)"):
        return False
    if path.startswith(("/proc/", "/sys/", "/dev/pts/", "/memfd:", "/dev/shm/", "/anon_hugepage", "/SYSV", "/dev/zero ")):  # noqa: S108
        return False
    return "//" not in path and not {".", ".."} & set(path.split("/"))


def _braced(permissions: Sequence[str]) -> str:
    return permissions[0] if len(permissions) == 1 else "{ " + " ".join(permissions) + " }"
