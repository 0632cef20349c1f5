"""What was changed, by whom and why: entries in, hash-chained lines out (chain.py)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from sepolicyd.storage.hashchain import Chain

FILE, HEAD = "history.jsonl", "history.head"


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
            "at": round(self.at, 3),
            "who": self.who,
            "what": self.what,
            "module": self.module,
            "version": self.version,
            "operation": self.operation,
            "details": dict(self.details),
        }


class History:
    """``history.jsonl`` in root's rollout directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self.head_path = directory / HEAD
        self.chain = Chain(self.path, self.head_path)

    def add(self, entry: Entry) -> Entry:
        """Append an entry; it is on the disk when this returns. One operation gets one line, however often it is added.

        :raises StateError: it could not be written
        """
        for old in self.entries():
            if entry.operation and (old.operation, old.what) == (entry.operation, entry.what):
                self.chain.seal()
                return old
        return _entry(self.chain.add(entry.as_json()))

    def entries(self) -> list[Entry]:
        """Every line that can be read, oldest first.

        :raises StateError: the file cannot be read
        """
        return [entry for entry in map(_parse, self.chain.values()) if entry is not None]

    def verify(self) -> list[str]:
        """What is wrong, one sentence each; [] where every line is as it was written and in its place."""
        return self.chain.verify()


def _parse(values: Mapping[str, Any]) -> Optional[Entry]:
    with suppress(ValueError, TypeError, KeyError):
        return _entry(values)
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
