"""Derive the accesses of a program from a trace of its system calls (strace -f -y)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Union

PATH = re.compile(r'(?:AT_FDCWD<[^>]*>|\d+<(?P<at>/[^>]*)>)?,? ?"(?P<path>[^"]*)"')
OPENED = re.compile(r"= \d+<(?P<path>/[^>]*)>")
SOCKET = re.compile(r"socket\((?P<family>AF_\w+), (?P<kind>SOCK_\w+)")
USED = re.compile(r"(?P<call>\w+)\(\d+<(?P<name>socket:\[\d+\])>")
PORT = re.compile(r"sin6?_port=htons\((?P<port>\d+)\)")
UNIX_PATH = re.compile(r'sun_path="(?P<path>/[^"]*)"')
CLASSES = {
    ("AF_INET", "SOCK_STREAM"): "tcp_socket",
    ("AF_INET6", "SOCK_STREAM"): "tcp_socket",
    ("AF_INET", "SOCK_DGRAM"): "udp_socket",
    ("AF_INET6", "SOCK_DGRAM"): "udp_socket",
    ("AF_UNIX", "SOCK_STREAM"): "unix_stream_socket",
    ("AF_UNIX", "SOCK_DGRAM"): "unix_dgram_socket",
    ("AF_NETLINK", "SOCK_RAW"): "netlink_route_socket",
}
# security/selinux/hooks.c: the permission that each call on a socket asks for
SOCKET_CALLS = {
    "bind": "bind",
    "connect": "connect",
    "listen": "listen",
    "accept": "accept",
    "getsockname": "getattr",
    "getpeername": "getattr",
    "getsockopt": "getopt",
    "setsockopt": "setopt",
    "sendto": "write",
    "sendmsg": "write",
    "recvmsg": "read",
    "recvfrom": "read",
    "shutdown": "shutdown",
}
CAPABILITIES = {"setuid": "setuid", "setgid": "setgid", "setgroups": "setgid"}


@dataclass(frozen=True, order=True)
class Asked:
    """One permission on a path, a port, or (target "") the program's own domain."""

    target: Union[str, int]
    tclass: str
    permission: str


def accesses(lines: Iterable[str]) -> set[Asked]:
    """Return what the calls of a trace asked for. A call that failed because nothing was there asked to search only."""
    classes: dict[str, str] = {}
    found: set[Asked] = set()
    for line in lines:
        call = line.partition("(")[0]
        made = SOCKET.match(line)
        if made:
            tclass = CLASSES[made["family"], made["kind"]]
            classes[line.rpartition("<")[2].rpartition(">")[0]] = tclass
            found.add(Asked("", tclass, "create"))
        elif call in SOCKET_CALLS:
            found.update(_socket(line, call, classes))
        elif call in CAPABILITIES:
            found.add(Asked("", "capability", CAPABILITIES[call]))
        elif call == "mmap" and "PROT_EXEC" in line and "</" in line:
            path = line[line.index("</") + 1 :].partition(">")[0]
            found.update(Asked(path, "file", permission) for permission in ("map", "read", "execute"))
        else:
            found.update(_file(line, call))
    return found


def _socket(line: str, call: str, classes: dict[str, str]) -> Iterator[Asked]:
    used = USED.match(line)
    if used is None or "ENOPROTOOPT" in line:
        return
    tclass = classes.get(used["name"], "tcp_socket")
    yield Asked("", tclass, SOCKET_CALLS[call])
    port, path = PORT.search(line), UNIX_PATH.search(line)
    if port and tclass == "tcp_socket" and call in ("bind", "connect"):
        yield Asked(int(port["port"]), tclass, f"name_{call}")
    if path:
        yield from _searched(path["path"])
    if path and "ENOENT" not in line:
        if call == "bind":
            yield from (Asked(path["path"], "sock_file", "create"), *_changed(path["path"], "add_name"))
        else:
            yield Asked(path["path"], "sock_file", "write")


def _file(line: str, call: str) -> Iterator[Asked]:
    match = PATH.search(line)
    if match is None or not match["path"]:
        return
    path = posixpath.normpath(posixpath.join(match["at"] or "/", match["path"]))
    if call == "execve":  # made in the domain before, which looked the path up
        yield Asked(path, "file", "entrypoint")
        return
    yield from _searched(path)
    if "ENOENT" in line or "ENOTDIR" in line or "O_PATH" in line:
        return
    opened = OPENED.search(line)
    if call == "openat" and opened:
        yield from _opened(line, opened["path"])
    elif call in ("newfstatat", "access", "stat") and "= 0" in line:
        yield Asked(path, "dir" if "S_IFDIR" in line else "file" if "S_IFREG" in line else _node(path), "getattr")
    elif call == "unlink" and "= 0" in line:
        yield from (Asked(path, _node(path), "unlink"), *_changed(path, "remove_name"))
    elif call == "rename":
        yield from (Asked(path, "file", "rename"), *_changed(path, "remove_name"), *_changed(path, "add_name"))


def _opened(line: str, path: str) -> Iterator[Asked]:
    yield from _searched(path)
    tclass = "dir" if "O_DIRECTORY" in line else _node(path)
    yield from (Asked(path, tclass, "open"), Asked(path, tclass, "getattr"))
    if "O_RDONLY" in line or "O_RDWR" in line:
        yield Asked(path, tclass, "read")
    if "O_WRONLY" in line or "O_RDWR" in line:
        yield Asked(path, tclass, "append" if "O_APPEND" in line else "write")
    if "O_CREAT" in line:
        yield from (Asked(path, tclass, "create"), *_changed(path, "add_name"))


def _changed(path: str, permission: str) -> tuple[Asked, Asked]:
    folder = posixpath.dirname(path)
    return Asked(folder, "dir", "write"), Asked(folder, "dir", permission)


def _searched(path: str) -> Iterator[Asked]:
    while path != "/":
        path = posixpath.dirname(path)
        yield Asked(path, "dir", "search")


def _node(path: str) -> str:
    return "chr_file" if path.startswith("/dev/") else "sock_file" if path.endswith(".sock") else "file"
