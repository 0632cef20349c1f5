"""Decompress a log. Text in front of a truncation or damage is delivered, then the damage is reported."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO, Optional

# Small, because a decompressor discards the output of the piece that holds the damage.
PIECE = 4096
MOST = 1 << 20  # bytes of output at a time, whatever the compression ratio
MEMORY = 256 << 20  # limit for xz, where the compressor decides how much memory decompression needs; `xz -9`: 65 MiB


@dataclass(frozen=True)
class PackedFormat:
    """Compression format, recognized by the first bytes of the file (magic(5)) and not by its name."""

    name: str
    magic: bytes
    unpacker: Optional[str]  # Python module; None: users decompress the file with the program of that name


KINDS = (
    PackedFormat("gzip", b"\x1f\x8b", "zlib"),
    PackedFormat("xz", b"\xfd7zXZ\0", "lzma"),
    PackedFormat("bzip2", b"BZh", "bz2"),
    PackedFormat("zstd", b"\x28\xb5\x2f\xfd", None),  # in the standard library from Python 3.14 on
)
LONGEST_MAGIC = max(len(kind.magic) for kind in KINDS)


def kind_of(start: bytes) -> Optional[PackedFormat]:
    """Return the compression format of a file that begins with these bytes, or None."""
    return next((kind for kind in KINDS if start.startswith(kind.magic)), None)


class Unpacked:
    """Minimal file object for reading blocks of lines. ``trouble`` holds the error found by the end, "" if there was none."""

    def __init__(self, kind: PackedFormat, start: bytes, file: BinaryIO) -> None:
        self._kind = kind
        self._file = file
        self._packed = start
        self._unpacker, self._damage = _unpacker(kind)
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
        """Return the next decompressed text, empty at the end or at an error."""
        while not self._ended:
            if self._unpacker.eof and not self._next_member():
                break
            packed = self._piece() if self._unpacker.needs_input else b""
            if self._unpacker.needs_input and not packed:
                self._ended, self.trouble = True, f"truncated {self._kind.name}"
                break
            try:
                text: bytes = self._unpacker.decompress(packed, MOST)
            except self._damage:
                self._ended, self.trouble = True, f"damaged {self._kind.name}"
                break
            if text:
                return text
        return b""

    def _next_member(self) -> bool:
        """Continue with the next member of the file. Zeros or any other bytes behind the last member end the text."""
        left = self._unpacker.unused_data or self._piece()
        while left and not left.strip(b"\0"):
            left = self._piece()
        left = left.lstrip(b"\0")
        if not left.startswith(self._kind.magic[:1]):
            self._ended = True
            return False
        self._unpacker, _ = _unpacker(self._kind)
        self._packed = left + self._packed
        return True

    def _piece(self) -> bytes:
        self._packed = self._packed or self._file.read(1 << 16)
        piece, self._packed = self._packed[:PIECE], self._packed[PIECE:]
        return piece


class _Zlib:
    """zlib decompressor with the interface of bz2 and lzma: it keeps the input that it has not consumed yet."""

    def __init__(self) -> None:
        self._unpacker = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._unpacker.eof

    @property
    def unused_data(self) -> bytes:
        return self._unpacker.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._unpacker.unconsumed_tail

    def decompress(self, packed: bytes, most: int) -> bytes:
        return self._unpacker.decompress(self._unpacker.unconsumed_tail + packed, most)


def _unpacker(kind: PackedFormat) -> tuple[Any, tuple[type[Exception], ...]]:
    """Return a decompressor and its exceptions for damaged data. bz2 and lzma are imported on demand, for a fast start."""
    if kind.unpacker == "lzma":
        import lzma

        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY), (lzma.LZMAError, EOFError)
    if kind.unpacker == "bz2":
        import bz2

        return bz2.BZ2Decompressor(), (OSError, EOFError)
    return _Zlib(), (zlib.error,)
