"""Measure the start-up time of the command line (--help) against a bare interpreter."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.figures import Figure, best

TIMES = 15


def figures(work: Path) -> list[Figure]:
    script = Path(sys.executable).parent / "sepolicyd"
    ours = best([str(script), "--help"], TIMES)
    nothing = best(["/usr/bin/python3", "-c", "pass"], TIMES)
    return [
        Figure(
            "the help page",
            "sepolicyd --help",
            f"{ours.seconds * 1000:.0f} ms",
            "/usr/bin/python3 -c pass",
            f"{nothing.seconds * 1000:.0f} ms",
            f"{ours.seconds / nothing.seconds:.1f}x as long",
            "within 6x",
        )
    ]
