"""Store of decisions. Each is durable before the call returns; the latest answer for an access counts.

The table is append-only (enforced by triggers): an undo is a row of its own, so that the file is a complete record of who
decided what and when.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Optional, TypeVar

from sepolicyd.access import Access, is_identifier
from sepolicyd.errors import RefusedError, StateError
from sepolicyd.rules.fixes.detail import NO_DETAIL, FixDetail
from sepolicyd.rules.fixes.fix import FixKind
from sepolicyd.state import fix_codec
from sepolicyd.storage.sqlite import open_database, transaction, translated

VERSION = 1
UNDO = "undo"
SEEN = "seen"  # the key of Decision.last_seen in the column fix_detail
SCHEMA = """\
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY, answer TEXT NOT NULL, accesses TEXT NOT NULL, candidate_id TEXT NOT NULL,
    fix_kind TEXT NOT NULL, fix_detail TEXT NOT NULL, by TEXT NOT NULL, at REAL NOT NULL, reason TEXT NOT NULL,
    undoes INTEGER REFERENCES decisions(id));
CREATE TRIGGER decisions_stay BEFORE UPDATE ON decisions BEGIN SELECT RAISE(ABORT, 'decisions are only ever added') ; END;
CREATE TRIGGER decisions_last BEFORE DELETE ON decisions BEGIN SELECT RAISE(ABORT, 'decisions are only ever added') ; END
"""

Seen = TypeVar("Seen")


class AnswerKind(str, Enum):
    """The possible answers. A reset withdraws earlier answers, so that the accesses are pending again."""

    ALLOW = "allow"
    DENY = "deny"
    DONTAUDIT = "dontaudit"
    RESET = "reset"


@dataclass(frozen=True)
class Decision:
    """One decision: the answer of one user about a set of accesses.

    ``fix_kind`` and ``fix_detail`` describe the chosen fix, None if there was no choice. ``at`` is in epoch seconds. ``id`` is
    the row number, 0 before the decision is stored.
    """

    answer: AnswerKind
    accesses: tuple[Access, ...]
    by: str
    at: float
    reason: str = ""
    candidate_id: str = ""
    fix_kind: Optional[FixKind] = None
    fix_detail: FixDetail = NO_DETAIL
    last_seen: Optional[float] = None
    """Time of the last sighting before the decision (epoch seconds, from the log), set if a fix was chosen."""
    id: int = 0


class DecisionStore:
    """Root's database of decisions (directory 0700, file 0600). The first answer creates the file; reading does not."""

    def __init__(self, path: Path) -> None:
        """
        :raises StateError: the file cannot be read, or has another schema version
        :raises RefusedError: the directory or the file is owned or writable by another user
        """
        self.path = path
        self._connection: Optional[sqlite3.Connection] = None
        if self._exists():
            self._connect()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def add(self, decision: Decision) -> Decision:
        """Store one answer durably, and return the Decision with its id.

        :raises StateError: nothing was stored (disk full, locked, not writable)
        :raises RefusedError: an access contains a name that is not a valid identifier
        """
        _check(decision)
        return self._insert(decision, None)

    def all(self) -> list[Decision]:
        """Return all decisions that have not been undone, oldest first."""
        return [decision for decision, undone in self._history() if not undone]

    def history(self) -> list[tuple[Decision, bool]]:
        """Return all decisions, oldest first, each with whether it was undone later."""
        return self._history()

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows unchanged, including undos, in a form for JSON."""
        return [
            {
                "id": row[0], "answer": row[1], "accesses": json.loads(row[2]), "candidate": row[3], "fix_kind": row[4],
                "fix_detail": json.loads(row[5]), "by": row[6], "at": row[7], "reason": row[8], "undoes": row[9],
            }
            for row in self._rows()
        ]  # fmt: skip

    def decided(self, last: Optional[int] = None) -> dict[Access, Decision]:
        """Return the decision in force for each access: the latest one, unless it is a reset.

        :param last: the number of the last row to look at; by default all count
        """
        effective: dict[Access, Decision] = {}
        for decision in (decision for decision, undone in self._history(last) if not undone):
            for access in decision.accesses:
                if decision.answer == AnswerKind.RESET:
                    effective.pop(access, None)
                else:
                    effective[access] = decision
        return effective

    def undo_last(self, by: str, at: float, reason: str = "undo") -> Optional[Decision]:
        """Undo the user's latest decision that is still in force; return that decision, or None if there was none."""
        effective = [decision for decision in self.all() if decision.by == by]
        if not effective:
            return None
        last = effective[-1]
        self._insert(Decision(AnswerKind.RESET, last.accesses, by, at, reason, last.candidate_id), last.id)
        return last

    def _insert(self, decision: Decision, undoes: Optional[int]) -> Decision:
        connection = self._connect()
        accesses = json.dumps([_to_json(access) for access in sorted(decision.accesses)], separators=(",", ":"))
        row = (
            UNDO if undoes is not None else decision.answer.value,
            accesses,
            decision.candidate_id,
            "" if decision.fix_kind is None else decision.fix_kind.value,
            json.dumps(_fix_to_json(decision), sort_keys=True),
            _utf8(decision.by),
            decision.at,
            _utf8(decision.reason),
            undoes,
        )
        with translated(self.path), transaction(connection):
            cursor = connection.execute(
                "INSERT INTO decisions(answer, accesses, candidate_id, fix_kind, fix_detail, by, at, reason, undoes) "
                "VALUES (?,?,?,?,?,?,?,?,?)",
                row,
            )
        return _with_id(decision, int(cursor.lastrowid or 0))

    def _rows(self) -> list[tuple[Any, ...]]:
        if self._connection is None:
            return []
        with translated(self.path):
            return self._connection.execute(
                "SELECT id, answer, accesses, candidate_id, fix_kind, fix_detail, by, at, reason, undoes "
                "FROM decisions ORDER BY id"
            ).fetchall()

    def _history(self, last: Optional[int] = None) -> list[tuple[Decision, bool]]:
        rows = [row for row in self._rows() if last is None or row[0] <= last]
        undone = {row[9] for row in rows if row[9] is not None}
        return [(_from_row(row, self.path), row[0] in undone) for row in rows if row[1] != UNDO]

    def _exists(self) -> bool:
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StateError(f"{self.path} cannot be read: {error.strerror}", "run this as root") from None
        if not stat.S_ISREG(found.st_mode):
            raise RefusedError(f"{self.path} is not a regular file", "find out who created it, then move it away")
        return True

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_database(self.path, schema=SCHEMA, version=VERSION, directory_mode=0o700, file_mode=0o600)
            try:
                _check_owner(self.path)
                _check_owner(self.path.parent)
            except BaseException:
                self.close()
                raise
        return self._connection


def pending(evidence: Mapping[Access, Seen], decided: Mapping[Access, Decision]) -> dict[Access, Seen]:
    """Return the accesses without a decision, including new permissions of a decided candidate."""
    return {access: seen for access, seen in evidence.items() if access not in decided}


def allowed(decided: Mapping[Access, Decision]) -> list[Access]:
    """Return the accesses whose answer in force is allow, sorted."""
    return sorted(access for access, decision in decided.items() if decision.answer == AnswerKind.ALLOW)


def _check(decision: Decision) -> None:
    if not decision.accesses:
        raise RefusedError("a decision must name at least one access")
    for access in decision.accesses:
        _check_names((access.source, access.target, access.tclass, access.permission))


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if not is_identifier(name):
            raise RefusedError(f"{name[:128]!r} is not a valid name in a policy", "leave this candidate undecided")


def _check_owner(path: Path) -> None:
    found = os.lstat(path)
    if found.st_uid not in (0, os.geteuid()):
        raise RefusedError(
            f"{path} belongs to user {found.st_uid}", "only root may own decisions: find out who created it, then move it away"
        )
    if found.st_mode & 0o022:
        raise RefusedError(
            f"{path} is writable by other users", f"run: chmod go-w {path}; then check the decisions: sepolicyd history"
        )


def _fix_to_json(decision: Decision) -> dict[str, Any]:
    seen = {} if decision.last_seen is None else {SEEN: decision.last_seen}
    return {**fix_codec.encode(decision.fix_detail), **seen}


def _to_json(access: Access) -> list[Any]:
    return [access.source, access.target, access.tclass, access.permission, [list(pair) for pair in access.xperms]]


def _from_row(row: tuple[Any, ...], path: Path) -> Decision:
    try:
        stored = json.loads(row[5])
        return Decision(
            answer=AnswerKind(row[1]),
            accesses=tuple(
                Access(source, target, tclass, permission, tuple((int(low), int(high)) for low, high in xperms))
                for source, target, tclass, permission, xperms in json.loads(row[2])
            ),
            candidate_id=row[3],
            fix_kind=FixKind(row[4]) if row[4] else None,
            fix_detail=fix_codec.decode(stored),
            last_seen=float(stored[SEEN]) if SEEN in stored else None,
            by=row[6],
            at=float(row[7]),
            reason=row[8],
            id=int(row[0]),
        )
    except (ValueError, TypeError) as error:
        raise StateError(f"{path}: decision {row[0]} cannot be read: {error}", "restore the file from a backup") from None


def _with_id(decision: Decision, identity: int) -> Decision:
    return Decision(**{**decision.__dict__, "id": identity})


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
