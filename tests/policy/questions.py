"""Accesses of the captured logs, and audit2why in a separate process to explain them."""

from __future__ import annotations

import gzip
import re
from typing import Any

from tests.paths import DATA

LOGS = sorted((DATA / "jupyterhub").glob("*.log.gz"))

WORKER = """
import json, sys
import selinux.audit2why as a2w
a2w.init(sys.argv[1])
names = {value: name for name, value in vars(a2w).items() if name.isupper() and isinstance(value, int)}
print(json.dumps([[names.get(found[0]), [b[0] for b in found[1] or ()] if found[0] == a2w.BOOLEAN else []]
  for found in (a2w.analyze(*asked) for asked in json.load(sys.stdin))]))
"""
AVC = re.compile(r"avc:\s+denied\s+\{ ([^}]+) \}.*?scontext=(\S+) tcontext=(\S+) tclass=(\S+)")


# jupyterhub_t and its like are no types of the distribution: the same questions, asked of domains that it has
STAND_INS = {"jupyterhub_t": "httpd_t", "jupyterhub_user_t": "user_t", "initrc_t": "sshd_t"}


def stand_in(context: str) -> str:
    parts = context.split(":")
    return ":".join((*parts[:2], STAND_INS.get(parts[2], parts[2]), *parts[3:]))


def denials() -> list[tuple[str, str, str, str]]:
    """Distinct (scontext, tcontext, class, permission) of the captured logs."""
    found: set[Any] = set()
    for log in LOGS:
        for permissions, scontext, tcontext, tclass in AVC.findall(gzip.decompress(log.read_bytes()).decode(errors="replace")):
            found.update((stand_in(scontext), stand_in(tcontext), tclass, permission) for permission in permissions.split())
    return sorted(found)
