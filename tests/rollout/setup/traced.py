"""Run a program under strace and return the accesses that a policy would be asked for.

Only calls that succeed count, and only files, programs and addresses: enough to say of a first base module how much of a
real service it carries. The kernel's own view (a denial) stays the measure; here is none, for no SELinux runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from sepolicyd.access import Access
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import FileContexts, Ports

CALLS = "execve,openat,open,creat,mkdir,mkdirat,unlink,unlinkat,bind,connect"
CALL = re.compile(r"^\d+\s+(\w+)\((.*)\)\s+= (\d+)")
PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
FLAGS = re.compile(r"\bO_[A-Z_|]+")
PORT = re.compile(r"sin6?_port=htons\((\d+)\)")


class Seen(NamedTuple):
    """``what``: a path, or a port's number."""

    call: str
    what: str
    flags: frozenset[str] = frozenset()


def calls(text: str) -> Iterator[Seen]:
    """The successful calls of ``strace -f -e trace=CALLS``."""
    for line in text.splitlines():
        match = CALL.match(line)
        if match is None:
            continue
        name, arguments = match.group(1), match.group(2)
        port = PORT.search(arguments)
        path = PATH.search(arguments)
        flags = FLAGS.search(arguments)
        if port:
            yield Seen(name, port.group(1))
        elif path:
            yield Seen(name, path.group(1), frozenset(flags.group().split("|")) if flags else frozenset())


class Judge:
    """Calls judged for one domain, whose files lie below ``root`` as on a machine of their own, and libraries outside."""

    def __init__(
        self, domain: str, policy: PolicyIndex, contexts: FileContexts, ports: Ports, root: Path, workdir: str
    ) -> None:
        self.domain, self.policy, self.contexts, self.ports = domain, policy, contexts, ports
        self.root, self.workdir = str(root), workdir

    def refused(self, seen: Iterable[Seen]) -> dict[Access, str]:
        """What the policy would not allow, each with a path or port that asked for it."""
        found: dict[Access, str] = {}
        for one in seen:
            for access in self._accesses(one):
                if not self.policy.allowed(access).allowed:
                    found.setdefault(access, one.what)
        return found

    def _accesses(self, seen: Seen) -> list[Access]:
        if seen.what.isdigit():
            owner = self.ports.owner("tcp", int(seen.what)) or "port_t"
            named = {"bind": ["name_bind"], "connect": ["name_connect"]}[seen.call] if int(seen.what) else []
            return [Access.of(self.domain, owner, "tcp_socket", each) for each in named]
        place = Path(self.workdir, seen.what)
        made = seen.call in ("mkdir", "mkdirat", "bind") or "O_CREAT" in seen.flags
        tclass = _class_of(seen, place)
        target = self.type_of(place, tclass, made=made)
        if not target:
            return []
        return [Access.of(self.domain, target, tclass, each) for each in _permissions(seen, tclass)]

    def type_of(self, place: Path, tclass: str, *, made: bool) -> str:
        """The label that a file would have on that machine; "" where the kernel gives one that file_contexts does not know."""
        path = str(place)
        path = path[len(self.root) :] if path.startswith(self.root + "/") else path
        if path.startswith(("/proc/self", "/dev/fd")):
            return self.domain
        kernel = next((kind for start, kind in (("/proc/", "proc_t"), ("/sys/", "sysfs_t")) if path.startswith(start)), "")
        if kernel:
            return kernel
        if made:
            above = self.contexts.lookup(str(Path(path).parent), "dir") or "tmp_t"
            return self.policy.transition(self.domain, above, tclass) or self.contexts.lookup(path, tclass) or above
        if path.startswith(("/tmp/", "/var/tmp/")):
            return self.policy.transition(self.domain, "tmp_t", tclass)
        return self.contexts.lookup(path, tclass) or ""


def _class_of(seen: Seen, place: Path) -> str:
    if seen.call.startswith("mkdir") or place.is_dir():
        return "dir"
    if seen.call == "bind" or place.is_socket():
        return "sock_file"
    return "chr_file" if place.is_char_device() else "file"


def _permissions(seen: Seen, tclass: str) -> list[str]:
    if seen.call == "execve":
        return ["execute", "read", "open"]
    if seen.call.startswith("mkdir") or (seen.call == "bind" and tclass == "sock_file"):
        return ["create"]
    if seen.call.startswith("unlink"):
        return ["rmdir"] if tclass == "dir" else ["unlink"]
    if seen.call == "connect":
        return ["write"]
    wanted = ["open"]
    if seen.flags & {"O_WRONLY", "O_RDWR"}:
        wanted.append("append" if "O_APPEND" in seen.flags and "O_RDWR" not in seen.flags else "write")
    if not seen.flags & {"O_WRONLY"}:
        wanted.append("read")
    return wanted + (["create"] if "O_CREAT" in seen.flags and tclass == "file" else [])
