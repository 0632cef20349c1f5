"""Turn lines of the audit log into a batch of evidence: scan, attribute, and record events that limit the evidence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Optional

from sepolicyd.audit.follow.rotated_file import event_of
from sepolicyd.audit.model import LogEventKind, Notice
from sepolicyd.audit.scan.incremental import IncrementalScan
from sepolicyd.rules.attribution.gather_evidence import attribute
from sepolicyd.rules.attribution.matcher_interface import DenialMatcher
from sepolicyd.state.evidence_reader import LogEvent
from sepolicyd.state.evidence_store import Batch

# A policy load, a boolean change or a mode switch flushes the kernel's access vector cache, after which each access is logged
# again. Denials before and after it must not be merged into one sighting, or an exercise in between would be lost.
FLUSH = b"type=MAC_"
FLUSHES = (b"POLICY_LOAD", b"STATUS", b"CONFIG_CHANGE")
# kernel/audit.c audit_log_lost and audit_log_start ("rate limit exceeded", "backlog limit exceeded"), by printk only
LOSSES = (b"audit_lost=", b" limit exceeded")
AUDITD = b"type=DAEMON_"
AUDITD_TELLS = (b"START", b"END", b"ABORT", b"ERR", b"RESUME")
MAX_REMARKS_OF_A_CHUNK = 100


class Intake:
    """Turns lines of the log into a Batch. Similar denials are counted together and attributed once per :meth:`settle`."""

    def __init__(self, matcher: DenialMatcher) -> None:
        self._matcher = matcher
        self._scan = IncrementalScan()
        self.batch = Batch()

    def feed(self, text: bytes) -> None:
        """Process whole lines."""
        _remark_losses(text, self.batch)
        for number, part in enumerate(_between_flushes(text)):
            if number:
                self._attribute()
            self._scan.feed(part)

    def settle(self) -> Batch:
        """Return the batch of everything fed since the last save, attributed."""
        self._attribute()
        return self.batch

    def _attribute(self) -> None:
        if not self._scan:
            return
        result, self._scan = self._scan.result(), IncrementalScan()
        batch = self.batch
        for name in ("lines", "denials", "granted", "notices", "other", "attempts"):
            batch.counts[name] += getattr(result, name)
        batch.counts["unparsed"] += result.unparsed_count
        batch.counts["imitations"] += result.imitation_count
        batch.keep_unparsed((*result.unparsed, *result.imitations))
        for source, count in result.attempt_sources.items():
            batch.attempt(source, count)
        batch.remarks.extend(filter(None, map(_remark, result.notice_list)))
        attributed = attribute(result, self._matcher)
        batch.counts["matched"] += attributed.matched
        for source, count in attributed.foreign.items():
            batch.ignore(source, count)
        for source, count in result.overflow.items():
            batch.drop(source, count)
        for (access, role), seen in attributed.by_role.items():
            batch.add(access, role, seen)


def _between_flushes(text: bytes) -> list[bytes]:
    starts = [0]
    at = text.find(FLUSH)
    while at >= 0:
        start = text.rfind(b"\n", 0, at) + 1
        # at the beginning of a line, which no service can write
        if start > starts[-1] and text.startswith(FLUSHES, at + len(FLUSH)) and b"msg=" not in text[start:at]:
            starts.append(start)
        at = text.find(FLUSH, at + 1)
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)])]


def _remark(notice: Notice) -> Optional[LogEvent]:
    """Return the event of a notice from the kernel, None for the copies that user-space object managers write."""
    if not notice.type.startswith(("MAC_", "14")):
        return None
    return LogEvent(notice.event.seconds, notice.kind, notice.text)


def _remark_losses(text: bytes, batch: Batch) -> None:
    """Record events lost by the kernel, and starts and stops of auditd.

    A service may put these words into a name or a comm; the kernel and auditd write them before any value.
    """
    for mark in LOSSES:
        for line, at in _lines_with(text, mark):
            if b"audit: " in line[:at] and b"type=" not in line[:at]:
                batch.counts["lost"] += 1
                batch.remarks.append(LogEvent(time.time(), LogEventKind.LOST, line.decode(errors="replace")))
    for line, at in _lines_with(text, AUDITD):
        if b"msg=" not in line[:at] and line[at + len(AUDITD) :].startswith(AUDITD_TELLS):
            batch.remarks.append(LogEvent(_seconds(line), LogEventKind.AUDITD, line.decode(errors="replace")))


def _lines_with(text: bytes, mark: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield (line, offset of the mark) for the first lines that contain the mark."""
    at = text.find(mark)
    for _ in range(MAX_REMARKS_OF_A_CHUNK):
        if at < 0:
            return
        start, end = text.rfind(b"\n", 0, at) + 1, text.find(b"\n", at)
        end = end if end >= 0 else len(text)
        yield text[start:end], at - start
        at = text.find(mark, end)


def _seconds(line: bytes) -> float:
    found = event_of(line)
    return found[0] if found else time.time()
