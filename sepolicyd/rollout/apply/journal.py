"""Operations in, one fsynced line per step out: planned (with its undo), steps, done or undone; open ones are found again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from sepolicyd.storage.files import append_json, read_text

PLANNED, DONE, UNDONE = "planned", "done", "undone"
FILE = "apply.jsonl"


@dataclass(frozen=True)
class Operation:
    """One change of the store as its journal tells it. ``details`` is what was planned: enough to finish it or undo it.

    ``steps`` are the names of the steps that were completed, ``end`` is done, undone or "" (open: a crash came between).
    """

    id: str
    details: Mapping[str, Any]
    steps: tuple[str, ...] = ()
    end: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)


class ApplyJournal:
    """``apply.jsonl`` in root's rollout directory. One operation at a time: the caller holds the lock."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE

    def plan(self, operation: str, at: float, details: Mapping[str, Any]) -> None:
        """The first line of an operation; nothing of it may be done before this returns.

        :raises StateError: not written, so nothing may be done
        """
        self._append(operation, PLANNED, at, details)

    def step(self, operation: str, at: float, name: str, notes: Optional[Mapping[str, Any]] = None) -> None:
        self._append(operation, name, at, notes or {})

    def end(self, operation: str, at: float, how: str, notes: Optional[Mapping[str, Any]] = None) -> None:
        self._append(operation, how, at, notes or {})

    def operations(self) -> list[Operation]:
        """All operations, oldest first. A half line (crash, full disk) is passed over: what it would have said did not happen.

        :raises StateError: the file cannot be read
        """
        found: dict[str, Operation] = {}
        for line in read_text(self.path).split("\n"):
            entry = _parse(line)
            if entry is not None:
                found[entry["op"]] = _with(found.get(entry["op"]), entry)
        return [operation for operation in found.values() if operation.details]

    def open(self) -> list[Operation]:
        """Operations that have neither been done nor undone."""
        return [operation for operation in self.operations() if not operation.end]

    def _append(self, operation: str, event: str, at: float, details: Mapping[str, Any]) -> None:
        entry = {"op": operation, "event": event, "at": round(at, 3), "details": dict(details)}
        append_json(self.path, entry)


def _parse(line: str) -> Optional[dict[str, Any]]:
    with suppress(ValueError):
        entry = json.loads(line)
        if isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("op", "event")):
            return entry if isinstance(entry.get("details"), dict) else None
    return None


def _with(operation: Optional[Operation], entry: dict[str, Any]) -> Operation:
    event, details = entry["event"], entry["details"]
    if operation is None:
        operation = Operation(entry["op"], {})
    if event == PLANNED:
        return Operation(operation.id, {**details, "at": entry.get("at", 0.0)}, operation.steps, operation.end)
    notes = {**operation.notes, **details}
    if event in (DONE, UNDONE):
        return Operation(operation.id, operation.details, operation.steps, event, notes)
    return Operation(operation.id, operation.details, (*operation.steps, event), operation.end, notes)
