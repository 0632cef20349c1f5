"""Two generated logs in, a table out: how long sepolicyd, ausearch, grep and audit2allow take for the same file, side by side.

Run as ``python -m benchmarks.parse [--no-audit2allow] [--runs N] [DIR]``; the logs are made in DIR (default: a temporary
directory) where they are not there yet. Every figure is the whole process, the best of N runs taken in turn.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure, ratio
from benchmarks.generate import MEGABYTES, write

POLICY = Path("/etc/selinux/default/policy")
# (kind, peer): (how many times as fast, or the share of the peer's time, ours must be or should be)
MUST = {("dense", "audit2allow"): 60.0, ("mixed", "audit2allow"): 25.0}
GOAL = {"ausearch": 1.0, "grep": 1 / 3}


def commands(log: Path, audit2allow: bool) -> dict[str, list[str]]:
    """Name of the run and its command line; grouped is parse to grouped candidates, analyze judges them all too."""
    script = str(Path(sys.executable).parent / "sepolicyd")
    policy = max(POLICY.glob("policy.*"), default=None) if POLICY.is_dir() else None
    found = {
        "grouped": [script, "analyze", "--all", "--grouped", "--json", str(log)],
        "analyze": [script, "analyze", "--all", "--json", str(log)],
    }
    if shutil.which("ausearch"):
        found["ausearch"] = ["ausearch", "-if", str(log), "-m", "avc,user_avc,selinux_err", "--raw"]
    found["grep"] = ["grep", "-c", "denied", str(log)]
    if audit2allow and policy is not None and shutil.which("audit2allow"):
        found["audit2allow"] = ["audit2allow", "-p", str(policy), "-i", str(log)]
    return found


def run(command: list[str]) -> tuple[float, float]:
    """(seconds, peak resident MiB) of one run; what it prints is thrown away."""
    begin = time.perf_counter()
    # grep stops at the first match where its output is /dev/null
    out = subprocess.PIPE if command[0] == "grep" else subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if process.stdout is not None:
        process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{command[0]} ended with {process.returncode}: {' '.join(command)}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def measure(log: Path, runs: int, audit2allow: bool) -> dict[str, tuple[float, float]]:
    """The best time and the highest peak of each command, taken in turn so that all meet the same machine."""
    best: dict[str, tuple[float, float]] = {}
    for number in range(runs):
        for name, command in commands(log, audit2allow and number == 0).items():
            seconds, peak = run(command)
            old = best.get(name, (seconds, peak))
            best[name] = (min(old[0], seconds), max(old[1], peak))
    return best


def report(kind: str, log: Path, figures: dict[str, tuple[float, float]]) -> None:
    print(f"{kind}: {log.stat().st_size / 1e6:.0f} MB")
    for name, (seconds, peak) in figures.items():
        print(f"  {name:12s} {seconds:8.3f} s  {peak:6.0f} MiB")
    for ours in ("grouped",):
        for peer in ("audit2allow", "ausearch", "grep"):
            if ours in figures and peer in figures:
                ratio = figures[peer][0] / figures[ours][0]
                wanted = MUST.get((kind, peer), GOAL.get(peer, 0.0))
                kept = "kept" if ratio >= wanted else "MISSED"
                kind_of = "must" if (kind, peer) in MUST else "goal"
                print(f"  {ours}: {ratio:7.2f} times as fast as {peer} ({kind_of} {wanted:.2f}: {kept})")


def figures(work: Path) -> list[Figure]:
    """Rows of the README's table: each log beside each of the three others, and the peak memory."""
    rows = []
    for kind, megabytes in MEGABYTES.items():
        log = work / f"{kind}.log"
        write(kind, log, megabytes)
        seen = measure(log, 3, audit2allow=True)
        ours, peak = seen["grouped"]
        for peer, promise in (("audit2allow", f"{MUST[kind, 'audit2allow']:.0f}x"), ("ausearch", "1x"), ("grep", "0.33x")):
            if peer in seen:
                line = shlex.join(commands(log, True)[peer]).replace(str(work), ".")
                theirs = seen[peer][0]
                shown = f"{theirs:.2f} s", ratio(theirs, ours), promise
                rows.append(
                    Figure(
                        f"{kind} log to grouped candidates",
                        "sepolicyd analyze --all --grouped --json LOG",
                        f"{ours:.2f} s",
                        line,
                        *shown,
                    )
                )
        rows.append(Figure(f"{kind} log, peak memory", "the same", f"{peak:.0f} MiB", goal="80 MB"))
        seconds, peak = seen["analyze"]
        rows.append(
            Figure(
                f"{kind} log, every candidate judged", "sepolicyd analyze --all --json LOG", f"{seconds:.2f} s, {peak:.0f} MiB"
            )
        )
        log.unlink()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--no-audit2allow", dest="audit2allow", action="store_false")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.directory or Path(temporary)
        for kind, megabytes in MEGABYTES.items():
            log = directory / f"{kind}.log"
            if not log.exists():
                write(kind, log, megabytes)
            report(kind, log, measure(log, options.runs, options.audit2allow))


if __name__ == "__main__":
    main()
