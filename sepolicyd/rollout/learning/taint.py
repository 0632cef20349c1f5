"""Taints: reasons why evidence gathered in a lease is incomplete or unreliable. Taints are shown but block nothing."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional, Protocol

from sepolicyd.access import Access
from sepolicyd.audit.model import LogEventKind
from sepolicyd.problems import ProblemCode
from sepolicyd.rollout.history import History
from sepolicyd.rollout.lease import exercises
from sepolicyd.rollout.lease.lease_records import LeaseBook, LeaseEvent
from sepolicyd.rules.evidence import MAX_KEPT, Evidence
from sepolicyd.settings import Settings

OPENING_S = 120.0  # semodule takes up to 38 s in an emulated guest, and the history line is written afterwards
RELOAD_S = 15.0
# the record's own header, not the message: msg='...' is what the sender wrote
SENDER = re.compile(r"type=(?:USER_AVC|1107) [^']*?\bsubj=[^:\s']+:[^:\s']+:([^:\s']+)")


class TaintCode(ProblemCode):
    """Kind of a taint."""

    CLAIM = ("T-CLAIM", "This access is known only from messages of the confined service itself.", "kernel, AUDIT_USER_AVC")
    GLOBAL = (
        "T-GLOBAL",
        "The whole machine was permissive, so other services could do what the policy normally denies.",
        "setenforce(8)",
    )
    HOST = (
        "T-HOST",
        "Only one host has reported this access: an attack on that host, or its own configuration.",
        "sepolicyd evidence merge",
    )
    LOST = ("T-LOST", "Events were lost or rate-limited during this lease; repeat the exercise.", "auditctl(8), -s")
    POLICY = ("T-POLICY", "Another program loaded a policy during this lease.", "kernel, AUDIT_MAC_POLICY_LOAD")
    SWITCH = ("T-SWITCH", "Another program switched enforcing mode during this lease.", "kernel, AUDIT_MAC_STATUS")


class DatedEvent(Protocol):
    """The attributes of sepolicyd.state.evidence_reader.LogEvent used here. ``text`` is raw log text: escape it for display."""

    @property
    def at(self) -> float: ...

    @property
    def kind(self) -> LogEventKind: ...

    @property
    def text(self) -> str: ...


@dataclass(frozen=True, order=True)
class Window:
    """A lease's wall times, in epoch seconds."""

    start: float
    end: float
    whole_system: bool = False
    hidden: bool = False
    lease: str = ""


@dataclass(frozen=True, order=True)
class Taint:
    """One taint, in epoch seconds."""

    at: float
    until: float
    code: TaintCode
    text: str
    """A sentence that contains no log text."""


def windows(history: Iterable[Mapping[str, Any]], profile: str, now: float) -> tuple[Window, ...]:
    """Return the leases of one profile from the lines of leases.jsonl.

    A lease that has not ended counts up to its deadline or ``now``, whichever is earlier.
    """
    found: dict[str, Window] = {}
    for entry in history:
        if entry.get("profile") != profile:
            continue
        lease, wall, event = str(entry.get("id", "")), float(entry["wall"]), LeaseEvent.of(entry)
        if event is LeaseEvent.OPENED:
            deadline = float(entry.get("deadline_wall", wall))
            found[lease] = Window(wall, deadline, bool(entry.get("whole_system")), bool(entry.get("hidden")), lease)
        elif lease in found and event is LeaseEvent.RENEWED:
            found[lease] = replace(found[lease], end=float(entry.get("deadline_wall", wall)))
        elif lease in found and event is LeaseEvent.ENDED:
            found[lease] = replace(found[lease], end=wall)
    return tuple(sorted(replace(window, end=max(window.start, min(window.end, now))) for window in found.values()))


def own_acts(
    history: Iterable[Mapping[str, Any]], marks: Iterable[float], applies: Iterable[float] = ()
) -> list[tuple[float, float]]:
    """Return the wall-time spans in which sepolicyd itself loaded a policy or switched enforcing mode.

    :param history: lines of leases.jsonl
    :param marks: start times of exercises (each start reloads the policy)
    :param applies: end times of applies
    """
    spans = [(float(mark) - RELOAD_S, float(mark) + RELOAD_S) for mark in marks]
    spans += [(float(end) - OPENING_S, float(end) + RELOAD_S) for end in applies]
    for entry in history:
        wall, event = float(entry["wall"]), LeaseEvent.of(entry)
        if event in {LeaseEvent.PLANNED, LeaseEvent.OPENED}:
            spans.append((wall - RELOAD_S, wall + (OPENING_S if event is LeaseEvent.PLANNED else RELOAD_S)))
        elif event in {LeaseEvent.ENDED, LeaseEvent.END_FAILED, LeaseEvent.ENFORCED}:
            spans.append((wall - float(entry.get("seconds", 0.0)) - RELOAD_S, wall + RELOAD_S))
    return spans


def taints(events: Iterable[DatedEvent], leases: Sequence[Window], own: Sequence[tuple[float, float]]) -> tuple[Taint, ...]:
    """Return the taints of evidence gathered in these leases, sorted by time.

    :param own: time spans of policy loads and mode switches by sepolicyd itself
    """
    found = [
        Taint(window.start, window.end, TaintCode.GLOBAL, "the whole machine was permissive during this lease")
        for window in leases
        if window.whole_system
    ]
    for event in events:
        if not any(window.start <= event.at <= window.end for window in leases):
            continue
        if event.kind.is_loss:
            found.append(Taint(event.at, event.at, TaintCode.LOST, "events were lost during a lease; repeat that exercise"))
        elif any(start <= event.at <= end for start, end in own):
            continue
        elif event.kind is LogEventKind.POLICY_LOAD:
            found.append(Taint(event.at, event.at, TaintCode.POLICY, "another program loaded a policy during a lease"))
        elif event.kind.is_switch:
            found.append(Taint(event.at, event.at, TaintCode.SWITCH, "another program switched enforcing mode during a lease"))
    return tuple(sorted(set(found)))


@dataclass(frozen=True)
class LearningRecords:
    """Times of a profile's leases and of sepolicyd's own policy changes, read once per command."""

    leases: tuple[Window, ...] = ()
    own_acts: tuple[tuple[float, float], ...] = ()

    def taints(self, events: Iterable[DatedEvent]) -> tuple[Taint, ...]:
        """Return the taints of the evidence gathered in the leases.

        :param events: log events that the daemon recorded along with the evidence
        """
        return taints(events, self.leases, self.own_acts)


def read_records(settings: Settings, profile: str, *, now: Optional[float] = None) -> LearningRecords:
    """Read the histories of leases and applies. The result is empty unless the caller is root.

    :param now: wall time, default: the present
    :raises StateError: a history cannot be read
    """
    if not os.access(settings.rollout_dir, os.X_OK):
        return LearningRecords()
    history = LeaseBook(settings.rollout_dir).history()
    marks = [mark.epoch for mark in exercises.read(exercises.path(settings.state)) if mark.profile == profile]
    applies = [entry.at for entry in History(settings.rollout_dir).entries()]
    leases = windows(history, profile, time.time() if now is None else now)
    return LearningRecords(leases, tuple(own_acts(history, marks, applies)))


def is_own_claim(seen: Evidence, domains: Iterable[str]) -> bool:
    """Tell whether an access is known from USER_AVC only, and the service itself sent one of the kept samples."""
    if seen.kinds != ("USER_AVC",):
        return False
    own = frozenset(domains)
    return any(match.group(1) in own for sample in seen.samples for match in SENDER.finditer(sample))


def annotate(
    evidence: Mapping[Access, Evidence], found: Sequence[Taint], domains: Iterable[str], *, hosts: int = 0
) -> dict[Access, Evidence]:
    """Return the evidence, with the taints between first and last sighting added to each access.

    :param hosts: the number of hosts whose evidence was merged, 0 for evidence of this machine alone
    """
    own = tuple(domains)
    annotated = {}
    for access, seen in evidence.items():
        texts = {f"{taint.code} {taint.text}" for taint in found if taint.at <= seen.last and seen.first <= taint.until}
        if is_own_claim(seen, own):
            texts.add(f"{TaintCode.CLAIM} the confined service itself reported this")
        if seen.hosts == 1 and hosts > 1:
            texts.add(f"{TaintCode.HOST} only one of {hosts} hosts reported this")
        merged = tuple(sorted({*seen.taints, *texts})[:MAX_KEPT])
        annotated[access] = replace(seen, taints=merged) if merged != seen.taints else seen
    return annotated


def summary(found: Sequence[Taint]) -> tuple[str, ...]:
    """Return one sentence for each code and text, with its count."""
    counts: dict[str, int] = {}
    for taint in found:
        key = f"{taint.code}: {taint.text}"
        counts[key] = counts.get(key, 0) + 1
    return tuple(f"{text} ({count} times)" if count > 1 else text for text, count in sorted(counts.items()))
