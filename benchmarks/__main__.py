"""Measure all figures and print the table; with --write, update docs/figures.md.

usage: python -m benchmarks [--write] [parse policy follower apply start rows crafted]
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from datetime import date
from pathlib import Path

from benchmarks.figures import HEADER, Figure
from tests.paths import ROOT

PARTS = ("start", "parse", "policy", "follower", "apply", "rows", "crafted")
FIGURES = ROOT / "docs" / "figures.md"
BEGIN, END = "<!-- figures: make bench -->", "<!-- end of figures -->"


def machine() -> str:
    """Return date, number of cores and processor model in one line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown processor",
    )
    cores = sum(line.startswith("processor") for line in Path("/proc/cpuinfo").read_text().splitlines())
    return f"{date.today().isoformat()}, {cores} cores, {model}"


def measure(names: list[str]) -> list[Figure]:
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="sepolicyd-bench-") as work:
        for name in names:
            print(f"bench: {name} ...", file=sys.stderr)
            found = importlib.import_module(f"benchmarks.{name}").figures(Path(work))
            for figure in found:
                print(figure.row(), file=sys.stderr)
            figures += found
    return figures


def main(arguments: list[str]) -> None:
    names = [word for word in arguments if not word.startswith("-")] or list(PARTS)
    figures = measure(names)
    table = "\n".join((f"Measured {machine()}.", "", HEADER, *(figure.row() for figure in figures)))
    print(table)
    if "--write" in arguments:
        text = FIGURES.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        after = rest.partition(END)[2]
        FIGURES.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
