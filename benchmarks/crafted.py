"""Measure the time per MB for lines crafted to be slow: python -m benchmarks.crafted [--mb N].

Each case is read by the scan, in the daemon's pieces, and by analyze with its dialects. The limit for each is LIMIT.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import Figure
from sepolicyd.audit.dialects.preprocess import Front
from sepolicyd.audit.scan.incremental import IncrementalScan
from sepolicyd.audit.scan.scan_files import scan_stream

LIMIT = 0.5
MB = 1_000_000
PIECE = 1 << 16
HEADER = b"type=AVC msg=audit(1795377193.100:300): "
AVC = b"avc:  denied  { read } for  pid=1 comm="
CONTEXTS = b" scontext=u:r:a_t:s0 tcontext=u:r:b_t:s0 tclass=file permissive=0"
USER = (
    b"type=USER_AVC msg=audit(1795377193.100:300): pid=1 uid=0 auid=1 ses=1 subj=u:r:init_t:s0 "
    b"msg='avc:  denied  { start } for auid=1 "
)


def filled(size: int, before: bytes, filler: bytes, after: bytes = b"\n") -> bytes:
    """Return one line of about this size."""
    count = max(1, (size - len(before) - len(after)) // len(filler))
    return before + filler * count + after


FILLERS = {
    "quotes": b'"',
    "open quotes": b'"a',
    "braces": b"{",
    "brace pairs": b"{}",
    "blanks": b" ",
    "equals": b"=",
    "fields": b"a=1 ",
    "quoted fields": b'a="1"',
    "field without value": b"a= ",
    "marks": b"avc:",
    "decisions": b"avc:  denied  { read } for ",
    "headers": b"type=AVC msg=audit(1.2:3): ",
    "contexts": b"scontext=u:r:a_t:s0 ",
    "apostrophes": b"'",
    "messages": b"msg='",
    "exe": b" exe=/x",
    "hex": b"41",
    "capitals": b"A=A",
    "separators": b"\x1d",
    "escapes": b"#012#035",
    "entities": b"&quot;&nbsp;",
    "backslashes": b"\\xff",
    "not UTF-8": b"\xff",
    "NUL": b"\0",
    "letters": b"a",
    "colons": b"a:",
    "parentheses": b"audit(",
    "JSON": b'{"a":',
    "errors": b"op=security_bounded_transition ",
    "dates": b"audit(01/02/2024 10:11:12.1:2) : ",
}
STARTS = {
    "avc value": HEADER + AVC + b'"',
    "avc field": HEADER + AVC + b'"x" ',
    "avc braces": HEADER + b"avc:  denied  { ",
    "avc behind": HEADER + AVC + b'"x"' + CONTEXTS + b" ",
    "user message": USER,
    "syscall": b"type=SYSCALL msg=audit(1795377193.100:300): arch=c000003e syscall=2 comm=",
    "error": b"type=SELINUX_ERR msg=audit(1795377193.100:300): op=security_compute_sid ",
    "text": b"> ",
    "interpreted": b"type=AVC msg=audit(05/14/2021 05:02:26.078:1964) : avc:  denied  { read } for  pid=1 comm=",
    "journal": b'{"_TRANSPORT": "audit", "MESSAGE": "',
    "alert": b"SELinux is preventing ",
}


def cases(size: int) -> dict[str, bytes]:
    """Return test texts for each start and filler: one long line, lines of maximum length, and many short lines."""
    found = {}
    for start_name, start in STARTS.items():
        for name, filler in FILLERS.items():
            found[f"{start_name}, {name}, one line"] = filled(size, start, filler)
            for length in (60_000, 8_000, 300):
                line = filled(length, start, filler)
                found[f"{start_name}, {name}, lines of {length}"] = line * max(1, size // len(line))
    wrapped = HEADER + AVC + b'"x"\n' + b"name=1 \n" * 11
    found["folded lines that never end"] = wrapped * max(1, size // len(wrapped))
    short = HEADER + b"avc:\n"
    found["headers without a message"] = short * max(1, size // len(short))
    numbered = [HEADER + b"avc: %d\n" % n for n in range(size // 50)]
    found["different headers without a message"] = b"".join(numbered)
    broken = [HEADER + b"avc: %d tclass=\n" % n for n in range(size // 60)]
    found["different broken records of one event"] = b"".join(broken)
    dotted = CONTEXTS.replace(b"tclass=file", b"tclass=")
    unclassed = [HEADER + AVC + b'"c%d"' % n + dotted + b"\n" for n in range(size // 160)]
    found["different records of one event without a class"] = b"".join(unclassed)
    errors = [HEADER.replace(b"AVC", b"SELINUX_ERR") + b"op=setxattr invalid_context=%d\n" % n for n in range(size // 85)]
    found["different errors of one event"] = b"".join(errors)
    dots = [
        HEADER + AVC + b'"c%d" name=a.%d' % (n, n) + CONTEXTS.replace(b"permissive", b"x=1 permissive") + b"\n"
        for n in range(size // 190)
    ]
    found["different records of one event that the expression does not know"] = b"".join(dots)
    call = b'type=SYSCALL msg=audit(1795377193.100:300): arch=c000003e syscall=2 success=no ppid=1 pid=2 comm="x" exe="/x"\n'
    mixed = [dot + call * 3 for dot in dots[: len(dots) // 3]]
    found["different records of one event with many system calls"] = b"".join(mixed)
    distinct = [
        HEADER.replace(b":300", b":%d" % n) + AVC + b'"c%d"' % n + CONTEXTS.replace(b"a_t", b"a%d_t" % n)
        for n in range(size // 190)
    ]
    found["every record another access"] = b"\n".join(distinct) + b"\n"
    return found


def scan(text: bytes) -> None:
    scan_stream(io.BytesIO(text))


def pieces(text: bytes) -> None:
    """Read the text in pieces of whole lines, like the daemon."""
    incremental, start = IncrementalScan(), 0
    while start < len(text):
        end = text.find(b"\n", start + PIECE) + 1 or len(text)
        incremental.feed(text[start:end])
        start = end
    incremental.result()


def analyze(text: bytes) -> None:
    scan_stream(io.BytesIO(text), front=Front())


WAYS: dict[str, Callable[[bytes], None]] = {"scan": scan, "pieces": pieces, "analyze": analyze}


def measure(size: int) -> list[tuple[float, str, str]]:
    """Return (seconds per MB, way, case), the slowest first."""
    found = []
    for name, text in cases(size).items():
        for way, run in WAYS.items():
            begin = time.process_time()
            run(text)
            found.append(((time.process_time() - begin) * MB / len(text), way, name))
    return sorted(found, reverse=True)


def figures(work: Path) -> list[Figure]:
    """The slowest case of each way."""
    found = measure(MB // 4)
    worst = {way: next(one for one in found if one[1] == way) for way in WAYS}
    return [
        Figure(
            f"crafted lines, {len(found) // len(WAYS)} kinds, the slowest: {worst[way][2]}",
            f"python -m benchmarks.crafted ({way})",
            f"{worst[way][0]:.2f} s/MB",
            goal=f"at most {LIMIT} s/MB",
        )
        for way in WAYS
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=float, default=1.0, help="size of each case")
    parser.add_argument("--show", type=int, default=25, help="how many of the slowest are shown")
    given = parser.parse_args()
    found = measure(int(given.mb * MB))
    for seconds, way, name in found[: given.show]:
        print(f"{seconds:7.3f} s/MB  {way:8} {name}")
    for way in WAYS:
        worst = next(one for one in found if one[1] == way)
        print(f"worst of {way}: {worst[0]:.3f} s/MB ({worst[2]})")
    return int(found[0][0] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
