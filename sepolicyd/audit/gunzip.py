"""A gzip file in, its text out: what can be unpacked before a cut or a damaged place is delivered, then the trouble is told."""

from __future__ import annotations

import zlib
from typing import BinaryIO

MAGIC = b"\x1f\x8b"
# Small, because zlib throws away what it unpacked from the piece in which it meets the damage.
PIECE = 4096


class Gunzip:
    """Just enough of a file for reading blocks of lines. ``trouble`` says at the end what was wrong, "" if nothing."""

    def __init__(self, start: bytes, file: BinaryIO) -> None:
        self._file = file
        self._start = start
        self._packed = b""
        self._unpacker = zlib.decompressobj(wbits=31)
        self._plain = b""
        self._ended = False
        self.trouble = ""

    def read(self, size: int) -> bytes:
        pieces = [self._plain]
        length = len(self._plain)
        while length < size and (more := self._more()):
            pieces.append(more)
            length += len(more)
        whole = b"".join(pieces)
        self._plain = whole[size:]
        return whole[:size]

    def readline(self, limit: int) -> bytes:
        line = self.read(limit)
        end = line.find(b"\n") + 1
        if end:
            self._plain = line[end:] + self._plain
            line = line[:end]
        return line

    def _more(self) -> bytes:
        """The next unpacked text; empty at the end or at the trouble."""
        while not self._ended:
            if self._unpacker.eof and not self._next_member():
                break
            packed = self._unpacker.unconsumed_tail or self._piece()
            if not packed:
                self._ended, self.trouble = True, "truncated gzip"
                break
            try:
                text = self._unpacker.decompress(packed, 1 << 20)
            except zlib.error:
                self._ended, self.trouble = True, "damaged gzip"
                break
            if text:
                return text
        return b""

    def _next_member(self) -> bool:
        """Files of several members are read on; zeros or anything else behind the last one ends the text."""
        left = self._unpacker.unused_data or self._piece()
        while left and not left.strip(b"\0"):
            left = self._piece()
        left = left.lstrip(b"\0")
        if not left.startswith(MAGIC[:1]):
            self._ended = True
            return False
        self._unpacker = zlib.decompressobj(wbits=31)
        self._packed = left + self._packed
        return True

    def _piece(self) -> bytes:
        if not self._packed:
            self._packed, self._start = self._start, b""
        self._packed = self._packed or self._file.read(1 << 16)
        piece, self._packed = self._packed[:PIECE], self._packed[PIECE:]
        return piece
