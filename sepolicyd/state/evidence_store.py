"""Store of evidence: the daemon writes batches of counted denials and its position in the log in one transaction."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from sepolicyd.access import Access
from sepolicyd.audit.model import Unparsed, UnparsedReason
from sepolicyd.errors import UsageError
from sepolicyd.rules.evidence import Evidence
from sepolicyd.state import evidence_codec
from sepolicyd.state.evidence_reader import HOSTS, SCHEMA, VERSION, LogEvent
from sepolicyd.storage.sqlite import open_database, transaction, translated

MAX_ACCESSES = 20_000
"""Limit of rows, one per access and role. At the limit, a domain with few rows displaces rows of the one with the most."""
BODIES_CHARS = 16 << 20
"""Approximate limit for the total length of all rows; each row is shortened accordingly."""
MAX_UNPARSED = 200
MAX_NOTICES = 1000
MAX_DOMAINS = 200
"""Number of domains with separate counts of ignored and dropped denials; further domains share one count."""
MAX_LINE_CHARS = 512


@dataclass
class Batch:
    """The evidence attributed since the last save; at most MAX_ACCESSES rows."""

    evidence: dict[tuple[Access, str], Evidence] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    """lines, denials, granted, notices, other, unparsed, attempts (among unparsed), imitations (lines that were read and hold
    a value that imitates a record), matched, ignored (denials that are not the profile's), overflow (denials that are
    counted and not kept), gaps (places where the log is known to have been cut away before it was read), lost."""
    unparsed: list[Unparsed] = field(default_factory=list)
    remarks: list[LogEvent] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    """By source type."""
    overflow: Counter[str] = field(default_factory=Counter)
    """By source type."""
    attempts: Counter[str] = field(default_factory=Counter)
    """Attempts and imitations by the type of the process; "" where nothing proves it, and for further types."""
    _keys: dict[str, list[tuple[Access, str]]] = field(default_factory=dict)

    def add(self, access: Access, role: str, seen: Evidence) -> None:
        """Add evidence of one access, kept apart by the role that asked."""
        key = (access, role)
        old = self.evidence.get(key)
        if old is not None:
            self.evidence[key] = old.merge(seen)
            return
        if len(self.evidence) >= MAX_ACCESSES:
            victim = fairest({source: len(keys) for source, keys in self._keys.items()}, access.source)
            if victim is None:
                self.drop(access.source, seen.count)
                return
            self.drop(victim, self.evidence.pop(self._keys[victim].pop()).count)
        self.evidence[key] = seen
        self._keys.setdefault(access.source, []).append(key)

    def ignore(self, source: str, count: int) -> None:
        """Count denials not attributed to the profile."""
        self.counts["ignored"] += count
        _count(self.ignored, source, count)

    def drop(self, source: str, count: int) -> None:
        """Count denials that exceed the limit of rows."""
        self.counts["overflow"] += count
        _count(self.overflow, source, count)

    def attempt(self, source: str, count: int) -> None:
        """Count lines that attempt to forge a record."""
        _count(self.attempts, source, count)

    def keep_unparsed(self, lines: Sequence[Unparsed]) -> None:
        """Keep the first lines and, separately, the first attempts, so that neither displaces the other."""
        for attempt in (False, True):
            room = MAX_UNPARSED - sum(line.attempt is attempt for line in self.unparsed)
            self.unparsed.extend([line for line in lines if line.attempt is attempt][: max(0, room)])


def fairest(rows: Mapping[str, int], source: str) -> Optional[str]:
    """Return the domain with the most rows, None if ``source`` has as many rows itself."""
    most = max(rows, key=lambda domain: (rows[domain], domain), default=source)
    return most if rows.get(source, 0) + 1 < rows.get(most, 0) else None


def _count(counts: Counter[str], source: str, count: int) -> None:
    counts[source if source in counts or len(counts) < MAX_DOMAINS else ""] += count


class EvidenceStore:
    """The daemon's database. Evidence and log position are saved in one transaction, so that after a crash the evidence is
    exactly that of the lines before the position (``place``).
    """

    def __init__(self, path: Path, profile: str) -> None:
        """Open the database, or create it.

        :raises StateError: the database cannot be opened, or has another schema version
        :raises UsageError: the database belongs to another profile
        """
        self.path = path
        self._connection = open_database(path, schema=SCHEMA, version=VERSION, directory_mode=0o750, file_mode=0o640)
        try:
            with translated(path):
                self._claim(profile)
                self._rows = Counter(dict(self._connection.execute("SELECT source, count(*) FROM evidence GROUP BY source")))
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
                "give another directory with --state",
            )
        if self._meta(HOSTS) is not None:
            raise UsageError(
                f"{self.path} holds evidence merged from several hosts", "give another directory for the daemon with --state"
            )

    def close(self) -> None:
        self._connection.close()

    def mark_merged(self, hosts: Sequence[str]) -> None:
        """Record the hosts of merged evidence. A daemon refuses the database from then on.

        :raises StateError: the names could not be stored
        """
        with translated(self.path), transaction(self._connection):
            self._set(HOSTS, json.dumps(list(hosts)))

    @property
    def rows(self) -> int:
        """Number of stored rows, one per access and role."""
        return sum(self._rows.values())

    @property
    def counts(self) -> Mapping[str, int]:
        """All counters of the database, as last saved."""
        return dict(self._counts)

    def save(self, batch: Batch, place: Mapping[str, Any], memory: Optional[Any] = None) -> list[tuple[Access, str]]:
        """Merge the batch into the database and save the log position in one transaction; return the new accesses.

        :param place: the log position at which reading continues after a restart, as JSON
        :param memory: the matcher's process table, as JSON
        :raises StateError: nothing was saved; the batch is unchanged and can be saved again
        """
        new: list[tuple[Access, str]] = []
        counts, rows = self._counts + batch.counts, Counter(self._rows)
        overflow = Counter(batch.overflow)
        with translated(self.path), transaction(self._connection):
            for (access, role), seen in batch.evidence.items():
                if self._fold(access, role, seen, rows, overflow):
                    new.append((access, role))
            counts.update(overflow=sum(overflow.values()) - sum(batch.overflow.values()))
            self._keep_unparsed(batch.unparsed)
            self._keep_notices(batch.remarks)
            self._keep_ignored(batch.ignored)
            for name, more in (("overflow", overflow), ("attempts", batch.attempts)):
                if more:
                    self._set(name, json.dumps(self._added(name, more)))
            counts = +counts
            self._set("counts", json.dumps(counts))
            self._set("place", json.dumps(place))
            if memory != self.memory:
                self._set("memory", json.dumps(memory))
            self._set("updated", repr(time.time()))
        self._rows = +rows
        self._counts, self.place, self.memory = counts, dict(place), memory
        return new

    def _fold(self, access: Access, role: str, seen: Evidence, rows: Counter[str], overflow: Counter[str]) -> bool:
        key = (access.source, access.target, access.tclass, access.permission, role)
        row = self._connection.execute(
            "SELECT id, body FROM evidence WHERE source=? AND target=? AND tclass=? AND permission=? AND role=?", key
        ).fetchone()
        if row is not None:
            body = evidence_codec.render(_parsed(row[1]).merge(seen), _body_limit(rows))
            self._connection.execute("UPDATE evidence SET body=? WHERE id=?", (body, row[0]))
            return False
        if sum(rows.values()) >= MAX_ACCESSES and not self._make_room(access.source, rows, overflow):
            overflow[access.source] += seen.count
            return False
        self._connection.execute(
            "INSERT INTO evidence(source, target, tclass, permission, role, body) VALUES (?,?,?,?,?,?)",
            (*key, evidence_codec.render(seen, _body_limit(rows))),
        )
        rows[access.source] += 1
        return True

    def _make_room(self, source: str, rows: Counter[str], overflow: Counter[str]) -> bool:
        """Delete the newest row of the domain with the most rows, if ``source`` has fewer."""
        victim = fairest(rows, source)
        if victim is None:
            return False
        identity, body = self._connection.execute(
            "SELECT id, body FROM evidence WHERE source=? ORDER BY id DESC LIMIT 1", (victim,)
        ).fetchone()
        self._connection.execute("DELETE FROM evidence WHERE id=?", (identity,))
        overflow[victim] += _parsed(body).count
        rows[victim] -= 1
        return True

    def _added(self, name: str, more: Counter[str]) -> dict[str, int]:
        """Return the stored counts by domain of a counter, with ``more`` added."""
        found: Counter[str] = Counter(json.loads(self._meta(name) or "{}"))
        for source, count in more.items():
            _count(found, source, count)
        return dict(found)

    def _keep_unparsed(self, lines: Sequence[Unparsed]) -> None:
        for attempt in (False, True):
            chosen = [line for line in lines if line.attempt is attempt]
            if not chosen:
                continue
            reasons = [reason.value for reason in UnparsedReason if reason.is_attempt is attempt]
            marks = ",".join("?" * len(reasons))
            kept = self._connection.execute(f"SELECT count(*) FROM unparsed WHERE reason IN ({marks})", reasons)  # noqa: S608
            room = MAX_UNPARSED - kept.fetchone()[0]
            self._connection.executemany(
                "INSERT INTO unparsed(reason, text) VALUES (?,?)",
                [(line.reason.value, _clean(line.text)) for line in chosen[: max(0, room)]],
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
        room = MAX_DOMAINS - self._one("SELECT count(*) FROM ignored") if ignored else 0
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


def _body_limit(rows: Counter[str]) -> int:
    """Return the character limit of one row, which is smaller if there are many rows."""
    share = BODIES_CHARS // max(1, sum(rows.values()))
    return min(evidence_codec.MAX_BODY_CHARS, max(evidence_codec.SMALL_BODY_CHARS, share))


def _parsed(body: str) -> Evidence:
    try:
        return evidence_codec.parse(body)
    except evidence_codec.BadRow:
        # the row was edited by another program; replacing it is better than a daemon that stops
        return Evidence()


def _clean(text: str) -> str:
    """Return the text truncated and without surrogates (undecodable bytes), since SQLite accepts UTF-8 only."""
    return text[:MAX_LINE_CHARS].encode("utf-8", "backslashreplace").decode()
