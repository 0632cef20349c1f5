"""What the daemon remembers: batches of folded denials and the place in the log go in, together and in one transaction."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from sepolicyd.access import Access
from sepolicyd.audit.model import Unparsed
from sepolicyd.errors import UsageError
from sepolicyd.rules.evidence import Evidence
from sepolicyd.state import evidence_codec
from sepolicyd.state.evidence_reader import SCHEMA, VERSION, LogEvent
from sepolicyd.storage.sqlite import open_database, transaction, translated

MAX_ACCESSES = 20_000  # distinct (access, role): a flood of invented names must not fill the disk
MAX_UNPARSED = 200
MAX_NOTICES = 1000
MAX_IGNORED = 200
MAX_LINE_CHARS = 512


@dataclass
class Batch:
    """What has been folded since the last save; bounded by MAX_ACCESSES distinct accesses.

    ``counts`` by name: lines, events, denials, granted, notices, other, unparsed, matched, ignored (denials that are not
    the profile's), overflow (sightings dropped because of MAX_ACCESSES), gaps (places where the log is known to have
    been cut away before it was read). ``ignored`` counts those denials by source type.
    """

    evidence: dict[tuple[Access, str], Evidence] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    unparsed: list[Unparsed] = field(default_factory=list)
    remarks: list[LogEvent] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    def add(self, accesses: Iterable[Access], role: str, seen: Evidence) -> None:
        """Fold one sighting into each of its accesses, kept apart by the role that asked."""
        for access in accesses:
            key = (access, role)
            old = self.evidence.get(key)
            if old is not None:
                self.evidence[key] = old.merge(seen)
            elif len(self.evidence) < MAX_ACCESSES:
                self.evidence[key] = seen
            else:
                self.counts["overflow"] += seen.count

    def ignore(self, source: str, count: int) -> None:
        """Count denials that the profile does not claim."""
        self.counts["ignored"] += count
        if source in self.ignored or len(self.ignored) < MAX_IGNORED:
            self.ignored[source] += count


class EvidenceStore:
    """The daemon's database. One transaction holds what was read and how far, so that a kill between two steps is
    impossible: after any end the evidence is exactly that of the lines before ``place``.
    """

    def __init__(self, path: Path, profile: str) -> None:
        """Open or make it.

        :raises StateError: it cannot be opened or is of another version
        :raises UsageError: it belongs to another profile
        """
        self.path = path
        self._connection = open_database(path, schema=SCHEMA, version=VERSION, directory_mode=0o750, file_mode=0o640)
        try:
            with translated(path):
                self._claim(profile)
                self._rows = int(self._one("SELECT count(*) FROM evidence"))
                self._counts: Counter[str] = Counter(json.loads(self._meta("counts") or "{}"))
                self.place: Optional[dict[str, Any]] = json.loads(self._meta("place") or "null")
                self.memory: Optional[Any] = json.loads(self._meta("memory") or "null")
        except BaseException:
            self._connection.close()
            raise

    def _claim(self, profile: str) -> None:
        found = self._meta("profile")
        if found is None:
            with transaction(self._connection):
                self._set("profile", profile)
        elif found != profile:
            raise UsageError(
                f"{self.path} holds the evidence of profile {found!r}, not of {profile!r}",
                "name another directory with --state",
            )

    def close(self) -> None:
        self._connection.close()

    @property
    def rows(self) -> int:
        """How many accesses are stored, counted once for each role that asked."""
        return self._rows

    @property
    def counts(self) -> Mapping[str, int]:
        """All counters since the beginning, as saved."""
        return dict(self._counts)

    def save(self, batch: Batch, place: Mapping[str, Any], memory: Optional[Any] = None) -> list[tuple[Access, str]]:
        """Fold the batch into what is stored and move the place, in one transaction; returns what was never seen before.

        :param place: where reading goes on after a restart, any JSON
        :param memory: what the matcher knows of processes, any JSON
        :raises StateError: nothing of it has been saved; the batch is unchanged and may be saved again
        """
        new: list[tuple[Access, str]] = []
        counts = self._counts + batch.counts
        with translated(self.path), transaction(self._connection):
            for (access, role), seen in batch.evidence.items():
                if self._fold(access, role, seen, counts, room=self._rows + len(new) < MAX_ACCESSES):
                    new.append((access, role))
            self._keep_unparsed(batch.unparsed)
            self._keep_notices(batch.remarks)
            self._keep_ignored(batch.ignored)
            self._set("counts", json.dumps(counts))
            self._set("place", json.dumps(place))
            if memory != self.memory:
                self._set("memory", json.dumps(memory))
            self._set("updated", repr(time.time()))
        self._rows += len(new)
        self._counts, self.place, self.memory = counts, dict(place), memory
        return new

    def _fold(self, access: Access, role: str, seen: Evidence, counts: Counter[str], *, room: bool) -> bool:
        key = (access.source, access.target, access.tclass, access.permission, role)
        row = self._connection.execute(
            "SELECT id, body FROM evidence WHERE source=? AND target=? AND tclass=? AND permission=? AND role=?", key
        ).fetchone()
        if row is not None:
            body = evidence_codec.render(_parsed(row[1]).merge(seen))
            self._connection.execute("UPDATE evidence SET body=? WHERE id=?", (body, row[0]))
            return False
        if not room:
            counts["overflow"] += seen.count
            return False
        self._connection.execute(
            "INSERT INTO evidence(source, target, tclass, permission, role, body) VALUES (?,?,?,?,?,?)",
            (*key, evidence_codec.render(seen)),
        )
        return True

    def _keep_unparsed(self, lines: Sequence[Unparsed]) -> None:
        if lines and self._one("SELECT count(*) FROM unparsed") < MAX_UNPARSED:
            self._connection.executemany(
                "INSERT INTO unparsed(reason, text) VALUES (?,?)",
                [(_clean(line.reason.value), _clean(line.text)) for line in lines[:MAX_UNPARSED]],
            )

    def _keep_notices(self, notices: Sequence[LogEvent]) -> None:
        if notices:
            self._connection.executemany(
                "INSERT INTO notices(at, kind, text) VALUES (?,?,?)",
                [(notice.at, notice.kind.value, _clean(notice.text)) for notice in notices[-MAX_NOTICES:]],
            )
            newest = "SELECT id FROM notices ORDER BY id DESC LIMIT ?"
            self._connection.execute(f"DELETE FROM notices WHERE id NOT IN ({newest})", (MAX_NOTICES,))  # noqa: S608

    def _keep_ignored(self, ignored: Mapping[str, int]) -> None:
        room = MAX_IGNORED - self._one("SELECT count(*) FROM ignored") if ignored else 0
        for source, count in ignored.items():
            done = self._connection.execute("UPDATE ignored SET count=count+? WHERE source=?", (count, _clean(source))).rowcount
            if not done and room > 0:
                self._connection.execute("INSERT INTO ignored(source, count) VALUES (?,?)", (_clean(source), count))
                room -= 1

    def _one(self, query: str) -> Any:
        return self._connection.execute(query).fetchone()[0]

    def _meta(self, key: str) -> Optional[str]:
        row = self._connection.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _set(self, key: str, value: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO meta(key, value) VALUES (?,?)", (key, value))


def _parsed(body: str) -> Evidence:
    try:
        return evidence_codec.parse(body)
    except evidence_codec.BadRow:
        # Only a foreign hand can have written this; what we see now is worth more than a daemon that stops on it.
        return Evidence()


def _clean(text: str) -> str:
    """Cut, and without the surrogates that stand for undecodable bytes: SQLite takes UTF-8 only."""
    return text[:MAX_LINE_CHARS].encode("utf-8", "backslashreplace").decode()
