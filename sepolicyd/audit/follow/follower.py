"""Follow a log across rotations. Yields chunks of whole lines, each line exactly once, with the log position after them.

watchdog is used only as a wake-up signal, since it drops queue overflows and delays unmatched renames by half a second. stat()
and the first line of each file determine what to read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from sepolicyd.audit.follow.event_boundary import Chunk, Tail
from sepolicyd.audit.follow.rotated_file import LogFile, LogPosition, close_all, digest, event_of, generations
from sepolicyd.audit.model import LogEventKind
from sepolicyd.audit.parse.header import EVENT_ID
from sepolicyd.errors import InputError

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

BLOCK_BYTES = 1 << 20
POLL_SECONDS = 0.25
"""Between two looks at the log where no notification comes."""
IDLE_SECONDS = 2.0
"""The same where notifications come: inotify may drop some (inotify(7), queue overflow)."""


@dataclass(frozen=True)
class Happening:
    """A problem while reading the log that limits the evidence: GAP, DAMAGED or UNREADABLE."""

    kind: LogEventKind
    text: str


class Follower:
    """Reads a log with all its rotated files, from a saved position or from the oldest file on.

    Call :meth:`read` until it returns False, with :meth:`take` after each call; then wait for the doorbell and repeat. Files
    are identified by their first line, which is stable under renaming, copying, compression and inode reuse.
    """

    def __init__(self, log: Path, place: Optional[LogPosition] = None, *, since: Optional[float] = None) -> None:
        """
        :param place: the position to continue from, as returned by :meth:`take`; None for the oldest file
        :param since: epoch seconds; earlier lines are skipped; ignored if there is a position
        """
        self.log = log
        self.happenings: list[Happening] = []
        self._tail = Tail(place or LogPosition(since=since))
        self._current: Optional[LogFile] = None
        self._began = False
        self._next: Optional[LogFile] = None  # the next file that already has a line, while the current one is read to its end
        self._told: set[str] = set()
        self._since = self._tail.place.since

    @property
    def place(self) -> LogPosition:
        return replace(self._tail.place, since=self._since)

    @property
    def holding(self) -> bool:
        """Whether lines are held back because their event may be incomplete."""
        return self._tail.holding

    @property
    def patience(self) -> float:
        """Seconds after which :meth:`take` returns lines that it holds back."""
        return self._tail.patience()

    def close(self) -> None:
        close_all(file for file in (self._current, self._next) if file is not None)
        self._current = self._next = None

    def check(self) -> None:
        """Check that the log can be followed.

        :raises InputError: the log is missing, unreadable or a directory
        """
        try:
            LogFile(self.log, live=True).close()
        except FileNotFoundError:
            raise InputError(
                f"the audit log {self.log} does not exist", "check that auditd is running, or give another log with --log"
            ) from None
        except OSError as error:
            raise InputError(
                f"the audit log {self.log} cannot be read: {error.strerror}",
                "make it readable by auditd's log_group (auditd.conf), or give another log with --log",
            ) from None

    def read(self) -> bool:
        """Read at most one block, and tell whether there was anything new."""
        try:
            if self._current is None and not self._begin():
                return False
            return self._drain() or (self._current is not None and self._move_on())
        except OSError as error:
            self._tell(LogEventKind.UNREADABLE, f"{self.log}: {error.strerror or error}")
            return False

    def take(self, now: float, *, final: bool = False) -> Optional[Chunk]:
        """Return the whole lines read so far, up to the first event that may get more records (Tail.take)."""
        chunk = self._tail.take(now, final=final)
        if chunk is None:
            return None
        text = chunk.text
        if self._since is not None:
            text, found = drop_before(text, self._since)
            self._since = None if found else self._since
        return Chunk(text, self.place)

    def _begin(self) -> bool:
        """Open the file of the saved position, or the oldest unread file."""
        files = self._files()
        place = self._tail.place
        found = None if self._began else _holder(files, place)
        if found is not None:
            before = found.before(place.offset)
            self._open(found, place.offset, before, files)
            return True
        following = self._unread(files)
        if not following:
            close_all(files)
            return False
        if not self._began and place.head and not any(file.head == place.head for file in files):
            self._note_gap(following[0])
        if not self._began and not place.head and self._since is not None:
            following = self._skip_older(following)
        self._open(following[0], 0, b"", files)
        return True

    def _open(self, chosen: LogFile, offset: int, before: bytes, files: list[LogFile]) -> None:
        close_all(file for file in files if file is not chosen)
        if self._current is not None:
            self._current.close()
        self._current, self._began = chosen, True
        self._tail.open(chosen.head, chosen.inode, offset, before)

    def _drain(self) -> bool:
        current, position = self._reading(), self._tail.position
        data = current.read(position, BLOCK_BYTES)
        # Checked after the read: if the first line and the bytes before the position are unchanged, the file was not
        # truncated in between.
        if not current.compressed and not current.holds(current.head, position, digest(self._tail.last_bytes)):
            return self._truncated()
        if data:
            self._tail.add(data)
            return True
        if current.damage:
            self._tell(LogEventKind.DAMAGED, f"{current.path}: {current.damage}")
        return False

    def _truncated(self) -> bool:
        """Handle copytruncate: the unread rest is in the copy, which was complete before the file was truncated."""
        current, position = self._reading(), self._tail.position
        self._forget_next()
        files = self._files()
        place = LogPosition(current.head, position, digest(self._tail.last_bytes))
        copy = _holder([file for file in files if file.key != current.key], place)
        close_all(file for file in files if file is not copy)
        if copy is not None:
            current.close()
            self._current = copy
            return True
        if not any(file.head == current.head for file in files):
            self._tell(
                LogEventKind.GAP,
                f"{current.path} was truncated and there is no copy: its last lines may be lost",
                once=False,
            )
        self._tail.end()
        if current.holds(current.head, 0, ""):
            return self._rewritten(current, position)
        current.close()
        self._current = None
        return self._begin()

    def _rewritten(self, current: LogFile, position: int) -> bool:
        """Tell whether another program (truncate -s, an editor) replaced the content but kept the first line.

        A shorter file is continued at its new end, where auditd continues to write. A longer file is read again, because its
        new lines cannot be distinguished from the old ones, and counting a record twice is better than missing it.
        """
        size = current.size()
        start = size if size < position else 0
        self._tell(LogEventKind.GAP, f"{current.path} was changed by another program; reading from byte {start}", once=False)
        self._tail.open(current.head, current.inode, start, current.before(start))
        return True

    def _move_on(self) -> bool:
        """Switch from the end of the current file to the next one, as soon as that has a line.

        A writer may continue with a renamed file for a while. Once the next file has a line, the current file is complete, so
        it is read to its end once more after that.
        """
        current = self._reading()
        if self._next is not None:
            chosen, self._next = self._next, None
            self._tail.end()
            self._open(chosen, 0, b"", [])
            return True
        if _key(self.log) == current.key:
            return False
        files = self._files()
        following = self._unread(files)
        self._next = following[0] if following else None
        close_all(file for file in files if file is not self._next)
        if self._next is None:
            return False
        if not self._next.live and not any(file.head == current.head for file in files):
            self._note_gap(self._next)
        return self._drain() or (self._current is not None and self._move_on())

    def _forget_next(self) -> None:
        if self._next is not None:
            self._next.close()
            self._next = None

    def _files(self) -> list[LogFile]:
        files, problems = generations(self.log)
        for problem in problems:
            self._tell(LogEventKind.UNREADABLE, problem)
        return files

    def _unread(self, files: list[LogFile]) -> list[LogFile]:
        """Return the files after the one read last, oldest first; if that is gone, all unread files."""
        last = self._current.head if self._current is not None else self._tail.last_head
        done = self._tail.heads
        places = [index for index, file in enumerate(files) if file.head == last]
        return [file for file in files[places[-1] + 1 if places else 0 :] if file.head not in done]

    def _skip_older(self, files: list[LogFile]) -> list[LogFile]:
        """Return the files without those last written before --since."""
        since = self._since or 0.0
        kept = [file for file in files if file.live or file.modified >= since] or files[-1:]
        self._tail.pass_over([file.head for file in files if file not in kept])
        return kept

    def _note_gap(self, following: LogFile) -> None:
        """Report a gap if the file read last is gone and the serials do not continue in the next one."""
        before, after = event_of(self._tail.last_record.encode()), event_of(following.first_line())
        if before and after and before[1] <= after[1] <= before[1] + 1:
            return
        self._tell(
            LogEventKind.GAP,
            f"{self.log} was rotated and deleted before it was read: lines between {before} and {after} may be lost",
            once=False,
        )

    def _reading(self) -> LogFile:
        if self._current is None:
            raise RuntimeError("no file is open")
        return self._current

    def _tell(self, kind: LogEventKind, text: str, *, once: bool = True) -> None:
        if once and text in self._told:
            return
        self._told.add(text)
        self.happenings.append(Happening(kind, text))


def drop_before(text: bytes, since: float) -> tuple[bytes, bool]:
    """Return the lines from time ``since`` on, and whether there are any. A line without a time has that of its predecessor."""
    for found in EVENT_ID.finditer(text):
        if float(found.group(1)) >= since:
            return text[text.rfind(b"\n", 0, found.start()) + 1 :], True
    return b"", False


def _holder(files: list[LogFile], place: LogPosition) -> Optional[LogFile]:
    """Return the file of the position, preferring the same inode, then the live file, then a copy."""
    fitting = [file for file in files if place.head and file.holds(place.head, place.offset, place.tail)]
    return max(fitting, key=lambda file: (file.inode == place.inode, file.live, not file.compressed), default=None)


def _key(path: Path) -> Optional[tuple[int, int]]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino)


class Doorbell:
    """Wake-up signal for changes in the log's directory; :meth:`wait` returns after ``interval`` seconds at the latest."""

    def __init__(self, directory: Path) -> None:
        self._rung = threading.Event()
        self._observer: Optional[BaseObserver] = None
        self.failure = ""
        try:
            self._observer = _observe(directory, self._rung.set)
        except (ImportError, OSError, RuntimeError) as error:  # inotify limits reached, or no such directory
            self.failure = f"{error}"

    @property
    def interval(self) -> float:
        """Seconds after which the log is checked without a notification."""
        return POLL_SECONDS if self._observer is None else IDLE_SECONDS

    def ring(self) -> None:
        self._rung.set()

    def wait(self, seconds: float = POLL_SECONDS) -> bool:
        """Wait for a change, and tell whether there was one within the given seconds."""
        rung = self._rung.wait(seconds)
        self._rung.clear()
        return rung

    def close(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(5)


def _observe(directory: Path, ring: Callable[[], None]) -> BaseObserver:
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers import Observer

    class Ring(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            # inotify also reports that the daemon itself opens and closes the files, which must be ignored
            if event.event_type not in ("opened", "closed_no_write"):
                ring()

    observer = Observer()
    observer.daemon = True
    observer.schedule(Ring(), str(directory), recursive=False)
    observer.start()
    return observer
