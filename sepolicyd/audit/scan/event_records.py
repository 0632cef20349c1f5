"""Find the other records of an event, in a block of a log and in the neighbouring blocks."""

from __future__ import annotations

import re

from sepolicyd.audit.scan.access_samples import Detail

LOOK_AHEAD = 8192
LOOK_BACK = 4096
LOOK_BESIDE = 3072
MAX_HEADER = 256
MAX_LINES = 16  # in either direction: a log that is one single event must not take quadratic time
_STAMP = re.compile(rb"audit\(([0-9.]+:[0-9]+)\)")


def event_of(before: bytes, block: bytes, after: bytes, position: int, detail: Detail) -> list[bytes]:
    """Return the line at this place, then the other lines of its event in reach."""
    begin = block.rfind(b"\n", 0, position) + 1
    end = line_end(block, position)
    line = block[begin:end]
    if detail is Detail.LINE:
        return [line]
    stamp = _STAMP.search(line)
    if stamp is None:
        return [line]
    whole = detail is Detail.EVENT
    token = b"audit(" + stamp[1] + b")"
    reach = end + (LOOK_AHEAD if whole else LOOK_BESIDE)
    earlier = _lines_before(token, block, max(0, begin - LOOK_BACK), begin) if whole else []
    if whole and before and begin < LOOK_BACK:
        earlier = _lines_before(token, before, max(0, len(before) + begin - LOOK_BACK), len(before)) + earlier
    later = _lines_with(token, block, end, reach)
    if after and reach > len(block):
        later += _lines_with(token, after, 0, reach - len(block))
    return [line, *earlier, *later]


def has_stamp(line: bytes) -> bool:
    """Tell whether the line has a header with time and serial."""
    return _STAMP.search(line) is not None


def line_end(block: bytes, position: int) -> int:
    """Return the position of the newline of this line, or the end of the block."""
    end = block.find(b"\n", position)
    return len(block) if end < 0 else end


def _lines_with(token: bytes, block: bytes, low: int, high: int) -> list[bytes]:
    """Return the first lines that hold the token near their beginning, for tokens between low and high."""
    found: list[bytes] = []
    at = block.find(token, low, high)
    while at >= 0 and len(found) < MAX_LINES:
        begin = block.rfind(b"\n", max(0, at - MAX_HEADER), at) + 1
        end = line_end(block, at)
        if begin or at < MAX_HEADER:
            found.append(block[begin:end])
        at = block.find(token, end, high)
    return found


def _lines_before(token: bytes, block: bytes, low: int, high: int) -> list[bytes]:
    """Return the last lines that hold the token near their beginning, in the order of the log."""
    found: list[bytes] = []
    at = block.rfind(token, low, high)
    while at >= 0 and len(found) < MAX_LINES:
        begin = block.rfind(b"\n", max(0, at - MAX_HEADER), at) + 1
        if begin or at < MAX_HEADER:
            found.append(block[begin : line_end(block, at)])
        at = block.rfind(token, low, begin or at)
    return found[::-1]
