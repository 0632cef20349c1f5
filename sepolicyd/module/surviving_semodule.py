"""Wait for semodule processes that outlived a killed sepolicyd and may still modify the store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sepolicyd.errors import ToolError

WAIT_S = 300.0
PAUSE_S = 0.2
TRANSACTION = b"sepolicyd.module.transaction"


def wait_for(works_on: Callable[[list[bytes]], bool], what: str, wait: float = WAIT_S) -> None:
    """Wait until no semodule and no transaction process works on ``what``.

    :param works_on: tells from a process's arguments whether it works on ``what``
    :raises ToolError: a process is still running after the wait
    """
    give_up = time.monotonic() + wait
    while running(works_on):
        if time.monotonic() >= give_up:
            raise ToolError(f"a semodule of a killed sepolicyd is still working on {what}", "see: pgrep -a semodule")
        time.sleep(PAUSE_S)


def running(works_on: Callable[[list[bytes]], bool]) -> list[int]:
    """Return process ids. Other users' processes are ignored, since anyone can name a process semodule."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            is_store_tool = words[0].endswith(b"semodule") or (b"python" in words[0] and TRANSACTION in words)
            if is_store_tool and works_on(words) and _started_by_us(entry):
                found.append(int(entry.name))
    return found


def _started_by_us(process: Path) -> bool:
    """Tell whether the real user id is this user's (proc(5), Uid:); a set-user-ID program does not change it."""
    for line in (process / "status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[1]) == os.getuid()
    return False
