"""One apply in a process of its own, to be killed: DIRECTORY [WRITE], at the WRITE-th write with half of it done."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from sepolicyd.rollout import durable
from tests.apply.world import OPEN, READ, allow, world

real = durable.write_all


def main() -> None:
    directory = Path(sys.argv[1])
    if len(sys.argv) > 2:
        count = 0

        def dying(fd: int, data: bytes) -> None:
            nonlocal count
            count += 1
            if count == int(sys.argv[2]):
                os.write(fd, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            real(fd, data)

        durable.write_all = dying
    machine = world(directory)
    machine.apply(allow(READ, OPEN), confirm_within=3600)


main()
