"""Find the lines of log files that hold given audit records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepolicyd.audit.parse.record import decode
from sepolicyd.audit.scan.decompress import LONGEST_MAGIC, Unpacked, kind_of
from sepolicyd.audit.scan.scan_files import line_blocks

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
    """Yield (number, line) up to the end of a file or its first damage, within the memory limits of a scan."""
    number = 0
    try:
        with path.open("rb") as file:
            start = file.read(LONGEST_MAGIC)
            kind = kind_of(start)
            is_packed = kind is not None and kind.unpacker is not None
            blocks = line_blocks(b"", Unpacked(kind, start, file)) if kind and is_packed else line_blocks(start, file)
            for block in blocks:
                for line in block.removesuffix(b"\n").split(b"\n"):
                    number += 1
                    yield number, line
    except OSError:
        return
