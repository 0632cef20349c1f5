"""Read-only view of one file of a rotated log: its identity and its bytes by offset (after decompression)."""

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

from sepolicyd.audit.parse.header import EVENT_ID

NUL_PIECE, MAX_NUL_BYTES = 1 << 16, 1 << 26
HEAD_BYTES = 1024  # a file is identified by its first line, up to this length
TAIL_BYTES = 64
MAX_DONE = 1024
# suffixes of auditd (.1), logrotate (.1.gz) and logrotate's dateext (-20261122, -20261122-1795373145)
ROTATED = re.compile(r"(?:\.(?P<number>\d{1,6})|[-.](?P<date>\d{8}(?:[-.]?\d+)?))(?P<gz>\.gz)?\Z")
LISTING_TRIES = 50


def digest(data: bytes) -> str:
    """Return a digest of sixteen hexadecimal digits, "" for empty data."""
    return hashlib.sha256(data).hexdigest()[:16] if data else ""


@dataclass(frozen=True)
class LogPosition:
    """A position in a log: everything before it has been handed on, and nothing after it.

    - ``head``: digest of the first line, which identifies the file
    - ``offset``: number of (decompressed) bytes
    - ``tail``: digest of up to TAIL_BYTES bytes before the offset
    - ``inode``: only to distinguish a file from its copy
    - ``record``: the last event id before the position, such as "1795374503.664:4609"
    - ``done``: heads of files read to their end
    - ``since``: lines before this time (epoch seconds) are still to be skipped
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
    """An open file of the log. Its descriptor stays open, so that it can be read to its end after a rename or deletion."""

    def __init__(self, path: Path, *, live: bool) -> None:
        """
        :param live: whether the file is the one being written now
        :raises OSError: the file cannot be opened or is not a regular file
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
        """The reason why a .gz file ended early, "" if it is intact."""
        return self._inflated.damage if self._inflated is not None else ""

    @property
    def inode(self) -> int:
        return self.key[1]

    def size(self) -> int:
        """Return the present size of the file in bytes (compressed size of a .gz file)."""
        return os.fstat(self._fd).st_size

    def read(self, offset: int, limit: int) -> bytes:
        """Read up to ``limit`` bytes; fewer only at the end of the file."""
        if self._inflated is not None:
            return self._inflated.read(offset, limit)
        return os.pread(self._fd, limit, offset)

    def before(self, offset: int) -> bytes:
        """Return up to TAIL_BYTES bytes before the offset."""
        start = max(0, offset - TAIL_BYTES)
        return self.read(start, offset - start)

    def first_line(self) -> bytes:
        return self.read(0, HEAD_BYTES)

    def holds(self, head: str, offset: int, tail: str) -> bool:
        """Tell whether this is the file that was read up to the offset: same first line, same bytes before the offset.

        A copy of the file passes; a file that was truncated and has grown beyond the offset again does not.
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
        # the live file has no identity until its first line is complete
        return "" if self.live and not newline and len(data) < HEAD_BYTES else digest(line)

    def _data_after_hole(self) -> bytes:
        """Return the data after NUL bytes at the beginning of the file.

        copytruncate leaves a hole for a writer without O_APPEND, and a crash leaves blocks that were never written.
        """
        try:
            start = os.lseek(self._fd, 0, os.SEEK_DATA)
        except OSError:
            return b""
        end = start + MAX_NUL_BYTES
        while start < end:
            data = os.pread(self._fd, NUL_PIECE, start)
            found = data.lstrip(b"\0\r\n")
            if found:
                return os.pread(self._fd, HEAD_BYTES, start + len(data) - len(found))
            if not data:
                break
            start += len(data)
        return b""


def _regular(fd: int) -> os.stat_result:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    return found


class _Inflated:
    """The decompressed bytes of a gzip file by offset. Reading backwards restarts from the beginning."""

    CHUNK = 1 << 18

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.damage = ""
        self._rewind()

    def _rewind(self) -> None:
        self._next = 0  # in the file
        self._decoder = zlib.decompressobj(31)  # 15 window bits + 16 for the gzip header (zlib.h, inflateInit2)
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
    """Open the log's files, oldest first, without empty files and duplicates; also return the failures with their reasons.

    Since a rotation may run at the same time, the directory is read again until names and inodes are stable. Of a file and its
    copy (copytruncate, or gzip in progress) only one is kept, preferring the live file, then the uncompressed one.

    :raises OSError: the directory cannot be read
    """
    for _ in range(LISTING_TRIES):
        before = _listing(log)
        opened, problems = _open_all(log, before)
        if _listing(log) == before:
            break
        close_all(opened)
    else:
        raise OSError(errno.EAGAIN, "files are renamed continuously", str(log.parent))
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
    """Return (time, serial) of the first event id in the bytes, None if there is none."""
    found = EVENT_ID.search(line)
    return (float(found.group(1)), int(found.group(2))) if found else None


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
    except PermissionError:  # the directory may be searched but not read (mode 0710)
        return [log.name, *(f"{log.name}.{number}" for number in range(1, 100))]
    return [name for name in names if name == log.name or (name.startswith(log.name) and ROTATED.match(name[len(log.name) :]))]


def _open_all(log: Path, names: Iterable[str]) -> tuple[list[LogFile], list[str]]:
    """Open the files in the order in which copies are preferred: the live file, then uncompressed files."""
    opened: list[LogFile] = []
    problems: list[str] = []
    for name in sorted(names, key=lambda name: (name != log.name, name.endswith(".gz"), name)):
        try:
            opened.append(LogFile(log.parent / name, live=name == log.name))
        except FileNotFoundError:
            continue  # the caller compares the listing again
        except OSError as error:
            problems.append(f"{log.parent / name}: {error.strerror or error}")
    return opened, problems


def _age(log: Path, path: Path) -> tuple[int, str, int, int]:
    """Return a sort key for oldest first: dated files by date, numbered files by descending number, then the live file."""
    suffix = path.name[len(log.name) :]
    found = ROTATED.match(suffix)
    if found is None:
        return (2, "", 0, 0)
    if found.group("date"):
        return (0, found.group("date"), 0, 0)
    return (1, "", -int(found.group("number")), len(suffix))
