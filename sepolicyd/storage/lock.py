"""Advisory locks between sepolicyd processes (flock(2))."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sepolicyd.errors import RefusedError
from sepolicyd.storage.files import cannot_write, ensure_directory

LOCK_TRIES, LOCK_PAUSE_S = 20, 0.05


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold an flock on a file; the kernel gives it up with the process.

    A process that is killed while it starts a tool leaves a child that holds the lock until its exec closes it (flock(2): a
    fork shares the lock): for that moment it is waited.

    :raises RefusedError: another process holds it
    :raises StateError: the file cannot be made
    """
    try:
        ensure_directory(path.parent)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        tries = 0
        while not _lock(fd):
            tries += 1
            if tries < LOCK_TRIES:
                time.sleep(LOCK_PAUSE_S)
                continue
            raise RefusedError(f"another sepolicyd command {what}", "wait for it to end, then try again")
        yield
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
