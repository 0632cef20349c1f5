"""Scan a log that arrives in pieces, for the follower."""

from __future__ import annotations

import gc

from sepolicyd.audit.scan.find_denials import Sweep
from sepolicyd.audit.scan.scan_files import BLOCK, ScanResult, result_of


class IncrementalScan:
    """Scan in pieces: feed them, then read the result once. Denials are parsed once for all pieces."""

    def __init__(self) -> None:
        self._sweep = Sweep()
        self._before = b""

    def __bool__(self) -> bool:
        return bool(self._sweep.lines)

    def feed(self, text: bytes) -> None:
        """Scan whole lines. An event that is split between two pieces loses details."""
        collecting = gc.isenabled()
        gc.disable()  # this code creates no reference cycles
        try:
            for block, after in _with_next(text):
                self._sweep.block(self._before, block, after)
                self._before = block
        finally:
            if collecting:
                gc.enable()

    def result(self) -> ScanResult:
        return result_of(self._sweep)


def _with_next(text: bytes) -> list[tuple[bytes, bytes]]:
    blocks = []
    start = 0
    while start < len(text):
        end = text.find(b"\n", start + BLOCK) + 1 or len(text)
        blocks.append(text[start:end])
        start = end
    return list(zip(blocks, [*blocks[1:], b""]))
