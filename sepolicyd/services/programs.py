"""Programs shared by many services, which therefore do not identify one of them."""

from __future__ import annotations

import re
from pathlib import Path

from sepolicyd.errors import RefusedError

CONTAINERS = ("docker", "podman", "nerdctl", "systemd-nspawn", "crun", "runc", "docker-compose", "podman-compose")
CONTAINER_MARKS = (".dockerenv", "run/.containerenv")
PYTHON = re.compile(r"(python|pypy)[0-9.]*\Z")
INTERPRETERS = frozenset({"node", "java", "perl", "ruby"})
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "env", "sudo", "su", "runuser", "nohup"})
SEARCH_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def refuse_container(root: Path) -> None:
    """Refuse a root that is the inside of a container.

    :raises RefusedError: it is one
    """
    if any((root / mark).exists() for mark in CONTAINER_MARKS):
        raise RefusedError("this is a container, whose labels are managed by the host", "run init on the host")


def is_shared(name: str) -> bool:
    """Tell whether a program of this name runs code of other programs, so that its label cannot belong to one service."""
    return bool(PYTHON.match(name)) or name in SHELLS or name in INTERPRETERS
