"""Journal of policy changes: one synced line per step, from which an interrupted operation is completed or rolled back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Optional

from sepolicyd.storage.files import append_json, read_text

FILE = "apply.jsonl"
PLANNED = "planned"


class Step(str, Enum):
    """A completed step of an operation."""

    KEPT = "kept"
    ARMED = "armed"
    INSTALLED = "installed"
    VERIFIED = "verified"


class Outcome(str, Enum):
    """How an operation ended."""

    DONE = "done"
    UNDONE = "undone"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Operation:
    """One change of the store as recorded in the journal."""

    id: str
    details: Mapping[str, Any]
    """The plan, with everything needed to complete or undo the operation."""
    steps: tuple[str, ...] = ()
    """The completed steps: values of :class:`Step`, or names written by another version of sepolicyd."""
    end: Optional[Outcome] = None
    """None while the operation is open (running or interrupted)."""
    notes: Mapping[str, Any] = field(default_factory=dict)


class ApplyJournal:
    """``apply.jsonl`` in root's rollout directory. One operation at a time: the caller holds the lock."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE

    def plan(self, operation: str, at: float, details: Mapping[str, Any]) -> None:
        """Write the first line of an operation; the operation may start only after this call has returned.

        :raises StateError: the line could not be written, so the operation must not start
        """
        self._append(operation, PLANNED, at, details)

    def step(self, operation: str, at: float, name: Step, notes: Optional[Mapping[str, Any]] = None) -> None:
        self._append(operation, name.value, at, notes or {})

    def end(self, operation: str, at: float, how: Outcome, notes: Optional[Mapping[str, Any]] = None) -> None:
        self._append(operation, how.value, at, notes or {})

    def operations(self) -> list[Operation]:
        """Return all operations, oldest first. An incomplete line (crash, full disk) is ignored, as is its step.

        :raises StateError: the file cannot be read
        """
        found: dict[str, Operation] = {}
        for line in read_text(self.path).split("\n"):
            entry = _parse(line)
            if entry is not None:
                found[entry["op"]] = _with(found.get(entry["op"]), entry)
        return [operation for operation in found.values() if operation.details]

    def open(self) -> list[Operation]:
        """Return the operations that are neither done nor undone."""
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
    known = operation or Operation(entry["op"], {})
    if event == PLANNED:
        return replace(known, details={**details, "at": entry.get("at", 0.0)})
    notes = {**known.notes, **details}
    if event in {outcome.value for outcome in Outcome}:
        return replace(known, end=Outcome(event), notes=notes)
    return replace(known, steps=(*known.steps, event), notes=notes)
