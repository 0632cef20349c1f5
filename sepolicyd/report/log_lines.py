"""Find the lines of log files that hold given audit records."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from sepolicyd.audit.parse.record import decode
from sepolicyd.audit.scan.decompress import LONGEST_MAGIC, kind_of

STAMP = b"audit("
MAX_STAMP = 64


@dataclass(frozen=True, order=True)
class LogPlace:
    """A line of a log file."""

    path: Path
    line: int
    """Line number in the decompressed text, from 1."""


def find_lines(paths: Sequence[Path], samples: Mapping[str, Iterable[str]]) -> dict[str, LogPlace]:
    """Find the first line of a sample for each key, in one pass over the files.

    Missing files are skipped, and a damaged file is searched up to the damage.

    :param samples: records from the evidence by key: lines of one event, the denial first
    """
    wanted: dict[bytes, dict[str, list[str]]] = {}
    for key, texts in samples.items():
        for text in texts:
            line = text.split("\n", 1)[0]
            wanted.setdefault(stamp_of(line.encode("utf-8", "surrogateescape")), {}).setdefault(line, []).append(key)
    wanted.pop(b"", None)
    found: dict[str, LogPlace] = {}
    for path in paths if wanted else ():
        for number, raw in _lines(path):
            same_event = wanted.get(stamp_of(raw))
            if same_event is None:
                continue
            for key in same_event.get(decode(raw), ()):
                found.setdefault(key, LogPlace(path, number))
    return found


def stamp_of(line: bytes) -> bytes:
    """Return time and serial of a record, b"" if it has no header."""
    start = line.find(STAMP)
    end = line.find(b")", start, start + MAX_STAMP) if start >= 0 else -1
    return line[start + len(STAMP) : end] if end >= 0 else b""


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with _opened(path) as file:
            yield from enumerate(file, 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        kind = kind_of(file.read(LONGEST_MAGIC))
    if kind is None:
        return path.open("rb")
    if kind.name == "gzip":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if kind.name == "xz":
        return cast(BinaryIO, lzma.open(path, "rb"))
    return cast(BinaryIO, bz2.open(path, "rb")) if kind.name == "bzip2" else path.open("rb")
