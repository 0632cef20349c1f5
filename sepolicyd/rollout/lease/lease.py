"""A lease in, its undo file out (written and fsynced before the act), and back; with the history of all leases beside it.

Standard library only: ``python -m sepolicyd.rollout.lease.end`` reads this with neither daemon nor database nor configuration.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Optional

from sepolicyd.errors import RefusedError, StateError
from sepolicyd.storage.hashchain import Chain

SCHEMA = 1
MODULE_PREFIX = "sepolicyd_lease_"
DEFAULT_DIR = Path("/var/lib/sepolicyd/rollout")
DAY_S = 86400.0
PLANNED, OPEN = "planned", "open"


@dataclass(frozen=True)
class Moment:
    """Three clocks at once: wall (epoch seconds, can be set), boottime (CLOCK_BOOTTIME seconds, cannot), and which boot."""

    wall: float
    boottime: float
    boot_id: str


@dataclass(frozen=True)
class Lease:
    """What is permissive until when, and all that is needed to end it.

    ``domains`` are the permissive types (empty for ``whole_system``), ``module`` the name of our module in the store.
    ``hidden``: dontaudit rules were switched off by us. ``unit``: the transient systemd timer, without suffix.
    ``services``: units that may be stopped as the last resort. ``phase``: planned (undo written, not yet open) or open.
    ``attempts``: failed tries to end it.
    """

    profile: str
    id: str
    domains: tuple[str, ...]
    whole_system: bool
    hidden: bool
    module: str
    priority: int
    opened: Moment
    deadline_wall: float
    deadline_boottime: float
    phase: str = PLANNED
    services: tuple[str, ...] = ()
    alert_command: tuple[str, ...] = ()
    by: str = ""
    attempts: int = 0
    schema: int = SCHEMA

    @property
    def unit(self) -> str:
        """Another name for another deadline, so that renewing arms the new timer before the old one goes."""
        return f"sepolicyd-lease-{self.id}-{int(self.deadline_boottime)}"

    def is_due(self, now: Moment) -> bool:
        """Whether it must end: another boot, or either clock has passed its deadline (a clock set back extends nothing)."""
        return now.boot_id != self.opened.boot_id or now.boottime >= self.deadline_boottime or now.wall >= self.deadline_wall

    def remaining(self, now: Moment) -> float:
        """Seconds left, 0 when due."""
        if self.is_due(now):
            return 0.0
        return min(self.deadline_boottime - now.boottime, self.deadline_wall - now.wall)

    def until(self, now: Moment, seconds: float) -> Lease:
        """The same lease ending ``seconds`` from now."""
        return replace(self, deadline_wall=now.wall + seconds, deadline_boottime=now.boottime + seconds)


@dataclass(frozen=True)
class BrokenUndo:
    """An undo file that cannot be understood; it is ended like a lease of everything."""

    path: Path
    reason: str


def module_name(profile: str) -> str:
    """The name of a profile's lease module."""
    return MODULE_PREFIX + re.sub(r"[^A-Za-z0-9_]", "_", profile)


def module_text(domains: tuple[str, ...]) -> str:
    """CIL that makes these types permissive, one statement a line, sorted.

    Each is optional: a package that takes a type away in the middle of a lease would else be refused by semodule for our sake.
    """
    return "".join(
        f"(optional {MODULE_PREFIX}{re.sub(r'[^A-Za-z0-9_]', '_', name)} (typepermissive {name}))\n" for name in sorted(domains)
    )


def render_lease(lease: Lease) -> str:
    return json.dumps(asdict(lease), sort_keys=True, indent=1) + "\n"


def parse_lease(text: str) -> Lease:
    """:raises ValueError: not an undo file of this schema"""
    values = json.loads(text)
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        raise ValueError("not an undo file of this version")
    names = {spec.name for spec in fields(Lease)}
    if set(values) != names:
        raise ValueError(f"keys missing or unknown: {', '.join(sorted(names ^ set(values)))}")
    values["opened"] = Moment(**values["opened"])
    for key in ("domains", "services", "alert_command"):
        values[key] = tuple(str(item) for item in values[key])
    for key in ("deadline_wall", "deadline_boottime"):
        values[key] = float(values[key])
    return Lease(**values)


def carry_lease(lease: Lease) -> str:
    """A lease as one word of a command line, in letters that neither systemd nor a shell expands."""
    return base64.urlsafe_b64encode(json.dumps(asdict(lease)).encode()).decode()


def carried_lease(word: str) -> Lease:
    """The inverse of :func:`carry_lease`.

    :raises ValueError: it is none
    """
    return parse_lease(base64.urlsafe_b64decode(word).decode())


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

    def all(self) -> list[Lease | BrokenUndo]:
        """Every undo there is, sorted by file name; what cannot be read is a BrokenUndo, never passed over."""
        found: list[Lease | BrokenUndo] = []
        try:
            paths = sorted(self.undo_dir.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            return [BrokenUndo(self.undo_dir, str(error))]
        for path in paths:
            try:
                found.append(parse_lease(_read_own(path)))
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                found.append(BrokenUndo(path, str(error)))
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
