"""Storage of lease records (leases/PROFILE.json, written before a lease opens) and of the lease history (leases.jsonl)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from enum import Enum
from pathlib import Path
from typing import Any, Optional

from sepolicyd.rollout.clock import Moment
from sepolicyd.rollout.lease.lease import DEFAULT_DIR, CorruptLease, Lease, parse_lease, render_lease
from sepolicyd.rollout.lease.public_record import publish
from sepolicyd.storage.files import cannot_write, ensure_directory, read_own, remove, write_whole
from sepolicyd.storage.hashchain import Chain
from sepolicyd.storage.lock import exclusive


class LeaseEvent(str, Enum):
    """Kind of a line in leases.jsonl. The values are part of the file's format."""

    PLANNED = "planned"
    OPENED = "opened"
    RENEWED = "renewed"
    MARKED = "marked"
    ENDED = "ended"
    END_FAILED = "end failed"
    ENFORCED = "enforced"
    REPAIRING = "repairing"
    REPAIRED = "repaired"

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Optional[LeaseEvent]:
        """Return the event of a line, None for one that another version of sepolicyd wrote."""
        with suppress(ValueError):
            return cls(entry.get("what"))
        return None


class LeaseBook:
    """The records and the history in root's rollout directory."""

    def __init__(self, directory: Path = DEFAULT_DIR, public: Optional[Path] = None) -> None:
        """
        :param public: the file that shows open leases to every user, None for no such file
        """
        self.directory = directory
        self.public = public
        self.undo_dir = directory / "leases"
        self.history_path = directory / "leases.jsonl"
        self.chain = Chain(self.history_path, directory / "leases.head")

    @property
    def is_readable(self) -> bool:
        """Whether the caller may read the records, or there are none yet."""
        return not self.directory.exists() or os.access(self.directory, os.R_OK | os.X_OK)

    def path_of(self, profile: str) -> Path:
        """Return the path of a profile's record."""
        return self.undo_dir / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', profile)}.json"

    def write(self, lease: Lease) -> None:
        """Write the record of a lease durably.

        :raises StateError: the disk is full or read-only; a previous record is intact
        """
        target = self.path_of(lease.profile)
        # not inside leases/: ConditionDirectoryNotEmpty= in the units tests that directory
        temporary = self.directory / f".{target.name}.new"
        try:
            ensure_directory(self.undo_dir)
        except OSError as error:
            raise cannot_write(target, error) from error
        write_whole(target, render_lease(lease).encode(), temporary=temporary)

    def remove(self, profile: str) -> None:
        """Remove the record of a profile; a missing record is not an error.

        :raises OSError: it is still there
        """
        self.remove_path(self.path_of(profile))

    def remove_path(self, path: Path) -> None:
        """Remove a record that may be damaged.

        :raises OSError: it is still there
        """
        remove(path)

    def all(self) -> list[Lease | CorruptLease]:
        """Return every record, sorted by file name. An unreadable record is returned as a CorruptLease."""
        found: list[Lease | CorruptLease] = []
        try:
            paths = sorted(self.undo_dir.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            return [CorruptLease(self.undo_dir, str(error))]
        for path in paths:
            try:
                found.append(parse_lease(read_own(path)))
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                found.append(CorruptLease(path, str(error)))
        return found

    def publish(self) -> None:
        """Write the current leases to the public record, or remove it if there are none.

        :raises StateError: it could not be written or removed
        """
        if self.public is not None:
            publish(self.public, self.all())

    def of(self, profile: str) -> Optional[Lease]:
        """Return the lease of one profile, None if it has none or its record is damaged (see :meth:`all`)."""
        return next((item for item in self.all() if isinstance(item, Lease) and item.profile == profile), None)

    def record(self, what: LeaseEvent, now: Moment, **details: Any) -> None:
        """Append one line to the history; the caller holds the lock, and records an end only after the lease has ended.

        :raises StateError: the line could not be written
        """
        clocks = {"wall": round(now.wall, 3), "boottime": round(now.boottime, 3), "boot_id": now.boot_id}
        self.chain.add({"what": what.value, **clocks, **details})

    def history(self) -> list[dict[str, Any]]:
        """Return the lines of the history, oldest first; unreadable lines are skipped here and reported by :meth:`verify`.

        :raises StateError: the file cannot be read
        """
        return [entry for entry in self.chain.values() if isinstance(entry.get("wall"), (int, float))]

    def verify(self) -> list[str]:
        """Return one sentence for each fault of the history."""
        return self.chain.verify()

    def lock(self, wait: float) -> AbstractContextManager[None]:
        """Hold the lock that serialises opening and ending leases.

        :raises RefusedError: another process still held it after ``wait`` seconds
        :raises StateError: the lock file cannot be created
        """
        busy = "another sepolicyd command is opening or ending a lease"
        return exclusive(self.directory / "lease.lock", busy, hint="try again when it has finished", wait=wait)


def leased_seconds(history: list[dict[str, Any]], since: float, now: float) -> float:
    """Return the total seconds of all leases between two wall times.

    A lease that has not ended counts up to its deadline or ``now``, whichever is earlier.
    """
    spans: dict[str, tuple[float, float]] = {}
    for entry in history:
        lease, wall = str(entry.get("id", "")), float(entry["wall"])
        event = LeaseEvent.of(entry)
        if event in {LeaseEvent.OPENED, LeaseEvent.RENEWED}:
            start = spans[lease][0] if lease in spans else wall
            spans[lease] = (start, float(entry.get("deadline_wall", wall)))
        elif event is LeaseEvent.ENDED and lease in spans:
            spans[lease] = (spans[lease][0], wall)
    return sum(max(0.0, min(end, now) - max(start, since)) for start, end in spans.values())


def unended(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines that opened a lease and have no matching end."""
    open_ones: dict[str, dict[str, Any]] = {}
    for entry in history:
        lease = str(entry.get("id", ""))
        event = LeaseEvent.of(entry)
        if event in {LeaseEvent.PLANNED, LeaseEvent.OPENED}:
            open_ones[lease] = entry
        elif event is LeaseEvent.ENDED:
            open_ones.pop(lease, None)
    return list(open_ones.values())
