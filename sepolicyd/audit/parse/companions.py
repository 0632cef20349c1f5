"""The records beside an AVC in, what they say of the process and the object out; each is parsed when it is asked for."""

from __future__ import annotations

import re
from typing import Optional

from sepolicyd.audit.parse import fields as field
from sepolicyd.audit.parse.record import GROUP_SEPARATOR

MAX_ITEMS = 64
# The order of audit_log_exit (kernel/auditsc.c); interpreted or reordered text does not fit and is parsed field by field.
_SYSCALL = re.compile(
    r"syscall=(?P<syscall>\d+)(?: per=\S+)?(?: success=(?P<success>yes|no))? .*? ppid=(?P<ppid>\d+) pid=(?P<pid>\d+) "
    r'auid=(?P<auid>\d+) uid=(?P<uid>\d+) .*? comm=(?P<comm>"[^"]*"|[0-9A-F]+) exe=(?P<exe>"[^"]*"|[0-9A-F]+)(?: |$)'
)
_PATH = re.compile(r'item=\d+ name=(?P<name>"[^"]*"|[0-9A-F]+)(?: inode=(?P<inode>\d+) .*?)?(?: nametype=(?P<nametype>[A-Z]+))')


class Companions:
    """SYSCALL, PATH, CWD, PROCTITLE, SOCKADDR and EXECVE of one event."""

    __slots__ = ("_bodies", "_paths", "_syscall")

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._paths: list[str] = []
        self._syscall: Optional[dict[str, str]] = None

    def add(self, kind: str, body: str) -> None:
        """Take a record; of those that come once an event, the first counts."""
        if kind == "PATH":
            if len(self._paths) < MAX_ITEMS:
                self._paths.append(body)
        else:
            self._bodies.setdefault(kind, body)

    @property
    def syscall(self) -> dict[str, str]:
        """Fields of SYSCALL; ``syscall`` is the name where the record is enriched, else the number."""
        if self._syscall is None:
            plain, _, enriched = self._bodies.get("SYSCALL", "").partition(GROUP_SEPARATOR)
            match = _SYSCALL.search(plain)
            if match is None:
                found = field.fields_of(plain)
            else:
                found = match.groupdict("")
                found["comm"], found["exe"] = field.value_of(found["comm"]), field.value_of(found["exe"])
            name = enriched.partition("SYSCALL=")[2].partition(" ")[0]
            self._syscall = {**found, "syscall": name} if name else found
        return self._syscall

    @property
    def proctitle(self) -> str:
        return self._fields("PROCTITLE").get("proctitle", "").replace("\0", " ").rstrip()

    @property
    def sockaddr(self) -> str:
        return field.sockaddr(self._fields("SOCKADDR").get("saddr", ""))

    @property
    def command(self) -> str:
        """The command line of an EXECVE record."""
        return field.arguments(self._fields("EXECVE"))

    @property
    def old_path(self) -> str:
        """Kernels before 2.6.27 wrote the path in an AVC_PATH record of its own."""
        return self._fields("AVC_PATH").get("path", "")

    def path_of(self, name: str, ino: str, tclass: str) -> str:
        """The full path of the AVC's object, "" where no PATH record tells."""
        if not self._paths:
            return ""
        items = [_item(body) for body in self._paths]
        return field.full_path(name, ino, items, self._fields("CWD").get("cwd", ""), tclass)

    def _fields(self, kind: str) -> dict[str, str]:
        body = self._bodies.get(kind)
        return field.fields_of(body.partition(GROUP_SEPARATOR)[0]) if body else {}


def _item(body: str) -> dict[str, str]:
    match = _PATH.match(body)
    if match is None:
        return field.fields_of(body.partition(GROUP_SEPARATOR)[0])
    found = match.groupdict("")
    found["name"] = field.value_of(found["name"])
    return found
