"""The history of policy changes (history.jsonl): each apply, rollback and confirmation with user and time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Optional

from sepolicyd.storage.hashchain import Chain

FILE, HEAD = "history.jsonl", "history.head"


class HistoryEvent(str, Enum):
    """Kind of a line in history.jsonl. The values are part of the file's format."""

    APPLY = "apply"
    ROLLBACK = "rollback"
    RETURN = "return"  # rollback at the end of a trial that was not confirmed
    CONFIRM = "confirm"
    OTHER = "other"  # written by another version of sepolicyd

    @classmethod
    def of(cls, text: str) -> HistoryEvent:
        """Return the event of that name, OTHER for an unknown one."""
        with suppress(ValueError):
            return cls(text)
        return cls.OTHER


@dataclass(frozen=True)
class Entry:
    """One line of the history."""

    what: HistoryEvent
    who: str
    at: float
    """Epoch seconds."""
    module: str = ""
    version: int = 0
    operation: str = ""
    """The id of the journal's operation. An operation that is completed twice gets one line."""
    details: Mapping[str, Any] = field(default_factory=dict)
    number: int = 0
    previous: str = ""
    digest: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the values of the line without its hash-chain keys."""
        return {
            "at": round(self.at, 3),
            "who": self.who,
            "what": self.what.value,
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
        """Append an entry durably. One operation gets one line, however often it is added.

        :raises StateError: it could not be written
        """
        for old in self.entries():
            if entry.operation and (old.operation, old.what) == (entry.operation, entry.what):
                self.chain.seal()
                return old
        return _entry(self.chain.add(entry.as_json()))

    def entries(self) -> list[Entry]:
        """Return every line that can be read, oldest first.

        :raises StateError: the file cannot be read
        """
        return [entry for entry in map(_parse, self.chain.values()) if entry is not None]

    def verify(self) -> list[str]:
        """Return one sentence for each fault of the file, [] if no line was changed, added or removed."""
        return self.chain.verify()


def _parse(values: Mapping[str, Any]) -> Optional[Entry]:
    with suppress(ValueError, TypeError, KeyError):
        return _entry(values)
    return None


def _entry(values: Mapping[str, Any]) -> Entry:
    return Entry(
        what=HistoryEvent.of(str(values["what"])),
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
