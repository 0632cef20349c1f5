"""The lock on policy changes: the holder keeps it, and the child of a killed command does not."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from sepolicyd.errors import RefusedError
from sepolicyd.storage.lock import exclusive


def held(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_another_command_keeps_it(tmp_path: Path) -> None:
    fd = held(tmp_path / "lock")
    with pytest.raises(RefusedError, match="is at work"), exclusive(tmp_path / "lock", "is at work"):
        pass
    os.close(fd)


def test_what_a_killed_command_left_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    fd = held(tmp_path / "lock")
    giving_up = threading.Timer(0.2, os.close, (fd,))
    giving_up.start()
    with exclusive(tmp_path / "lock", "is at work"):
        giving_up.join()
