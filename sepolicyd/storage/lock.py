"""Advisory locks (flock(2)) between sepolicyd processes, and on libsemanage's lock files."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Optional

from sepolicyd.errors import RefusedError
from sepolicyd.storage.files import PRIVATE, PRIVATE_DIRECTORY, cannot_write, ensure_directory

# A process killed while starting a tool leaves a child that shares its lock until exec closes the descriptor.
LINGER_S = 1.0
PAUSE_S = 0.05


@contextmanager
def exclusive(
    path: Path,
    refusal: str,
    *,
    hint: str = "wait until it has finished, then try again",
    wait: float = LINGER_S,
    mode: int = PRIVATE,
    directory_mode: int = PRIVATE_DIRECTORY,
) -> Iterator[None]:
    """Hold an exclusive lock on a file, creating it if missing. The kernel releases the lock when the process ends.

    :param refusal: the error text if another process holds the lock
    :param wait: seconds to wait for the lock
    :param mode: mode of a new lock file; ``directory_mode`` is that of a new directory
    :raises RefusedError: another process holds the lock
    :raises StateError: the file cannot be created
    """
    try:
        ensure_directory(path.parent, directory_mode)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    except OSError as error:
        raise cannot_write(path, error, "opened for writing") from error
    try:
        if not acquire(fd, wait=wait):
            raise RefusedError(refusal, hint)
        yield
    finally:
        os.close(fd)


def acquire(fd: int, *, wait: float = 0.0) -> bool:
    """Take an exclusive lock on an open file; tell whether that succeeded within ``wait`` seconds."""
    give_up = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                return False
            time.sleep(min(PAUSE_S, wait))
        else:
            return True


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Wait for and hold a shared lock on another program's file; without the file, no lock is taken.

    :raises OSError: the file cannot be opened
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


def holder(path: Path) -> Optional[str]:
    """Return the holder of a lock as "NAME (pid N)": None if the file is not locked, "" for an unknown process."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if acquire(fd) else _name_of_holder(os.fstat(fd).st_ino)
    finally:
        os.close(fd)


def _name_of_holder(inode: int) -> str:
    """Find the holder in /proc/locks (proc(5)): ``1: FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF``."""
    with suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
                name = Path(f"/proc/{words[4]}/comm").read_text(encoding="utf-8", errors="replace").strip()
                return f"{name} (pid {words[4]})"
    return ""
