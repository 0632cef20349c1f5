"""Values that imitate an audit record: names, arguments and titles that hold ``scontext=``.

Such values never become an access. They are counted, because only a process that tries to forge a record writes them. The
kernel writes a value with a space or a quote in hexadecimal and every other value verbatim in quotes, so the key of a real
context always follows a space (audit_log_untrustedstring in kernel/audit.c).
"""

from __future__ import annotations

import re
from collections import Counter

from sepolicyd.audit.model import Unparsed, UnparsedReason
from sepolicyd.audit.parse.attempt_source import source_of_event
from sepolicyd.audit.parse.record import MAX_TEXT
from sepolicyd.audit.scan.access_samples import Detail
from sepolicyd.audit.scan.event_records import event_of, line_end

MAX_LISTED = 1000
MAX_EVENTS = 4096
KEY, SPACED, HEX = b"scontext=", b" scontext=", b"scontext=".hex().upper().encode()
_HEADER = re.compile(rb"(?:node=[^ \n]+ )?type=[A-Z0-9_]+ msg=audit\(([0-9.]+:[0-9]+)\)")


class Imitations:
    """Imitations in the blocks of a log; each event counts once."""

    def __init__(self) -> None:
        self.count = 0
        self.sources: Counter[str] = Counter()
        """Count by type of the process; "" where the event does not name it."""
        self.lines: list[Unparsed] = []
        self._events: dict[bytes, None] = {}

    def block(self, before: bytes, block: bytes, after: bytes) -> None:
        """Scan one block of whole lines, with its neighbours."""
        places = []
        if block.count(KEY) != block.count(SPACED):
            places += [at for at in _places(block, KEY) if at and block[at - 1] != SPACED[0]]
        if HEX in block:
            places += _places(block, HEX)
        for at in sorted(places):
            start = block.rfind(b"\n", 0, at) + 1
            header = _HEADER.match(block, start)
            # messages of object managers with two contexts are counted as unparsed lines
            if header is None or (b"msg='" in block[start:at] and b"avc:" in block[start:at]):
                continue
            if header[1] not in self._events:
                self._add(header[1], block[start : line_end(block, at)], (before, block, after), start)

    def _add(self, stamp: bytes, line: bytes, blocks: tuple[bytes, bytes, bytes], start: int) -> None:
        if len(self._events) >= MAX_EVENTS:
            del self._events[next(iter(self._events))]
        self._events[stamp] = None
        self.count += 1
        if len(self.lines) >= MAX_LISTED:
            self.sources[""] += 1
            return
        source = source_of_event(event_of(*blocks, start, Detail.EVENT))
        self.sources[source] += 1
        text = line[:MAX_TEXT].decode(errors="surrogateescape")
        self.lines.append(Unparsed(0, UnparsedReason.IMITATION, text, source=source))


def _places(block: bytes, needle: bytes) -> list[int]:
    found, at = [], block.find(needle)
    while at >= 0:
        found.append(at)
        at = block.find(needle, line_end(block, at))  # one per line is enough
    return found
