"""Bytes in, files on the disk out: whole or not at all, fsynced before the call returns."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sepolicyd.errors import RefusedError, StateError

TAIL = 1 << 22  # longer than any line of ours


def read_text(path: Path) -> str:
    """What a record of ours holds, "" where there is none yet; a byte that is no text is a sign of its own, not an error.

    :raises StateError: the file cannot be read
    """
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}", "run this as root") from error


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file's content; after a crash it holds the old or the new.

    :raises StateError: it could not be written, and holds what it held
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        ensure_directory(path.parent)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
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


def append_json(path: Path, values: Mapping[str, Any]) -> None:
    """Append one JSON line; what does not fit on the disk is taken off again, and so is half a line that a crash has left.

    :raises StateError: nothing was appended
    """
    line = json.dumps(values, sort_keys=True).encode() + b"\n"
    try:
        ensure_directory(path.parent)
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
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
    """How many bytes of a file of JSON lines are whole lines, and what must come before the next: a line end, or nothing."""
    data = os.pread(fd, TAIL, max(0, size - TAIL))
    tail = data.rpartition(b"\n")[2]
    if not tail:
        return size, b""
    try:
        json.loads(tail)
    except ValueError:
        return size - len(tail), b""
    return size, b"\n"


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def ensure_directory(path: Path) -> None:
    """The directory and its parents, private to root; twice is harmless."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable (a rename is on the disk only after this, fsync(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def refuse_unsafe(directory: Path) -> None:
    """Everything above what is kept must be root's: who can rename a directory can put another in its place, with versions of
    a module and commands that root would then believe.

    :raises RefusedError: another user can change one of them
    """
    for place in (directory, *directory.absolute().parents):
        try:
            found = place.stat()
        except FileNotFoundError:
            continue  # it will be made by us
        except OSError as error:
            raise StateError(f"{place} cannot be looked at: {error.strerror}", "run this as root") from error
        shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
        if shared or found.st_uid not in {0, os.geteuid()}:
            raise RefusedError(
                f"{place} can be changed by others than root, and what is kept in {directory} would be believed",
                f"run: chown root {place}; chmod go-w {place}; or name another directory with --state",
            )


def cannot_write(path: Path, error: OSError) -> StateError:
    hint = "run this as root" if isinstance(error, PermissionError) else "free space on that disk, then run the command again"
    return StateError(f"{path} cannot be written: {error.strerror}", hint)
