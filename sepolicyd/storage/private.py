"""Private cache files, opened in a way that prevents other users from replacing them.

Meant for caches on which decisions depend. Every path component is opened by descriptor without following symbolic links, and
checked. A component that fails a check is reported with a reason, and the file is not read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sepolicyd.storage.files import write_all

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
# a parent need not be readable (such as a home directory below a directory of mode 0711)
PARENT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


class UntrustedError(Exception):
    """A directory or file that another user could have written. The text names the path and the reason."""


@contextmanager
def private_directory(path: Path) -> Iterator[int]:
    """Provide a descriptor of a directory that only this user and root can change, including its parents.

    A directory is refused if it is owned by another user, or writable by group or others without the sticky bit. An access
    control list that grants write access shows in the group bits (acl(5)).

    :raises UntrustedError: another user can change one of the directories
    :raises OSError: the directory does not exist or cannot be opened
    """
    real = Path(os.path.realpath(path))
    fd = os.open("/", PARENT)
    try:
        _check_directory(fd, "/")
        for depth, part in enumerate((*real.parts[1:], "."), start=2):
            below = os.open(part, DIRECTORY if part == "." else PARENT, dir_fd=fd)
            os.close(fd)
            fd = below
            _check_directory(fd, str(Path(*real.parts[:depth])))
        if os.fstat(fd).st_uid != os.geteuid():
            raise UntrustedError(f"{real} belongs to another user")
        yield fd
    finally:
        os.close(fd)


def _check_directory(fd: int, name: str) -> None:
    found = os.fstat(fd)
    if found.st_uid not in {0, os.geteuid()}:
        raise UntrustedError(f"{name} belongs to another user (uid {found.st_uid})")
    if found.st_mode & WRITABLE_BY_OTHERS and not found.st_mode & stat.S_ISVTX:
        raise UntrustedError(f"{name} can be changed by other users (mode {stat.S_IMODE(found.st_mode):o})")


def make_private_directory(path: Path, *, within: Path) -> None:
    """Create the directory (mode 0700) and its missing parents below ``within``, which must exist.

    :raises OSError: a directory cannot be created
    """
    missing = [place for place in (path, *path.parents) if within in place.parents]
    for place in reversed(missing):
        with suppress(FileExistsError):
            place.mkdir(mode=0o700)


def read_private(directory: int, name: str) -> bytes:
    """Return the content of a file in a directory from :func:`private_directory`.

    :raises FileNotFoundError: the file does not exist
    :raises UntrustedError: not a regular file, or owned or writable by another user
    :raises OSError: the file cannot be read
    """
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & WRITABLE_BY_OTHERS:
            raise UntrustedError("not a file that only this user can change")
        with os.fdopen(os.dup(fd), "rb", buffering=0) as file:
            return file.read()
    finally:
        os.close(fd)


def write_private(directory: int, name: str, data: bytes) -> None:
    """Replace a file (mode 0600). Not synced: after a crash it may be truncated, so readers must check it.

    :raises OSError: the file could not be written, and is unchanged
    """
    temporary = f".{name}.{os.getpid()}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=directory)
    fd = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        try:
            write_all(fd, data)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise


def prune(directory: int, suffix: str, keep: int) -> None:
    """Remove all but the newest files with this suffix, and temporary files of ended processes."""
    names = os.listdir(directory)
    kept = {name for name in names if name.endswith(suffix) and not name.startswith(".")}
    ages = {name: os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime_ns for name in kept}
    old = sorted(kept, key=lambda name: ages[name], reverse=True)[keep:]
    temporary = (name.split(".") for name in names if name.startswith(".") and name.endswith(".new"))
    dead = [".".join(parts) for parts in temporary if not Path("/proc", parts[-2]).exists()]
    for name in (*old, *dead):
        with suppress(OSError):
            os.unlink(name, dir_fd=directory)
