"""Lease records on disk (leases/PROFILE.json, fsynced before a lease opens) and the history of leases."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Optional

from sepolicyd.errors import RefusedError, StateError
from sepolicyd.rollout.clock import Moment
from sepolicyd.rollout.lease.lease import DEFAULT_DIR, CorruptLease, Lease, parse_lease, render_lease
from sepolicyd.storage.hashchain import Chain


def _read_own(path: Path) -> str:
    """A file of our own. What another could write is not obeyed (it names commands and units); a pipe would never end.

    :raises ValueError: it is no plain file, or others may write it
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in {0, os.geteuid()} or found.st_mode & 0o022:
            raise ValueError("not a plain file that root alone can write")
        return file.read().decode()


class LeaseBook:
    """Undo files (``leases/PROFILE.json``) and the history (``leases.jsonl``) in root's rollout directory."""

    def __init__(self, directory: Path = DEFAULT_DIR) -> None:
        self.directory = directory
        self.undo_dir = directory / "leases"
        self.history_path = directory / "leases.jsonl"
        self.chain = Chain(self.history_path, directory / "leases.head")

    def path_of(self, profile: str) -> Path:
        return self.undo_dir / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', profile)}.json"

    def write(self, lease: Lease) -> None:
        """Put the undo on the disk: temporary file, fsync, rename, fsync of the directory.

        :raises StateError: the disk is full or read-only; whatever undo stood there still stands
        """
        target = self.path_of(lease.profile)
        # beside leases/, not in it: the units' ConditionDirectoryNotEmpty= looks at leases/
        temporary = self.directory / f".{target.name}.new"
        try:
            self._ensure_directories()
            _write_synced(temporary, render_lease(lease).encode())
            temporary.replace(target)
            _sync_directory(self.undo_dir)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise StateError(f"undo file {target} cannot be written: {error.strerror}", "free space on that disk") from error

    def remove(self, profile: str) -> None:
        """Forget the undo of a profile; twice is harmless."""
        self.remove_path(self.path_of(profile))

    def remove_path(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            path.unlink()
        if path.parent.is_dir():
            _sync_directory(path.parent)

    def all(self) -> list[Lease | CorruptLease]:
        """Every undo there is, sorted by file name; what cannot be read is a CorruptLease, never passed over."""
        found: list[Lease | CorruptLease] = []
        try:
            paths = sorted(self.undo_dir.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            return [CorruptLease(self.undo_dir, str(error))]
        for path in paths:
            try:
                found.append(parse_lease(_read_own(path)))
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                found.append(CorruptLease(path, str(error)))
        return found

    def of(self, profile: str) -> Optional[Lease]:
        """The lease of one profile, None when there is none (a broken one is found by :meth:`all`)."""
        return next((item for item in self.all() if isinstance(item, Lease) and item.profile == profile), None)

    def record(self, what: str, now: Moment, **details: Any) -> None:
        """Append one line to the history, in the chain; the caller holds the lock. What ends a lease comes before this.

        :raises StateError: the line could not be written
        """
        self.chain.add({"what": what, "wall": round(now.wall, 3), "boot_id": now.boot_id, **details})

    def history(self) -> list[dict[str, Any]]:
        """All lines of the history, oldest first; what cannot be read as one is left out (``verify`` tells of it).

        :raises StateError: the file cannot be read
        """
        return [entry for entry in self.chain.values() if isinstance(entry.get("wall"), (int, float))]

    def verify(self) -> list[str]:
        """What is wrong with the history, one sentence each."""
        return self.chain.verify()

    @contextmanager
    def lock(self, wait: float) -> Iterator[None]:
        """Hold the one lock of all that opens or ends leases.

        :raises RefusedError: somebody else still held it after ``wait`` seconds
        """
        try:
            self._ensure_directories()
            fd = os.open(self.directory / "lease.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StateError(f"{self.directory} cannot be written: {error.strerror}", "run this as root") from error
        try:
            _take(fd, wait)
            yield
        finally:
            os.close(fd)

    def _ensure_directories(self) -> None:
        for directory in (self.directory, self.undo_dir):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def leased_seconds(history: list[dict[str, Any]], since: float, now: float) -> float:
    """Seconds of all leases between two wall times; one without an end counts to its deadline, or to now if that is earlier."""
    spans: dict[str, tuple[float, float]] = {}
    for entry in history:
        lease, wall = str(entry.get("id", "")), float(entry["wall"])
        if entry.get("what") in {"opened", "renewed"}:
            start = spans[lease][0] if lease in spans else wall
            spans[lease] = (start, float(entry.get("deadline_wall", wall)))
        elif entry.get("what") == "ended" and lease in spans:
            spans[lease] = (spans[lease][0], wall)
    return sum(max(0.0, min(end, now) - max(start, since)) for start, end in spans.values())


def unended(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines that began a lease of which no line says that it ended."""
    open_ones: dict[str, dict[str, Any]] = {}
    for entry in history:
        lease = str(entry.get("id", ""))
        if entry.get("what") in {"planned", "opened"}:
            open_ones[lease] = entry
        elif entry.get("what") == "ended":
            open_ones.pop(lease, None)
    return list(open_ones.values())


def _take(fd: int, wait: float) -> None:
    give_up = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                raise RefusedError(
                    "another sepolicyd command is opening or ending a lease", "try again when it has finished"
                ) from None
            time.sleep(0.1)
        else:
            return


def _write_synced(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
