"""Fixes for denied capabilities: the owner or mode of the file in the event, and the usual reasons for other capabilities.

The kernel checks the DAC capabilities in generic_permission (fs/namei.c): a read checks dac_read_search first, and dac_override
only if that is denied; a write checks only dac_override.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sepolicyd.audit.parse.fields import read_fields
from sepolicyd.rules.fixes import fix
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.fixes.detail import OnlyPermissions
from sepolicyd.rules.fixes.fix import Fix, FixKind
from sepolicyd.rules.vocabulary import vocabulary

CLASSES = ("capability", "cap_userns")
DAC = frozenset({"dac_override", "dac_read_search"})
OWNERSHIP = DAC | {"fowner"}
_TYPE = re.compile(r"\btype=(\w+)")
_HEADER = re.compile(r".*?\)\s?:\s*")
_MODE = re.compile(r"(?:.*,)?([0-7]{3,7})\Z")
SPECIAL = ("/proc/", "/sys/", "/dev/")


@dataclass(frozen=True)
class FileOfEvent:
    """A PATH record: the object of the system call that requested the capability."""

    name: str
    mode: str
    """Permission bits in octal, "" if the record has none."""
    owner: str
    group: str
    process: str
    """The process's file system user (fsuid), as written in the record."""

    @property
    def shuts_out(self) -> bool:
        """Whether the mode can be the reason. False for an owner with read and write (and search) permission."""
        if not self.mode or self.process != self.owner:
            return True
        return int(self.mode, 8) & 0o600 != 0o600

    def __str__(self) -> str:
        mode = f"mode {self.mode}, " if self.mode else ""
        asked = f"; the process runs as {self.process}" if self.process else ""
        return f"{self.name} ({mode}owner {self.owner or '?'}, group {self.group or '?'}{asked})"


def files_of(question: Question) -> tuple[FileOfEvent, ...]:
    """Return the files of the kept sample events, each once."""
    found: dict[str, FileOfEvent] = {}
    for sample in question.seen.samples:
        records = [
            (match[1] if (match := _TYPE.search(line)) else "", read_fields(_HEADER.sub("", line, count=1)).values)
            for line in sample.splitlines()
        ]
        process = next((values.get("fsuid", "") for kind, values in records if kind == "SYSCALL"), "")
        for kind, values in records:
            if kind == "PATH" and values.get("name", "").startswith("/"):
                one = _file(values, process)
                found.setdefault(one.name, one)
    return tuple(found.values())


def _file(values: dict[str, str], process: str) -> FileOfEvent:
    match = _MODE.match(values.get("mode", ""))
    mode = f"0{int(match[1], 8) & 0o7777:o}" if match else ""
    return FileOfEvent(values["name"], mode, values.get("ouid", ""), values.get("ogid", ""), process)


def owner_or_mode(question: Question) -> Iterator[Fix]:
    """Propose to correct the file's owner or mode instead of allowing a capability, if the event names the file."""
    if question.tclass not in CLASSES or not question.permissions <= OWNERSHIP:
        return
    files = [one for one in files_of(question) if one.name.isprintable() and not one.name.startswith(SPECIAL) and one.shuts_out]
    for one in files[:2]:
        name = shlex.quote(one.name)
        own = bool(one.process) and one.process == one.owner
        commands = (f"chmod u+rw {name}",) if own and question.permissions & DAC else (f"chown USER:GROUP {name}",)
        bits = "the mode denies the owner access" if own else "the process is not the owner, and the mode denies others access"
        text = f"correct the owner or the mode first: {one}; {bits}. Without the capability, root is an ordinary user"
        yield Fix(FixKind.OWNER, text, commands)


def owner_unknown(question: Question) -> Iterator[Fix]:
    """Return the same fixes after the rule, if no record names the file."""
    if question.tclass in CLASSES and question.permissions <= OWNERSHIP and not files_of(question):
        text = "find the file whose owner or mode denies access: with this rule the kernel records paths with the next denial"
        yield Fix(FixKind.OWNER, text, ("auditctl -w /etc/shadow -p w",))


def smaller_capability(question: Question) -> Iterator[Fix]:
    """Propose only dac_read_search if both DAC capabilities were requested, since that means a read."""
    if question.tclass in CLASSES and question.permissions >= DAC and not question.allowed and not question.obstacles:
        kept = [access for access in question.accesses if access.permission != "dac_override"]
        text = "for reading, the kernel checks dac_read_search first, so dac_override is not needed"
        yield replace(fix.allow(kept, text), detail=OnlyPermissions(tuple(access.permission for access in kept)))


def about(question: Question) -> str:
    """Return the usual reasons for the capabilities, with the file in the event if recorded; "" for other classes."""
    if not question.tclass.startswith("cap"):
        return ""
    known = vocabulary().capabilities
    facts = [f"{name}: {known[name]}" for name in sorted(question.permissions) if name in known]
    files = files_of(question) if question.permissions & OWNERSHIP else ()
    facts += [f"the event names {one}" for one in files[:2]]
    if question.permissions & DAC and not files:
        facts.append("no PATH record names the file; to make the kernel record paths, run: auditctl -w /etc/shadow -p w")
    return "; ".join(facts)
