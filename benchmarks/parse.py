"""Compare sepolicyd, audit2allow, ausearch, audit2why and grep on logs of several generators, in one run.

Run as ``python -m benchmarks.parse [--runs N] [NAME ...]``. Every figure is the CPU time (user and system) of a whole process,
the minimum of N runs; audit2allow and audit2why run once. The output of each program is read through a pipe.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import varied
from benchmarks.figures import Figure, ratio
from tests.paths import DATA, ROOT

GIVEN = ROOT.parent / "shared" / "bench" / "varied_log.py"
POLICY = Path("/etc/selinux/default/policy")
CAPTURED_EVENTS = 60_000
WHY_LINES = 400
PEAK_GOAL = "under 80 MB"
_VARIES = re.compile(
    rb"(?P<stamp>(?<=audit\()[\d.]+:\d+)|(?P<pid>(?<=[ p]pid=)\d{2,})|(?P<ino>(?<= ino=)\d{3,}|(?<=inode=)\d{3,})"
    rb"|(?P<name>(?<= name=\")[A-Za-z][\w.-]+(?=\"))"
)


@dataclass(frozen=True)
class Input:
    """One log: who made it, and how many times as fast as audit2allow sepolicyd is to be."""

    maker: str
    goal: str
    write: Callable[[Path], None]


def _given(*arguments: str) -> Callable[[Path], None]:
    def write(log: Path) -> None:
        with log.open("wb") as file:
            subprocess.run([sys.executable, str(GIVEN), *arguments], stdout=file, check=True)

    return write


def captured(log: Path) -> None:
    """Captured events of a JupyterHub, repeated in their order; times, serials, processes, inodes and names changed."""
    events: dict[bytes, list[bytes]] = {}
    for path in sorted((DATA / "jupyterhub").glob("0*.log.gz")):
        for line in gzip.decompress(path.read_bytes()).splitlines(keepends=True):
            events.setdefault(line.partition(b"audit(")[2].partition(b")")[0], []).append(line)
    chance, seconds = random.Random(7), 1795373000.0
    every = list(events.values())
    with log.open("wb") as file:
        for number in range(CAPTURED_EVENTS):
            seconds += chance.random() * 0.05
            values = {
                "stamp": b"%.3f:%d" % (seconds, 1000 + number),
                "pid": b"%d" % chance.randint(300, 4194303),
                "ino": b"%d" % chance.randint(1000, 10**8),
                "name": b"n%d" % chance.randint(1, 50_000),
            }
            for line in every[number % len(every)]:
                file.write(_VARIES.sub(lambda match: values[str(match.lastgroup)], line))  # noqa: B023


def inputs() -> dict[str, Input]:
    """Name of the log to its maker; those of the given generator only where that is present."""
    found = {}
    if GIVEN.exists():
        found["varied, half of the events denied"] = Input("given generator", "60x", _given("60000", "0.5", "20000"))
        found["varied, all events denied"] = Input("given generator", "60x", _given("20000", "1.0"))
        found["mixed, 5 % of the events denied"] = Input("given generator", "25x", _given("181000", "0.05"))
    found["captured events, repeated"] = Input("a JupyterHub, names changed", "60x", captured)
    found["enriched, all events denied"] = Input("own generator", "60x", lambda log: varied.write(log, 20_000, 1.0))
    found["enriched, 5 % of the events denied"] = Input("own generator", "25x", lambda log: varied.write(log, 120_000, 0.05))
    return found


def commands(log: Path) -> dict[str, list[str]]:
    """Name of the program to its command line; those that are not installed are left out."""
    script = str(Path(sys.executable).parent / "sepolicyd")
    found = {"sepolicyd": [script, "analyze", "--all", "--grouped", "--json", str(log)]}
    if shutil.which("ausearch"):
        found["ausearch"] = ["ausearch", "-if", str(log), "-m", "avc,user_avc,selinux_err", "--raw"]
    found["grep"] = ["grep", "denied", str(log)]
    policy = max(POLICY.glob("policy.*"), default=None) if POLICY.is_dir() else None
    if policy is not None and shutil.which("audit2allow"):
        # without a loaded policy audit2allow needs one by name
        found["audit2allow"] = ["audit2allow", "-p", str(policy), "-i", str(log)]
    return found


def run(command: list[str], stdin: bytes = b"") -> tuple[float, float]:
    """(seconds of processor, peak resident MiB) of one run; what it prints is read and thrown away."""
    with tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=given)
        assert process.stdout is not None
        while process.stdout.read(1 << 20):
            pass
        _, status, usage = os.wait4(process.pid, 0)
        process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{command[0]} ended with {process.returncode}: {shlex.join(command)}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measure(log: Path, runs: int) -> dict[str, tuple[float, float]]:
    """Return the minimum time and the maximum memory of each program. Runs alternate, so that load affects all programs."""
    best: dict[str, tuple[float, float]] = {}
    for number in range(runs):
        for name, command in commands(log).items():
            if name == "audit2allow" and number:
                continue
            seconds, peak = run(command)
            old = best.get(name, (seconds, peak))
            best[name] = (min(old[0], seconds), max(old[1], peak))
    return best


def _why(log: Path) -> float:
    """audit2why's seconds for one denial; it asks the policy about each, so that it gets only some."""
    policy = max(POLICY.glob("policy.*"), default=None) if POLICY.is_dir() else None
    if policy is None or not shutil.which("audit2why"):
        return 0.0
    with log.open("rb") as file:
        chosen = [line for line, _ in zip((line for line in file if line.startswith(b"type=AVC")), range(WHY_LINES))]
    seconds = [run(["audit2why", "-p", str(policy)], b"".join(part))[0] for part in (chosen[:1], chosen)]
    return (seconds[1] - seconds[0]) / max(1, len(chosen) - 1)


def rows(name: str, log: Path, made: Input, runs: int) -> list[Figure]:
    """Rows of the table for one log."""
    seen = measure(log, runs)
    ours, peak = seen["sepolicyd"]
    what = f"{name} ({made.maker}, {log.stat().st_size / 1e6:.0f} MB) to grouped candidates"
    command = "sepolicyd analyze --all --grouped --json LOG"
    found = []
    goals = {"audit2allow": made.goal, "ausearch": "1x (aim)", "grep": "0.2x (aim)"}
    for peer in ("audit2allow", "ausearch", "grep"):
        if peer in seen:
            line = shlex.join(commands(log)[peer]).replace(str(log), "LOG")
            theirs = seen[peer][0]
            found.append(Figure(what, command, f"{ours:.2f} s", line, f"{theirs:.2f} s", ratio(theirs, ours), goals[peer]))
    why = _why(log)
    if why:
        found.append(Figure(what, command, f"{ours:.2f} s for all", "audit2why < LINES", f"{why * 1000:.1f} ms for one denial"))
    found.append(Figure(f"{name}, peak memory", "the same", f"{peak:.0f} MiB", goal=PEAK_GOAL))
    return found


def figures(work: Path, names: tuple[str, ...] = (), runs: int = 3) -> list[Figure]:
    """Rows of the table of docs/figures.md."""
    found = []
    for name, made in inputs().items():
        if names and not any(part in name for part in names):
            continue
        log = work / "audit.log"
        made.write(log)
        found += rows(name, log, made, runs)
        log.unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of logs")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        for figure in figures(Path(directory), tuple(options.names), options.runs):
            print(figure.row())


if __name__ == "__main__":
    main()
