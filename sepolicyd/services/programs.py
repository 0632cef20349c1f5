"""Programs shared by many services, which therefore do not identify one of them."""

from __future__ import annotations

import re

CONTAINERS = ("docker", "podman", "nerdctl", "systemd-nspawn", "crun", "runc", "docker-compose", "podman-compose")
CONTAINER_MARKS = (".dockerenv", "run/.containerenv")
PYTHON = re.compile(r"(python|pypy)[0-9.]*\Z")
INTERPRETERS = frozenset({"node", "java", "perl", "ruby"})
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "env", "sudo", "su", "runuser", "nohup"})
SEARCH_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def is_shared(name: str) -> bool:
    """Tell whether a program of this name runs code of other programs, so that its label cannot belong to one service."""
    return bool(PYTHON.match(name)) or name in SHELLS or name in INTERPRETERS
