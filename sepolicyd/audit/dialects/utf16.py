"""Conversion of UTF-16 text (written by PowerShell and some editors) to UTF-8."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import Optional

_MARKS = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
PROBE = 512
MIN_PAIRS = 4
MOST = 0.75
"""Share of one half of the bytes that is zero in UTF-16; of the other half the rest at most."""


def as_bytes_of_ascii(blocks: Iterator[bytes], on_utf16: Callable[[], None]) -> Iterator[bytes]:
    """Yield the blocks, converted if the first one is UTF-16, with or without a byte order mark.

    :param on_utf16: called once if the text is UTF-16
    """
    decoder: Optional[codecs.IncrementalDecoder] = None
    for number, block in enumerate(blocks):
        data = block
        if number == 0:
            name = encoding_of(block)
            if name:
                decoder = codecs.getincrementaldecoder(name)("replace")
                on_utf16()
            data = block.removeprefix(codecs.BOM_UTF8)
        if decoder is None:
            yield data
        else:
            yield decoder.decode(block).lstrip("\ufeff").encode("utf-8", "replace")


def encoding_of(start: bytes) -> str:
    """Return "utf-16-le", "utf-16-be", or "" for 8-bit text.

    In UTF-16 every other byte of an ASCII record is zero, and hardly one of the rest. A block of zeros alone is what a crash
    leaves in a log.
    """
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    probe = start[:PROBE]
    even, odd = probe[0::2], probe[1::2]
    if len(odd) < MIN_PAIRS:
        return ""
    zeros = (even.count(0) / len(even), odd.count(0) / len(odd))
    if max(zeros) < MOST or min(zeros) > 1 - MOST:
        return ""
    return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
