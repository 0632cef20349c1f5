"""Rows of a fixbench file: the denials of one commit, with the policy maintainer's fix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepolicyd.access import Access

# The maintainer's kinds that are not "give it", and what they are called in the table.
OTHER = {
    "fcontext": "label",
    "filetrans": "label",
    "domtrans": "transition",
    "dontaudit": "dontaudit",
    "boolean": "boolean",
    "port": "port",
}
GIVEN = ("interface", "allow", "typeattribute")


@dataclass(frozen=True)
class Row:
    """One commit."""

    id: str
    log: str
    accesses: frozenset[Access]
    opened: frozenset[Access]
    """What the fix opened on the denied objects. A newer policy has it, so it is hidden together with ``accesses``."""
    kinds: frozenset[str]
    """The maintainer's kinds, by the values of OTHER; "give" for a rule of any form."""
    interfaces: tuple[str, ...]
    """Interfaces that existed before the commit and cover all that was denied."""
    single: bool
    gives: bool
    """Whether the fix is a rule and nothing else, and covers all that was denied."""
    patterns: frozenset[str] = frozenset()
    """Patterns of file_contexts that the fix adds: a newer policy has them, so that they are hidden."""
    ruled: bool = False
    """Whether rules of the fix cover all that was denied: a label in the same commit then answers something else."""

    @property
    def half(self) -> int:
        """0 or 1: one half is for tuning, the other is held out."""
        return int(self.id, 16) % 2


def load(path: Path) -> list[Row]:
    return [_row(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line]


def sample(rows: Sequence[Row], number: int) -> list[Row]:
    """About ``number`` rows, spread evenly over the file."""
    step = max(1, len(rows) // number) if number else 1
    return list(rows[::step])


def _row(item: dict[str, Any]) -> Row:
    fixes = item["fix"]
    kinds = {"give" if fix["kind"] in GIVEN else OTHER.get(fix["kind"], "") for fix in fixes}
    accesses = {
        Access.of(source, target, tclass, permission)
        for source, target, tclass, permissions in item["accesses"]
        for permission in permissions
        if permission.isidentifier()
    }
    targets = {access.target_type for access in accesses}
    opened = {
        Access.of(source, target, tclass, permission)
        for fix in fixes
        for source, target, tclass, permissions in fix.get("opens") or ()
        for permission in permissions
        if target in targets
    }
    interfaces = tuple(
        fix["name"]
        for fix in fixes
        if fix["kind"] == "interface" and fix.get("covers") and not fix.get("new_interface") and not fix.get("symbolic")
    )
    given = {
        Access.of(source, target, tclass, permission)
        for fix in fixes
        if fix["kind"] in GIVEN
        for source, target, tclass, permissions in fix.get("opens") or ()
        for permission in permissions
    }
    return Row(
        id=item["id"],
        log="\n".join(item["records"]) + "\n",
        accesses=frozenset(accesses),
        opened=frozenset(opened),
        kinds=frozenset(kinds - {""}),
        interfaces=interfaces,
        single=bool(item["single"]),
        gives=bool(item["covers_all"]) and not item["relabels"] and kinds == {"give"},
        patterns=frozenset(fix["text"].split()[0] for fix in fixes if fix["kind"] == "fcontext" and fix.get("text")),
        ruled=accesses <= given or any(fix["kind"] in GIVEN and fix.get("covers") for fix in fixes),
    )
