"""What was changed, by whom and why: entries in, hash-chained lines out; a line changed, missing, moved or cut off is found.

Each line holds the hash of the one before; ``history.head`` beside it holds number and hash of the last, so that cutting
the end off is found too. Root could rewrite both: this tells accidents and half-hearted edits, not a hostile root.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from sepolicyd.errors import StateError
from sepolicyd.rollout.durable import append_json, write_whole

FILE, HEAD = "history.jsonl", "history.head"
START = "0" * 64


@dataclass(frozen=True)
class Entry:
    """One line. ``at`` in epoch seconds; ``what``: apply, rollback, return, confirm, recover, enforce ...

    ``operation`` is the journal's operation, so that finishing it twice makes one line.
    """

    what: str
    who: str
    at: float
    module: str = ""
    version: int = 0
    operation: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    number: int = 0
    previous: str = ""
    digest: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "at": round(self.at, 3),
            "who": self.who,
            "what": self.what,
            "module": self.module,
            "version": self.version,
            "operation": self.operation,
            "details": dict(self.details),
            "previous": self.previous,
        }


def digest_of(values: Mapping[str, Any]) -> str:
    """SHA-256 over the line's values without its hash, keys sorted, no blanks."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class History:
    """``history.jsonl`` in root's rollout directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self.head_path = directory / HEAD

    def add(self, entry: Entry) -> Entry:
        """Append an entry; it is on the disk when this returns. One operation gets one line, however often it is added.

        :raises StateError: it could not be written
        """
        entries = self.entries()
        for old in entries:
            if entry.operation and (old.operation, old.what) == (entry.operation, entry.what):
                self._write_head(entries[-1])
                return old
        last = entries[-1] if entries else None
        values = entry.as_json()
        values["number"] = last.number + 1 if last else 1
        values["previous"] = last.digest if last else START
        line = {**values, "hash": digest_of(values)}
        append_json(self.path, line)
        added = _entry(line)
        self._write_head(added)
        return added

    def entries(self) -> list[Entry]:
        """Every line that can be read, oldest first.

        :raises StateError: the file cannot be read
        """
        return [entry for _, entry in self._lines() if entry is not None]

    def verify(self) -> list[str]:
        """What is wrong, one sentence each; [] where every line is as it was written and in its place."""
        problems = []
        expected, number = START, 0
        for place, entry in self._lines():
            number += 1
            if entry is None:
                problems.append(f"line {place} cannot be read")
                number -= 1
                continue
            if digest_of(entry.as_json()) != entry.digest:
                problems.append(f"line {place} (number {entry.number}) was changed after it was written")
            elif entry.number != number:
                problems.append(f"line {place} has number {entry.number} where {number} belongs: a line is missing or moved")
            elif entry.previous != expected:
                problems.append(f"line {place} (number {entry.number}) does not follow the line before it")
            expected, number = entry.digest, entry.number
        return problems + self._end_problems(number, expected)

    def _end_problems(self, number: int, digest: str) -> list[str]:
        try:
            head = json.loads(self.head_path.read_text(encoding="utf-8"))
            known, known_digest = int(head["number"]), str(head["hash"])
        except FileNotFoundError:
            return [f"{self.head_path} is missing"] if number > 1 else []
        except (OSError, ValueError, TypeError, KeyError):
            return [f"{self.head_path} cannot be read"]
        if number < known:
            return [f"the end is missing: the last line has number {number}, the last written had {known}"]
        if number == known and digest != known_digest:
            return [f"the last line (number {number}) is not the one that was written"]
        # one line more than the head knows is a crash between the two writes, and the next entry mends it
        if number > known + 1:
            return [f"lines {known + 1} to {number} were not written by sepolicyd"]
        return []

    def _write_head(self, last: Entry) -> None:
        write_whole(self.head_path, json.dumps({"number": last.number, "hash": last.digest}).encode() + b"\n")

    def _lines(self) -> list[tuple[int, Optional[Entry]]]:
        try:
            text = self.path.read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StateError(f"{self.path} cannot be read: {error.strerror}", "run this as root") from error
        lines = text.split("\n")
        if lines[-1] and _parse(lines[-1]) is None:
            lines.pop()  # half a line, and the crash that cut it: append_json ends it before the next
        return [(place, _parse(line)) for place, line in enumerate(lines, 1) if line]


def _parse(line: str) -> Optional[Entry]:
    with suppress(ValueError, TypeError, KeyError):
        return _entry(json.loads(line))
    return None


def _entry(values: Mapping[str, Any]) -> Entry:
    return Entry(
        what=str(values["what"]),
        who=str(values["who"]),
        at=float(values["at"]),
        module=str(values["module"]),
        version=int(values["version"]),
        operation=str(values["operation"]),
        details=dict(values["details"]),
        number=int(values["number"]),
        previous=str(values["previous"]),
        digest=str(values["hash"]),
    )
