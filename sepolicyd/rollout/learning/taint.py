"""Taints: reasons why evidence gathered in a lease is less than whole. A taint is shown; it blocks nothing."""

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

OPENING_S = 120.0  # opening takes semodule 38 s in an emulated guest; the line is written after it
RELOAD_S = 15.0
# the record's own header, not the message: msg='...' is what the sender wrote
SENDER = re.compile(r"type=(?:USER_AVC|1107) [^']*?\bsubj=[^:\s']+:[^:\s']+:([^:\s']+)")


class TaintCode(ProblemCode):
    """What makes evidence less than whole."""

    CLAIM = ("T-CLAIM", "The only witness of this access is the confined service itself.", "kernel, AUDIT_USER_AVC")
    GLOBAL = ("T-GLOBAL", "While the whole machine is permissive, others do what they normally cannot.", "setenforce(8)")
    HOST = ("T-HOST", "One host alone has claimed this: an attack on it, or its own configuration.", "sepolicyd evidence merge")
    LOST = ("T-LOST", "Events were lost or rate-limited while this was learnt; repeat the exercise.", "auditctl(8), -s")
    POLICY = ("T-POLICY", "Another program loaded a policy while this was learnt.", "kernel, AUDIT_MAC_POLICY_LOAD")
    SWITCH = ("T-SWITCH", "Another program switched enforcing while this was learnt.", "kernel, AUDIT_MAC_STATUS")


class DatedEvent(Protocol):
    """What taint needs of sepolicyd.state.evidence_reader.LogEvent; ``text`` is from the log: escape it before display."""

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
    """A sentence without words from the log."""


def windows(history: Iterable[Mapping[str, Any]], profile: str, now: float) -> tuple[Window, ...]:
    """Return the leases of one profile from the lines of leases.jsonl. One that has not ended counts to its deadline, or to
    ``now`` if that is earlier."""
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
    """Return the wall-time spans in which a policy load or a switch was sepolicyd's own.

    :param history: lines of leases.jsonl
    :param marks: when exercises began (each reloads the policy)
    :param applies: when applies ended
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
    """Return what taints evidence gathered in these leases, by time.

    :param own: spans of sepolicyd's own loads and switches
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
            found.append(Taint(event.at, event.at, TaintCode.SWITCH, "another program switched enforcing during a lease"))
    return tuple(sorted(set(found)))


@dataclass(frozen=True)
class LearningRecords:
    """When the leases of a profile were open and when sepolicyd itself changed the policy, read once for one command."""

    leases: tuple[Window, ...] = ()
    own_acts: tuple[tuple[float, float], ...] = ()

    def taints(self, events: Iterable[DatedEvent]) -> tuple[Taint, ...]:
        """Return what taints evidence gathered in the leases.

        :param events: what the daemon recorded beside the evidence
        """
        return taints(events, self.leases, self.own_acts)


def read_records(settings: Settings, profile: str, *, now: Optional[float] = None) -> LearningRecords:
    """Read the histories. Empty where the caller may not read when leases were open (only root may).

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
    """Tell whether an access is known from USER_AVC alone, and a kept sample was written by a domain of the service itself."""
    if seen.kinds != ("USER_AVC",):
        return False
    own = frozenset(domains)
    return any(match.group(1) in own for sample in seen.samples for match in SENDER.finditer(sample))


def annotate(
    evidence: Mapping[Access, Evidence], found: Sequence[Taint], domains: Iterable[str], *, hosts: int = 0
) -> dict[Access, Evidence]:
    """Return the evidence, each access with the taints between its first and last sighting.

    :param hosts: the number of hosts whose evidence was merged, 0 for one machine's own
    """
    own = tuple(domains)
    annotated = {}
    for access, seen in evidence.items():
        texts = {f"{taint.code} {taint.text}" for taint in found if taint.at <= seen.last and seen.first <= taint.until}
        if is_own_claim(seen, own):
            texts.add(f"{TaintCode.CLAIM} the confined service itself reported this")
        if seen.hosts == 1 and hosts > 1:
            texts.add(f"{TaintCode.HOST} one of {hosts} hosts alone has claimed this")
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
