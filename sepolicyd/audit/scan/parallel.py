"""One big file in, two sweeps of its halves out, the second made by a child process: a sweep is bound by one core."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from sepolicyd.audit.scan.decompress import LONGEST_MAGIC, kind_of
from sepolicyd.audit.scan.sweep import Sweep

WORTH_IT = 24 << 20
MARGIN = 1 << 16


def middle(path: Path) -> int:
    """The offset of the line in the middle where the second half may begin; 0 where one process should read it all."""
    try:
        if not path.is_file() or path.stat().st_size < WORTH_IT or len(os.sched_getaffinity(0)) < 2:
            return 0
        if os.getloadavg()[0] > len(os.sched_getaffinity(0)) - 0.5:
            return 0  # no core is idle: a second process would only cost its start
        threading = sys.modules.get("threading")
        if threading is not None and threading.active_count() > 1:
            return 0  # a child of a threaded process may inherit a held lock
        with path.open("rb") as file:
            if kind_of(file.read(LONGEST_MAGIC)) is not None:
                return 0
            file.seek(path.stat().st_size // 2)
            previous = file.readline(MARGIN)
            while True:
                at = file.tell()
                line = file.readline(MARGIN)
                if not line.endswith(b"\n"):
                    return 0
                if line != previous and previous.endswith(b"\n"):
                    return at
                previous = line
    except OSError:
        return 0  # the reader proper will say what is wrong


class Child:
    """A child process that makes a sweep and hands it over; without one (fork or memory failed) the caller does it all."""

    def __init__(self, make: Callable[[], Sweep]) -> None:
        self._pid = 0
        self._read = -1
        try:
            self._read, write = os.pipe()
            self._pid = os.fork()
        except OSError:
            return
        if self._pid == 0:
            _work(make, self._read, write)
        os.close(write)

    def result(self) -> Optional[Sweep]:
        """The child's sweep, None where it failed; waits for it."""
        if not self._pid:
            return None
        with os.fdopen(self._read, "rb") as file:
            data = file.read()
        _, status = os.waitpid(self._pid, 0)
        if status != 0:
            return None
        found = pickle.loads(data)  # noqa: S301 - written by our own child through a pipe that nobody else has
        return found if isinstance(found, Sweep) else None


def _work(make: Callable[[], Sweep], read: int, write: int) -> None:
    """The child's life. It leaves by _exit: buffers and exit handlers are the parent's."""
    code = 1
    try:
        os.close(read)
        with os.fdopen(write, "wb") as file:
            file.write(pickle.dumps(make(), protocol=pickle.HIGHEST_PROTOCOL))
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it was, the parent reads this half again and meets it there
        code = 1
    finally:
        os._exit(code)
