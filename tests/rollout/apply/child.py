"""Run one operation as a child process, DIRECTORY [WRITE [ACT]], and kill it half-way through write number WRITE (0: never).

ACT: apply (the default, on trial), more (an apply over it), copy (apply without one transaction), killed_judging and
killed_begun (while the transaction waits), or one of test_disks. Exit code 7: an expected failure.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from sepolicyd.errors import SepolicydError, ToolMissingError
from sepolicyd.rollout.apply import execute
from sepolicyd.storage import files
from tests.rollout.apply.world import OPEN, READ, WRITE, World, allow, world

real = files.write_all
FAILED = 7


def kill_at(number: int) -> None:
    count = 0

    def dying(fd: int, data: bytes) -> None:
        nonlocal count
        count += 1
        if count == number:
            os.write(fd, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        real(fd, data)

    files.write_all = dying


def without_bindings(*_: object, **__: object) -> None:
    raise ToolMissingError("no bindings")


def act(machine: World, name: str) -> None:
    if name == "copy":
        execute.install_checked = without_bindings  # type: ignore[attr-defined]
    elif name.startswith("killed_"):
        at = "proved" if name == "killed_judging" else "files_of"
        setattr(execute, at, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    if name in ("apply", "copy") or name.startswith("killed_"):
        machine.apply(allow(READ, OPEN), confirm_within=3600)
    elif name == "more":
        machine.apply(allow(READ, OPEN, WRITE))
    else:
        from tests.rollout.apply import test_disks

        getattr(test_disks, name)(machine)


def main() -> None:
    directory, number, name = (*sys.argv[1:], *("", "0", "apply")[len(sys.argv) - 1 :])
    if number != "0":
        kill_at(int(number))
    try:
        act(world(Path(directory)), name)
    except SepolicydError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(FAILED)


main()
