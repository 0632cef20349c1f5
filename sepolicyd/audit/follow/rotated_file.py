"""Read-only view of one file of a rotated log: its identity and its bytes by offset (decompressed offsets for packed files)."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

HEAD_BYTES = 1024  # what identifies a file: its first line, as far as it lies in here
TAIL_BYTES = 64
MAX_DONE = 1024
# what auditd (.1), logrotate (.1.gz) and logrotate's dateext (-20261122, -20261122-1795373145) make
ROTATED = re.compile(r"(?:\.(?P<number>\d{1,6})|[-.](?P<date>\d{8}(?:[-.]?\d+)?))(?P<gz>\.gz)?\Z")
LISTING_TRIES = 50


def digest(data: bytes) -> str:
    """Sixteen hex digits; the empty string for nothing."""
    return hashlib.sha256(data).hexdigest()[:16] if data else ""


@dataclass(frozen=True)
class LogPosition:
    """How far a log was read: everything before it, and nothing after it, has been handed on.

    ``head`` identifies the file by its first line, ``offset`` counts (decoded) bytes, ``tail`` is the digest of the at
    most TAIL_BYTES bytes before the offset, ``inode`` only decides between a file and its copy. ``record`` is the last
    event id before the place ("1795374503.664:4609"). ``done``: heads of files read to their end. ``since``: lines before
    this time are still to be passed over.
    """

    head: str = ""
    offset: int = 0
    tail: str = ""
    inode: int = 0
    record: str = ""
    done: tuple[str, ...] = ()
    since: Optional[float] = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "done": list(self.done)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LogPosition:
        return cls(
            head=str(values["head"]),
            offset=int(values["offset"]),
            tail=str(values["tail"]),
            inode=int(values["inode"]),
            record=str(values["record"]),
            done=tuple(str(head) for head in values["done"]),
            since=None if values["since"] is None else float(values["since"]),
        )


class LogFile:
    """An open file of the log. It keeps its descriptor, so that it can be read to its end after it was renamed or deleted."""

    def __init__(self, path: Path, *, live: bool) -> None:
        """
        :param live: whether it is the file that is being written now
        :raises OSError: it cannot be opened or is no regular file
        """
        self.path = path
        self.live = live
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = _regular(self._fd)
            self.key = (found.st_dev, found.st_ino)
            self.modified = found.st_mtime
            self._inflated = _Inflated(self._fd) if os.pread(self._fd, 2, 0) == b"\x1f\x8b" else None
            self.head = self._head()
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def compressed(self) -> bool:
        return self._inflated is not None

    @property
    def damage(self) -> str:
        """Why a .gz ended before its end, "" where it did not."""
        return self._inflated.damage if self._inflated is not None else ""

    @property
    def inode(self) -> int:
        return self.key[1]

    def size(self) -> int:
        """Bytes in the file at present (packed ones of a .gz)."""
        return os.fstat(self._fd).st_size

    def read(self, offset: int, limit: int) -> bytes:
        """At most ``limit`` bytes; fewer only at the end."""
        if self._inflated is not None:
            return self._inflated.read(offset, limit)
        return os.pread(self._fd, limit, offset)

    def before(self, offset: int) -> bytes:
        """The bytes that end at the offset, at most TAIL_BYTES; fewer where the file is shorter."""
        start = max(0, offset - TAIL_BYTES)
        return self.read(start, offset - start)

    def first_line(self) -> bytes:
        return self.read(0, HEAD_BYTES)

    def holds(self, head: str, offset: int, tail: str) -> bool:
        """Whether it still is the file that was read up to the offset: same first line, same bytes before the offset.

        A truncated file that has grown again beyond the offset fails, a copy of the file passes.
        """
        return self._head() == head and digest(self.before(offset)) == tail

    def _head(self) -> str:
        if self._inflated is not None:
            data = self._inflated.read(0, HEAD_BYTES)
        else:
            data = os.pread(self._fd, HEAD_BYTES, 0)
            if data[:1] == b"\0":
                data = self._data_after_hole()
        line, newline, _ = data.partition(b"\n")
        # the live file's first line may be half written: it has no identity before it is whole
        return "" if self.live and not newline and len(data) < HEAD_BYTES else digest(line)

    def _data_after_hole(self) -> bytes:
        """copytruncate under a writer without O_APPEND leaves a hole of NUL bytes up to the writer's old offset."""
        try:
            start = os.lseek(self._fd, 0, os.SEEK_DATA)
        except OSError:
            return b""
        data = os.pread(self._fd, 8192, start).lstrip(b"\0")
        return data[:HEAD_BYTES]


def _regular(fd: int) -> os.stat_result:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    return found


class _Inflated:
    """The decoded bytes of a gzip file by offset: quick forward, from the beginning again when asked to go back."""

    CHUNK = 1 << 18

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.damage = ""
        self._rewind()

    def _rewind(self) -> None:
        self._next = 0  # in the file
        self._decoder = zlib.decompressobj(31)  # 15 bits of window + 16: with gzip's header (zlib.h, inflateInit2)
        self._input = b""
        self._start = 0  # offset of self._ready
        self._ready = b""
        self._ended = False

    def read(self, offset: int, limit: int) -> bytes:
        if offset < self._start:
            self._rewind()
        while not self._ended and self._start + len(self._ready) < offset + limit:
            passed = min(max(0, offset - self._start - TAIL_BYTES), len(self._ready))
            self._ready, self._start = self._ready[passed:], self._start + passed
            self._more(min(self.CHUNK, 4 * limit))
        found = self._ready[offset - self._start : offset - self._start + limit]
        if len(self._ready) > 4 * self.CHUNK:
            passed = max(0, offset - self._start - TAIL_BYTES)
            self._ready, self._start = self._ready[passed:], self._start + passed
        return found

    def _more(self, size: int) -> None:
        try:
            if not self._input:
                self._input = os.pread(self._fd, size, self._next)
                self._next += len(self._input)
                if not self._input:
                    self._end("truncated gzip" if not self._decoder.eof else "")
                    return
            if self._decoder.eof:  # another member follows (gzip -c >> file)
                self._decoder = zlib.decompressobj(31)
            self._ready += self._decoder.decompress(self._input, size)
            self._input = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail
        except zlib.error as error:
            self._end(f"damaged gzip: {error}")

    def _end(self, damage: str) -> None:
        self._ended, self.damage = True, damage


def generations(log: Path) -> tuple[list[LogFile], list[str]]:
    """The log's files, oldest first, each open, none twice, none empty; and what could not be opened, with the reason.

    A rotation may run while the directory is read: it is read again until names and inodes stand still. Of a file and its
    copy (copytruncate, gzip at work) only one is kept: the live one, else the plain one.

    :raises OSError: the directory cannot be read
    """
    for _ in range(LISTING_TRIES):
        before = _listing(log)
        opened, problems = _open_all(log, before)
        if _listing(log) == before:
            break
        close_all(opened)
    else:
        raise OSError(errno.EAGAIN, "files are renamed without a pause", str(log.parent))
    kept: dict[str, LogFile] = {}
    for generation in opened:
        if generation.head and generation.head not in kept:
            kept[generation.head] = generation
    close_all(generation for generation in opened if kept.get(generation.head) is not generation)
    return [generation for _, generation in sorted((_age(log, found.path), found) for found in kept.values())], problems


def close_all(opened: Iterable[LogFile]) -> None:
    for generation in opened:
        generation.close()


def event_of(line: bytes) -> Optional[tuple[float, int]]:
    """(time, serial) of the first event id in the bytes, None where there is none."""
    found = EVENT_ID.search(line)
    return (float(found.group(1)), int(found.group(2))) if found else None


EVENT_ID = re.compile(rb"audit\((\d{1,12}\.\d{1,9}):(\d{1,18})\)")


def _listing(log: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for name in _names(log):
        try:
            status = (log.parent / name).stat()
        except FileNotFoundError:
            continue
        found[name] = (status.st_dev, status.st_ino)
    return found


def _names(log: Path) -> list[str]:
    try:
        names = [path.name for path in log.parent.iterdir()]
    except PermissionError:  # a directory that may be entered but not read (mode 0710)
        return [log.name, *(f"{log.name}.{number}" for number in range(1, 100))]
    return [name for name in names if name == log.name or (name.startswith(log.name) and ROTATED.match(name[len(log.name) :]))]


def _open_all(log: Path, names: Iterable[str]) -> tuple[list[LogFile], list[str]]:
    """Open them, the live file first, then plain ones: the order in which copies are preferred."""
    opened: list[LogFile] = []
    problems: list[str] = []
    for name in sorted(names, key=lambda name: (name != log.name, name.endswith(".gz"), name)):
        try:
            opened.append(LogFile(log.parent / name, live=name == log.name))
        except FileNotFoundError:
            continue  # the listing is compared again afterwards
        except OSError as error:
            problems.append(f"{log.parent / name}: {error.strerror or error}")
    return opened, problems


def _age(log: Path, path: Path) -> tuple[int, str, int, int]:
    """Sorts oldest first: dated files by date, then numbered ones from the highest number, then the live one."""
    suffix = path.name[len(log.name) :]
    found = ROTATED.match(suffix)
    if found is None:
        return (2, "", 0, 0)
    if found.group("date"):
        return (0, found.group("date"), 0, 0)
    return (1, "", -int(found.group("number")), len(suffix))
