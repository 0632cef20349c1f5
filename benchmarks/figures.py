"""Values and Markdown table of measured figures."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional


@dataclass(frozen=True)
class Figure:
    """One row of the table. ``ours`` and ``theirs`` were measured in the same run; ``goal`` is the target."""

    what: str
    command: str
    ours: str
    beside: str = ""
    theirs: str = ""
    ratio: str = ""
    goal: str = ""

    def row(self) -> str:
        cells = (self.what, f"`{self.command}`", self.ours, f"`{self.beside}`" if self.beside else "", self.theirs)
        return "| " + " | ".join((*cells, self.ratio, self.goal)) + " |"


HEADER = "| what | command | ours | beside | theirs | ratio | goal |\n|---|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Timed:
    """Processor seconds (user and system), which other load changes little, and peak resident memory of one whole process."""

    seconds: float
    rss_mib: float
    returncode: int
    stdout: bytes


def timed(
    argv: Sequence[str], *, keep: bool = False, env: Optional[dict[str, str]] = None, cwd: Optional[Path] = None
) -> Timed:
    """Run one command to its end and measure that process alone (wait4's ru_maxrss)."""
    child = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE if keep else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
    stdout = child.stdout.read() if child.stdout is not None else b""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return Timed(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, child.returncode, stdout)


def best(argv: Sequence[str], times: int = 3, **how: object) -> Timed:
    """Return the fastest of several runs, since other load can only increase the time."""
    return min((timed(argv, **how) for _ in range(times)), key=lambda run: run.seconds)  # type: ignore[arg-type]


def ratio(theirs: float, ours: float) -> str:
    """Return the speed-up; below 1 if sepolicyd is slower."""
    return f"{theirs / ours:.1f}x"
