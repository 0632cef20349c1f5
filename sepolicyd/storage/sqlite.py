"""SQLite databases with durable commits, whose errors are raised as StateErrors with a hint."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sepolicyd.errors import StateError

BUSY_SECONDS = 5.0


def open_database(path: Path, *, schema: str, version: int, directory_mode: int, file_mode: int) -> sqlite3.Connection:
    """Open the database, or create it and its directory.

    The journal mode is a rollback journal rather than WAL, so that a reader running as another user (state.evidence_reader) can
    take a consistent copy without leaving -wal or -shm files. synchronous=EXTRA also syncs the directory after the journal has
    been deleted (https://sqlite.org/pragma.html#pragma_synchronous).

    :param version: the schema version, kept in user_version; another version is refused
    :raises StateError: the database cannot be created, opened or written, or has another version
    """
    with translated(path):
        try:
            path.parent.mkdir(mode=directory_mode, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, file_mode)
            os.close(descriptor)
        except OSError as error:
            raise StateError(f"{path} cannot be opened for writing: {error.strerror}", _os_hint(path, error)) from None
        connection = sqlite3.connect(str(path), timeout=BUSY_SECONDS, isolation_level=None)
        try:
            _prepare(connection, path, schema, version)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, schema: str, version: int) -> None:
    connection.execute("PRAGMA journal_mode=TRUNCATE")
    connection.execute("PRAGMA synchronous=EXTRA")
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA foreign_keys=ON")
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found == version:
        return
    if found != 0 or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StateError(
            f"{path} has schema {found}, but this sepolicyd supports schema {version}",
            "use the version of sepolicyd that wrote it, or move the file away to start with an empty one",
        )
    with transaction(connection):
        for statement in schema.split(";\n"):
            if statement.strip():
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={version}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a transaction. The write lock is taken at the start, so that a commit cannot fail for lack of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate SQLite's exceptions into StateError with the file's name and a hint."""
    try:
        yield
    except sqlite3.Error as error:
        message = str(error)
        raise StateError(f"{path}: {message}", _hint(path, message)) from error
    except UnicodeDecodeError as error:  # SQLite's message quotes a name from a damaged schema
        raise StateError(f"{path}: the file is damaged", _hint(path, "malformed")) from error


def _hint(path: Path, message: str) -> str:
    if "locked" in message:
        return "another process holds it: end that process, then try again"
    if "full" in message:
        return f"free space on the file system of {path.parent}; saved data is intact"
    if "readonly" in message or "unable to open" in message:
        return f"check owner and mode of {path} and {path.parent}"
    if "malformed" in message or "not a database" in message:
        return "move the file away to start with an empty one, and keep it for analysis"
    if "disk I/O" in message:
        return f"check the file system of {path.parent} and the kernel log"
    return ""


def _os_hint(path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"run this as the owner of {path.parent}"
    return f"make {path.parent} a writable directory"
