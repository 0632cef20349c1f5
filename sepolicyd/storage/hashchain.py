"""Hash-chained JSON lines: append, read, and detect a line that was changed, removed, moved or cut off.

Each line holds the hash of the preceding line. A separate head file holds number and hash of the last line; it is written
before a line ("writing") and after it ("written"), to distinguish a crash from an edit. Root could rewrite both files:
this detects accidents and careless edits, not a hostile root. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from sepolicyd.storage.files import append_json, read_text, write_whole

START = "0" * 64
WRITING, WRITTEN = "writing", "written"
ChainHead = tuple[int, str]  # a line's number and hash
NOTHING: ChainHead = (0, START)


def digest_of(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a line's values without the hash itself, as compact JSON with sorted keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Chain:
    """One file of lines and its head file. The caller of :meth:`add` holds the directory's lock."""

    def __init__(self, path: Path, head_path: Path) -> None:
        self.path = path
        self.head_path = head_path

    def add(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Append one line durably, with its number, the hash of the preceding line and its own hash.

        :raises StateError: the line could not be written
        """
        number, previous = before = self._base()
        line: dict[str, Any] = {**values, "number": number + 1, "previous": previous}
        line["hash"] = digest_of(line)
        own: ChainHead = (number + 1, line["hash"])
        self._write_head(own, WRITING, before)
        append_json(self.path, line)
        self._write_head(own, WRITTEN)
        return line

    def seal(self) -> None:
        """Complete the head after a crash between a line and its head. Idempotent.

        :raises StateError: the head could not be written
        """
        head, last = self._head(), self._last()
        if head is not None and len(head) > 1 and last == head[0]:
            self._write_head(last, WRITTEN)

    def values(self) -> list[dict[str, Any]]:
        """Return the values of all readable lines, oldest first.

        :raises StateError: the file cannot be read
        """
        return [values for _, values in self.lines() if values is not None]

    def lines(self) -> list[tuple[int, Optional[dict[str, Any]]]]:
        """Return (line number, values) of each line, with None for an unreadable one; an incomplete last line is omitted.

        :raises StateError: the file cannot be read
        """
        lines = read_text(self.path).split("\n")
        if lines[-1] and _parse(lines[-1]) is None:
            lines.pop()  # incomplete: append_json removes it before the next append
        return [(place, _parse(line)) for place, line in enumerate(lines, 1) if line]

    def verify(self) -> list[str]:
        """Return one sentence for each fault, [] if no line was changed, added, moved or removed."""
        problems = []
        number, digest = NOTHING
        for place, values in self.lines():
            if values is None:
                problems.append(f"line {place} cannot be read")
                continue
            own, claimed = values["number"], values["hash"]
            if digest_of({key: value for key, value in values.items() if key != "hash"}) != claimed:
                problems.append(f"line {place} (number {own}) was changed after it was written")
            elif own != number + 1:
                problems.append(f"line {place} has number {own} instead of {number + 1}: a line is missing or was moved")
            elif values["previous"] != digest:
                problems.append(f"line {place} (number {own}) does not follow the line before it")
            number, digest = own, claimed
        return problems + self._end_problems(number, digest)

    def _end_problems(self, number: int, digest: str) -> list[str]:
        head = self._head()
        if head is None:
            if not self.head_path.exists():
                return [f"{self.head_path} is missing"] if number else []
            return [f"{self.head_path} cannot be read"]
        if (number, digest) in head:
            return []
        known = head[-1][0]
        if number < known:
            return [f"the end is missing: the last line has number {number}, but number {known} was written"]
        if number > head[0][0]:
            return [f"the lines after number {head[0][0]} were not written by sepolicyd"]
        return [f"the last line (number {number}) is not the one that was written"]

    def _base(self) -> ChainHead:
        """Return the (number, hash) that the next line must link to. If file and head disagree, link to the head, so that
        :meth:`verify` still reports the gap."""
        head, last = self._head(), self._last()
        if head is not None:
            return last if last in head else head[0]
        return last if last == NOTHING and not self.head_path.exists() else (last[0] + 1, last[1])

    def _last(self) -> ChainHead:
        found = self.values()
        return (found[-1]["number"], found[-1]["hash"]) if found else NOTHING

    def _head(self) -> Optional[list[ChainHead]]:
        """Return the possible last lines: the last one written and, during a write, also the one before. None: no head."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            head = json.loads(self.head_path.read_text(encoding="utf-8"))
            places = [(int(head["number"]), str(head["hash"]))]
            if head["state"] == WRITING:
                places.append((int(head["before"]["number"]), str(head["before"]["hash"])))
            return places
        return None

    def _write_head(self, last: ChainHead, state: str, before: Optional[ChainHead] = None) -> None:
        values: dict[str, Any] = {"number": last[0], "hash": last[1], "state": state}
        if before is not None:
            values["before"] = {"number": before[0], "hash": before[1]}
        write_whole(self.head_path, json.dumps(values).encode() + b"\n")


def _parse(line: str) -> Optional[dict[str, Any]]:
    with suppress(ValueError):
        values = json.loads(line)
        if isinstance(values, dict) and isinstance(values.get("number"), int) and isinstance(values.get("hash"), str):
            return {"previous": "", **values}
    return None
