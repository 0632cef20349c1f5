"""Read-only view of evidence.db with checks on every value, since another user writes the file. Takes no lock."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from sepolicyd.access import Access, is_identifier
from sepolicyd.audit.model import LogEventKind, UnparsedReason
from sepolicyd.errors import StateError
from sepolicyd.rules.evidence import Evidence, merged_roles
from sepolicyd.state import evidence_codec
from sepolicyd.storage.sqlite import translated

VERSION = 1
HOSTS = "hosts"  # the key of meta for the host names of merged evidence
# one statement per table; the reader compares these texts with the schema in the file, so that a file with views, triggers or
# generated columns is refused before the first query
TABLES = {
    "meta": "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "evidence": (
        "CREATE TABLE evidence (id INTEGER PRIMARY KEY, source TEXT NOT NULL, target TEXT NOT NULL, tclass TEXT NOT NULL, "
        "permission TEXT NOT NULL, role TEXT NOT NULL, body TEXT NOT NULL, "
        "UNIQUE (source, target, tclass, permission, role))"
    ),
    "unparsed": "CREATE TABLE unparsed (id INTEGER PRIMARY KEY, reason TEXT NOT NULL, text TEXT NOT NULL)",
    "notices": "CREATE TABLE notices (id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL)",
    "ignored": "CREATE TABLE ignored (source TEXT PRIMARY KEY, count INTEGER NOT NULL)",
}
SCHEMA = ";\n".join(TABLES.values())

MAX_BYTES = 160 << 20
MAX_BODIES_CHARS = 128 << 20
MAX_ROWS = 40_000
MAX_BAD_ROWS = 100
MAX_META_CHARS = 1 << 18
MAX_META_VALUE_CHARS = 1 << 20  # for the daemon's process table, which is not read here
QUERY_SECONDS = 20.0
TRIES = 60
PAUSE_SECONDS = 0.01
HEADER_BYTES = 100
CHANGE_COUNTER = slice(24, 28)  # https://sqlite.org/fileformat2.html#file_change_counter


@dataclass(frozen=True)
class LogEvent:
    """An event in the log that limits the evidence. ``text`` is raw log text: escape it before display."""

    at: float
    """Epoch seconds."""
    kind: LogEventKind
    text: str


@dataclass(frozen=True)
class Snapshot:
    """The checked content of evidence.db."""

    evidence: Mapping[Access, Evidence] = field(default_factory=dict)
    """Evidence by access, all roles merged."""
    by_role: Mapping[tuple[Access, str], Evidence] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    """See evidence_store.Batch."""
    remarks: tuple[LogEvent, ...] = ()
    unparsed: tuple[tuple[str, str], ...] = ()
    """(reason, line) of the first unparsed lines; raw log text, escape it before display."""
    ignored: Mapping[str, int] = field(default_factory=dict)
    """Denials not attributed to the profile, by source type."""
    overflow: Mapping[str, int] = field(default_factory=dict)
    """Denials that were counted but not kept, by source type; "" stands for further types."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """Lines and values that try to be taken for a record, by the type of the process; "" where nothing proves it."""
    bad_rows: tuple[str, ...] = ()
    """Reasons why rows were skipped (a hostile or damaged file)."""
    profile: str = ""
    place: Mapping[str, Any] = field(default_factory=dict)
    updated: float = 0.0
    """Time of the daemon's last save, epoch seconds."""
    present: bool = False
    """False if there is no database yet."""
    hosts: tuple[str, ...] = ()
    """Names of the hosts whose evidence was merged; () for the evidence of one machine."""

    @property
    def taints(self) -> tuple[str, ...]:
        """Reasons why the evidence may be incomplete, one sentence each."""
        found = []
        if self.counts.get("overflow"):
            found.append(f"{self.counts['overflow']} denials of new accesses were dropped: {self._dropped()}")
        unread = self.counts.get("attempts", 0)  # an imitation is a value that was read, and hides no denial
        if unread:
            lines = "line looks like an attempt" if unread == 1 else "lines look like attempts"
            found.append(f"{unread} {lines} to forge a record, and the denials in them were not read")
        if self.counts.get("gaps"):
            found.append(f"parts of the log were lost before they were read in {self.counts['gaps']} places")
        if self.counts.get("lost"):
            found.append(f"the kernel or auditd reported lost events {self.counts['lost']} times")
        if self.bad_rows:
            found.append(f"{len(self.bad_rows)} rows of the evidence database are invalid and were skipped")
        return tuple(found)

    @property
    def attempt_count(self) -> int:
        """Number of all attempts; databases of earlier versions have no counts by domain."""
        return max(sum(self.attempts.values()), self.counts.get("attempts", 0) + self.counts.get("imitations", 0))

    @property
    def attempts_text(self) -> str:
        """The domains with most attempts, such as "3 of jupyterhub_user_t, 1 of an unknown domain"."""
        most = sorted(self.attempts.items(), key=lambda item: (-item[1], item[0]))[:3]
        return ", ".join(f"{count} of {source or 'an unknown domain'}" for source, count in most) or "of an unknown domain"

    @property
    def attempt_lines(self) -> tuple[tuple[str, str], ...]:
        """(reason, line) of the first attempts; hostile text, escape it before display."""
        reasons = {reason.value for reason in UnparsedReason if reason.is_attempt}
        return tuple((reason, line) for reason, line in self.unparsed if reason in reasons)

    def _dropped(self) -> str:
        """Return the domains with the most dropped denials."""
        most = sorted(self.overflow.items(), key=lambda item: (-item[1], item[0]))[:3]
        named = ", ".join(f"{count} of {source or 'other domains'}" for source, count in most)
        return f"too many distinct accesses ({named})" if named else "too many distinct accesses"


def read_evidence(path: Path) -> Snapshot:
    """Return the daemon's evidence, or an empty Snapshot if there is no database yet.

    The file belongs to the daemon's user, who may be hostile: symbolic links are refused, only a copy is opened, the schema
    text must be identical to sepolicyd's, each value is checked for type and size, and bad rows go to ``bad_rows``.

    :raises StateError: the file cannot be read, is not a regular file, too large, or not a database of this version
    """
    try:
        data, journal = _consistent_bytes(path)
    except FileNotFoundError:
        return Snapshot()
    except OSError as error:
        hint = "run this as root or as the daemon's user" if isinstance(error, PermissionError) else "it must be a regular file"
        raise StateError(f"{path} cannot be read: {error.strerror}", hint) from None
    if not data:
        return Snapshot()
    with translated(path), _opened(data, journal) as connection:
        _check_schema(connection, path)
        return _snapshot(connection)


def _consistent_bytes(path: Path) -> tuple[bytes, bytes]:
    """Return the content of the file and, if a killed daemon has left one, of its hot journal.

    The daemon's journal mode is TRUNCATE: its journal has content exactly while pages are being written, and a commit writes
    the change counter in page 1 first. The counter is therefore read before the journal is looked at: a copy that begins
    while a commit is at work, and is finished before its end, has the new counter with the old pages behind it.
    """
    journal = path.with_name(path.name + "-journal")
    for _ in range(TRIES):
        stamp, counter = _stamp(path), _bytes(path, HEADER_BYTES)[CHANGE_COUNTER]
        if not _size(journal):
            data = _bytes(path)
            same = data[CHANGE_COUNTER] == counter == _bytes(path, HEADER_BYTES)[CHANGE_COUNTER]
            if not _size(journal) and same and _stamp(path) == stamp:
                return data, b""
        time.sleep(PAUSE_SECONDS)
    for _ in range(TRIES):
        before = (_stamp(path), _stamp(journal))
        data, undo = _bytes(path), _bytes(journal)
        time.sleep(PAUSE_SECONDS * 3)  # the resolution of file time stamps is one kernel tick
        if before == (_stamp(path), _stamp(journal)):
            return data, undo
    raise StateError(f"{path} is written continuously", "try again in a moment")


def _open(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file")
    return descriptor


def _bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    with open(_open(path), "rb") as file:
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise StateError(f"{path} is larger than {MAX_BYTES >> 20} MiB, the limit of the daemon", "move it away")
        return file.read(limit)


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def _stamp(path: Path) -> tuple[int, int, int]:
    found = os.lstat(path)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


@contextmanager
def _opened(data: bytes, journal: bytes) -> Iterator[sqlite3.Connection]:
    """Provide a connection to a private copy, in memory (Python 3.11) or, on older Pythons or with a hot journal, on disk."""
    if not journal and sys.version_info >= (3, 11):
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.deserialize(data)
            yield _guarded(connection)
        return
    try:
        with tempfile.TemporaryDirectory(prefix="sepolicyd-") as directory:
            copy = Path(directory) / "copy.db"
            copy.write_bytes(data)
            if journal:
                copy.with_name("copy.db-journal").write_bytes(journal)
            with closing(sqlite3.connect(str(copy), isolation_level=None)) as connection:
                yield _guarded(connection)
    except OSError as error:
        raise StateError(
            f"no space for a copy of the evidence in {tempfile.gettempdir()}: {error.strerror}", "free space there"
        ) from None


def _guarded(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0"):
        connection.execute(f"PRAGMA {pragma}")
    deadline = time.monotonic() + QUERY_SECONDS
    connection.set_progress_handler(lambda: int(time.monotonic() > deadline), 100_000)
    return connection


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        raise StateError(
            f"{path} has schema {version}, but this sepolicyd supports schema {VERSION}",
            "install the same version of daemon and commands",
        )
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL LIMIT 50").fetchall()
    found = {name: sql for kind, name, sql in rows if kind == "table"}
    if found != TABLES or len(rows) != len(TABLES):
        raise StateError(f"{path} is not a database written by sepolicyd", "move it away; the daemon creates a new one")
    # from here on no statement can write
    connection.execute("PRAGMA query_only=ON")


def _snapshot(connection: sqlite3.Connection) -> Snapshot:
    bad: list[str] = []
    by_role: dict[tuple[Access, str], Evidence] = {}
    left = MAX_BODIES_CHARS
    for row in _rows(connection, "evidence", ("source", "target", "tclass", "permission", "role", "body"), bad):
        left -= len(row[5])
        if left < 0:
            _report(bad, f"evidence: more than {MAX_BODIES_CHARS >> 20} Mi characters, the rest was skipped")
            break
        try:
            key = _key(row[:5])
            seen = evidence_codec.parse(row[5])
        except evidence_codec.BadRow as error:
            _report(bad, f"evidence: {error}")
        else:
            by_role[key] = seen
    meta = dict(_rows(connection, "meta", ("key", "value"), bad, limit=100, longest=MAX_META_VALUE_CHARS))
    return Snapshot(
        evidence=merged_roles(by_role),
        by_role=by_role,
        counts=_counts(_json(meta.get("counts"), bad)),
        remarks=_remarks(connection, bad),
        unparsed=tuple((row[0], row[1]) for row in _rows(connection, "unparsed", ("reason", "text"), bad, limit=1000)),
        ignored=_counts(dict(_rows(connection, "ignored", ("source", "count"), bad, limit=1000, kinds=("text", "integer")))),
        overflow=_domains(_counts(_json(meta.get("overflow"), bad))),
        attempts=_domains(_counts(_json(meta.get("attempts"), bad))),
        profile=str(meta.get("profile", "")),
        place=_mapping(_json(meta.get("place"), bad)),
        updated=_float(meta.get("updated")),
        present=True,
        hosts=_names(_json(meta.get(HOSTS), bad)),
        bad_rows=tuple(bad),
    )


def _rows(
    connection: sqlite3.Connection,
    table: str,
    columns: tuple[str, ...],
    bad: list[str],
    *,
    limit: int = MAX_ROWS,
    kinds: tuple[str, ...] = (),
    longest: int = evidence_codec.MAX_READ_CHARS,
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows in which every column has the expected storage class (a column declared TEXT may hold a blob)."""
    wanted = kinds or ("text",) * len(columns)
    fits = " AND ".join(f"typeof({column})='{kind}' AND length({column})<={longest}" for column, kind in zip(columns, wanted))
    names = ", ".join(columns)
    total, fitting = connection.execute(f"SELECT count(*), coalesce(sum({fits}), 0) FROM {table}").fetchone()  # noqa: S608
    for _ in range(min(total - fitting, MAX_BAD_ROWS)):
        _report(bad, f"{table}: a value of the wrong type or size")
    if fitting > limit:
        _report(bad, f"{table}: more than {limit} rows, the rest was skipped")
    yield from connection.execute(f"SELECT {names} FROM {table} WHERE {fits} ORDER BY rowid LIMIT {limit}")  # noqa: S608


def _key(columns: tuple[Any, ...]) -> tuple[Access, str]:
    *names, role = columns
    access = evidence_codec.access_of(names)
    if len(role) > evidence_codec.MAX_TEXT_CHARS:
        raise evidence_codec.BadRow("the role is too long")
    return (access, role)


def _remarks(connection: sqlite3.Connection, bad: list[str]) -> tuple[LogEvent, ...]:
    found = []
    for at, kind, text in _rows(connection, "notices", ("at", "kind", "text"), bad, limit=2000, kinds=("real", "text", "text")):
        try:
            found.append(LogEvent(at, LogEventKind(kind), text))
        except ValueError:
            _report(bad, "notices: unknown kind")
    return tuple(found)


def _json(text: Optional[str], bad: list[str]) -> Any:
    if not text or len(text) > MAX_META_CHARS:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        _report(bad, "meta: a value that is not JSON")
        return None


def _counts(values: Any) -> dict[str, int]:
    found = _mapping(values)
    return {str(name): count for name, count in found.items() if type(count) is int and 0 <= count < evidence_codec.MAX_INTEGER}


def _domains(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counts without names that are not valid identifiers."""
    return {name: count for name, count in counts.items() if not name or is_identifier(name)}


def _names(values: Any) -> tuple[str, ...]:
    return tuple(name for name in values if isinstance(name, str) and name.isprintable()) if isinstance(values, list) else ()


def _mapping(values: Any) -> dict[str, Any]:
    return values if isinstance(values, dict) else {}


def _float(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return 0.0


def _report(bad: list[str], reason: str) -> None:
    if len(bad) < MAX_BAD_ROWS:
        bad.append(reason)
