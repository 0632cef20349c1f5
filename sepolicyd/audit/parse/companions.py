"""The companion records of an AVC, which describe the process and the object. They are parsed lazily."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Optional

from sepolicyd.audit.parse import fields as field

MAX_ITEMS = 64
# audit_log_exit and audit_log_task_info of kernel/auditsc.c; a record of another form is separated field by field.
_VALUE = r'("[^"]*"|[^ \t"]*)'
_SYSCALL = re.compile(
    r"arch=[0-9a-f]+ syscall=([0-9]+)(?: per=[0-9a-f]+)? success=(yes|no) exit=-?[0-9]+(?: a[0-3]=[0-9a-f]+){4} items=[0-9]+"
    r" ppid=([0-9]+) pid=([0-9]+) auid=([0-9]+) uid=([0-9]+)(?: (?!comm)[a-z]+=[^ \t\"]+)* comm="
    + _VALUE
    + " exe="
    + _VALUE
    + r" subj=([^ \t\"]+)"
)
_OF_SYSCALL = ("syscall", "success", "ppid", "pid", "auid", "uid", "comm", "exe", "subj")


class Companions:
    """SYSCALL, PATH, CWD, PROCTITLE, SOCKADDR and EXECVE of one event."""

    __slots__ = ("_arguments", "_bodies", "_paths", "_syscall")

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._paths: list[str] = []
        self._arguments: list[str] = []
        self._syscall: Optional[dict[str, str]] = None

    def add(self, kind: str, body: str) -> None:
        """Add a record. For types that occur once per event, the first record counts."""
        several = {"PATH": self._paths, "EXECVE": self._arguments}.get(kind)
        if several is None:
            self._bodies.setdefault(kind, body)
        elif len(several) < MAX_ITEMS:
            several.append(body)

    @property
    def syscall(self) -> dict[str, str]:
        """Fields of SYSCALL; ``syscall`` is a name if the record is enriched, else a number."""
        if self._syscall is None:
            plain, _, enriched = self._bodies.get("SYSCALL", "").partition(field.SEPARATOR)
            match = _SYSCALL.match(plain)
            found = field.read_fields(plain).values if match is None else _decoded(match)
            name = enriched.partition("SYSCALL=")[2].partition(" ")[0]
            self._syscall = {**found, "syscall": name} if name else found
        return self._syscall

    @property
    def proctitle(self) -> str:
        return field.process_title(self._fields("PROCTITLE").get("proctitle", ""))

    @property
    def sockaddr(self) -> str:
        return field.sockaddr(self._fields("SOCKADDR").get("saddr", ""))

    @property
    def command(self) -> str:
        """The command line of the EXECVE records; a long command line has several records."""
        return field.command_line(" ".join(body.partition(field.SEPARATOR)[0] for body in self._arguments))

    def path_of(self, name: str, ino: str, tclass: str) -> str:
        """Return the full path of the AVC's object, "" if no PATH record contains it."""
        if not self._paths:
            return ""
        items = [field.read_fields(body.partition(field.SEPARATOR)[0]).values for body in self._paths]
        return field.full_path(name, ino, items, self._fields("CWD").get("cwd", ""), tclass)

    def process(self, values: Mapping[str, str]) -> dict[str, Any]:
        """Return the fields of a :class:`Denial` that describe the process.

        :param values: fields of the message itself, which take precedence over those of SYSCALL
        """
        syscall = self.syscall
        return {
            "pid": field.integer(values.get("pid") or syscall.get("pid")),
            "ppid": field.integer(syscall.get("ppid")),
            "comm": values.get("comm") or syscall.get("comm", ""),
            "exe": syscall.get("exe") or values.get("exe", ""),
            "syscall": syscall.get("syscall", ""),
            "success": {"yes": True, "no": False}.get(syscall.get("success", "")),
            "auid": normal_auid(syscall.get("auid", values.get("auid", ""))),
            "uid": syscall.get("uid", values.get("uid", "")),
            "proctitle": self.proctitle,
        }

    def _fields(self, kind: str) -> dict[str, str]:
        body = self._bodies.get(kind)
        return field.read_fields(body.partition(field.SEPARATOR)[0]).values if body else {}


def _decoded(match: re.Match[str]) -> dict[str, str]:
    """Return the requested fields of SYSCALL."""
    *numbers, comm, exe, subj = match.groups()
    values = [*numbers, field.value_of(comm), field.value_of(exe), field.value_of(subj, encoded=False)]
    return dict(zip(_OF_SYSCALL, values))


def normal_auid(written: str) -> str:
    """Return the login uid as written, or "unset" for the values that the kernel and systemd write without one."""
    return "unset" if written in ("4294967295", "-1", "n/a") else written
