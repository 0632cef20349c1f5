"""Durable and atomic file writes: a file is replaced completely or not at all, and synced when the call returns."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from sepolicyd.errors import StateError

TAIL = 1 << 22  # longer than any line that append_json writes
PRIVATE, PRIVATE_DIRECTORY = 0o600, 0o700
PUBLIC, PUBLIC_DIRECTORY = 0o644, 0o755


def read_text(path: Path) -> str:
    """Return the text of a record, "" for a missing file; undecodable bytes become U+FFFD.

    :raises StateError: the file cannot be read
    """
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}", "run this as root") from error


def read_own(path: Path) -> str:
    """Return the text of a file whose content root acts on (it names commands and units).

    Symbolic links, other file types (a FIFO would block forever) and files writable by other users are refused.

    :raises ValueError: not a regular file, or writable by another user
    :raises OSError: the file cannot be opened
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in {0, os.geteuid()} or found.st_mode & 0o022:
            raise ValueError("not a regular file that only root can write")
        return file.read().decode()


def write_whole(path: Path, data: bytes, *, mode: int = PRIVATE, temporary: Optional[Path] = None) -> None:
    """Replace the content of a file atomically; after a crash it holds either the old or the new content.

    :param mode: permission bits of a new file, before the umask
    :param temporary: path of the temporary file, on the same file system; default: a hidden file in the same directory
    :raises StateError: the file could not be written, and is unchanged
    """
    temporary = temporary or path.with_name(f".{path.name}.new")
    try:
        ensure_directory(path.parent)
        with suppress(FileNotFoundError):
            temporary.unlink()  # left by a crash, perhaps with another mode
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise cannot_write(path, error) from error


def write_public(path: Path, data: bytes) -> None:
    """Replace a world-readable file atomically; not synced, since it is meant for a tmpfs.

    A new directory gets mode 0755 regardless of the umask.

    :raises StateError: the file could not be written, and is unchanged
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        if not path.parent.is_dir():
            path.parent.mkdir()
            path.parent.chmod(PUBLIC_DIRECTORY)
        with suppress(FileNotFoundError):
            temporary.unlink()
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
        try:
            write_all(fd, data)
            os.fchmod(fd, PUBLIC)
        finally:
            os.close(fd)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise cannot_write(path, error) from error


def append_json(path: Path, values: Mapping[str, Any]) -> None:
    """Append one JSON line durably. An incomplete line (left by a crash or a full disk) is removed.

    :raises StateError: nothing was appended
    """
    line = json.dumps(values, sort_keys=True).encode() + b"\n"
    try:
        ensure_directory(path.parent)
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
        try:
            size = os.fstat(fd).st_size
            whole, start = _whole_part(fd, size)
            try:
                if whole < size:
                    os.ftruncate(fd, whole)
                write_all(fd, start + line)
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, whole)
                raise
        finally:
            os.close(fd)
        if size == 0:
            sync_directory(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def _whole_part(fd: int, size: int) -> tuple[int, bytes]:
    """Return the length of the whole lines of a JSON-lines file, and what must precede the next line (b"" or a newline)."""
    data = os.pread(fd, TAIL, max(0, size - TAIL))
    tail = data.rpartition(b"\n")[2]
    if not tail:
        return size, b""
    try:
        json.loads(tail)
    except ValueError:
        return size - len(tail), b""
    return size, b"\n"


def remove(path: Path) -> None:
    """Remove a file durably; a missing file is not an error.

    :raises OSError: the file could not be removed
    """
    with suppress(FileNotFoundError):
        path.unlink()
    if path.parent.is_dir():
        sync_directory(path.parent)


def write_all(fd: int, data: bytes) -> None:
    """Write all bytes, since write(2) may write fewer."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def ensure_directory(path: Path, mode: int = PRIVATE_DIRECTORY) -> None:
    """Create a directory and its missing parents, all with the same mode (before the umask)."""
    for place in reversed(path.parents):
        if not place.exists():
            place.mkdir(mode=mode, exist_ok=True)
    path.mkdir(mode=mode, exist_ok=True)


def sync_directory(path: Path) -> None:
    """Sync a directory, which makes a rename in it durable (fsync(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def cannot_write(path: Path, error: OSError, act: str = "written") -> StateError:
    """Return the StateError for a failed write."""
    if isinstance(error, PermissionError):
        hint = f"run this as root, or as the owner of {path.parent}"
    else:
        hint = "free space on that file system, then run the command again"
    return StateError(f"{path} cannot be {act}: {error.strerror}", hint)
