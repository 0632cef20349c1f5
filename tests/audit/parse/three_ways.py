"""All ways to read a log: analyze, the whole scan, the daemon's pieces, and record by record."""

from __future__ import annotations

import io
from collections import Counter

from sepolicyd.access import Access
from sepolicyd.audit.scan.incremental import IncrementalScan
from sepolicyd.audit.scan.scan_files import ScanResult, scan_stream
from tests.audit.parse.reading import read_text
from tests.audit.scan.reference import by_records

Row = tuple[str, str, str, str]


def whole(text: bytes) -> ScanResult:
    return scan_stream(io.BytesIO(text))


def in_pieces(text: bytes, lines: int = 1) -> ScanResult:
    """As the daemon reads: a few lines at a time."""
    scan, every = IncrementalScan(), list(io.BytesIO(text))
    for at in range(0, len(every), lines):
        scan.feed(b"".join(every[at : at + lines]))
    return scan.result()


def rows(result: ScanResult) -> Counter[Row]:
    found: Counter[Row] = Counter()
    for seen in result.sightings:
        for access in seen.denial.accesses():
            found[(access.source, access.target, access.tclass, access.permission)] += seen.count
    for rest in result.remainders:
        for permission, tally in rest.tallies.items():
            one = Access.of(rest.example.scontext.type, rest.example.tcontext.type, rest.example.tclass, permission)
            found[(one.source, one.target, one.tclass, one.permission)] += tally.count
    return found


def rows_by_records(text: bytes) -> Counter[Row]:
    found: Counter[Row] = Counter()
    for denial in by_records(text).denials:
        for access in denial.accesses():
            found[(access.source, access.target, access.tclass, access.permission)] += 1
    return found


def every_way(text: bytes) -> Counter[Row]:
    """The accesses, asserted to be the same each way."""
    expected = rows_by_records(text)
    assert rows(whole(text)) == expected
    assert rows(read_text(text)) == expected
    for lines in (1, 3):
        assert rows(in_pieces(text, lines)) == expected
    return expected


def attempts(text: bytes) -> int:
    return sum(line.attempt for line in whole(text).unparsed)
