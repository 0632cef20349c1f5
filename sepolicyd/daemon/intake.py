"""Lines of the log in, a Batch to be saved out: scanned, matched to the profile, folded, and what colours them remarked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Optional, Protocol

from sepolicyd.access import Access, is_identifier
from sepolicyd.audit.follow.logfile import event_of
from sepolicyd.audit.model import Denial, LogEventKind, Notice, Sighting, Unparsed, UnparsedReason
from sepolicyd.audit.scan.incremental import IncrementalScan
from sepolicyd.rules.attribution.matcher import Match
from sepolicyd.rules.evidence import evidence_of
from sepolicyd.state.evidence_reader import LogEvent
from sepolicyd.state.evidence_store import Batch

MAX_UNPARSED = 200

# A policy load, a boolean or a switch of enforcing flushes the kernel's access cache, after which each access is logged
# anew: what lies before and after it must not be folded into one sighting, or an exercise in between would be lost.
FLUSH = b"type=MAC_"
FLUSHES = (b"POLICY_LOAD", b"STATUS", b"CONFIG_CHANGE")
# kernel/audit.c audit_log_lost and audit_log_start ("rate limit exceeded", "backlog limit exceeded"), by printk only
LOSSES = (b"audit_lost=", b" limit exceeded")
AUDITD = b"type=DAEMON_"
AUDITD_TELLS = (b"START", b"END", b"ABORT", b"ERR", b"RESUME")
MAX_REMARKS_OF_A_CHUNK = 100


class DenialMatcher(Protocol):
    """What the daemon needs of rules.match.Matcher."""

    def match(self, denial: Denial) -> Optional[Match]: ...


class Intake:
    """Lines in, a Batch out. What is alike is told apart and matched once for all lines since the last :meth:`settle`."""

    def __init__(self, matcher: DenialMatcher) -> None:
        self._matcher = matcher
        self._pieces = IncrementalScan()
        self.batch = Batch()

    def feed(self, text: bytes) -> None:
        """Take whole lines."""
        _remark_losses(text, self.batch)
        parts = _between_flushes(text)
        for number, part in enumerate(parts):
            if number:
                self._fold()
            self._pieces.feed(part)

    def settle(self) -> Batch:
        """Everything fed so far, matched and folded."""
        self._fold()
        return self.batch

    def _fold(self) -> None:
        if not self._pieces:
            return
        result, self._pieces = self._pieces.result(), IncrementalScan()
        counts = self.batch.counts
        for name in ("lines", "events", "denials", "granted", "notices", "other"):
            counts[name] += getattr(result, name)
        counts["unparsed"] += result.unparsed_count
        self.batch.unparsed.extend(result.unparsed[: MAX_UNPARSED - len(self.batch.unparsed)])
        self.batch.remarks.extend(filter(None, map(_remark, result.notice_list)))
        for sighting in sorted(result.sightings, key=lambda seen: seen.first):
            self._match(sighting)

    def _match(self, sighting: Sighting) -> None:
        match = self._matcher.match(sighting.denial)
        if match is None:
            self.batch.ignore(sighting.denial.scontext.type, sighting.count)
            return
        self.batch.counts["matched"] += sighting.count
        accesses = [access for access in sighting.denial.accesses() if _is_nameable(access, sighting, self.batch)]
        self.batch.add(accesses, match.role, evidence_of(sighting, role=match.role, reason=match.reason))


def _is_nameable(access: Access, sighting: Sighting, batch: Batch) -> bool:
    names = (access.source, access.target, access.tclass, access.permission)
    if all(map(is_identifier, names)):
        return True
    batch.counts["unparsed"] += sighting.count
    batch.unparsed.append(Unparsed(0, UnparsedReason.BAD_NAME, "\n".join(sighting.denial.raw)))
    return False


def _between_flushes(text: bytes) -> list[bytes]:
    starts = [0]
    at = text.find(FLUSH)
    while at >= 0:
        start = text.rfind(b"\n", 0, at) + 1
        # at the line's beginning, where no service writes
        if start > starts[-1] and text.startswith(FLUSHES, at + len(FLUSH)) and b"msg=" not in text[start:at]:
            starts.append(start)
        at = text.find(FLUSH, at + 1)
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)])]


def _remark(notice: Notice) -> Optional[LogEvent]:
    """The kernel's own notices; each user-space object manager tells of the same load once more."""
    if not notice.type.startswith(("MAC_", "14")):
        return None
    return LogEvent(notice.event.seconds, notice.kind, notice.text)


def _remark_losses(text: bytes, batch: Batch) -> None:
    """Events that the kernel says it has lost, and the times at which auditd did not run.

    A service may write these words into a name or a comm; the kernel and auditd write them before any value.
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
    """(line, where the mark is in it) for the first lines that have it."""
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
