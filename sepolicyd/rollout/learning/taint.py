"""Remarks of the log and the history of leases in, what makes evidence less than whole out; it is shown and blocks nothing.

T-LOST    events were lost or rate-limited, so that something needed may be missing
T-POLICY  a policy was loaded by another hand during a lease: what was denied before and after is not the same question
T-SWITCH  enforcing was switched by another hand during a lease
T-GLOBAL  the whole machine was permissive when it was seen: denials of others, and of what only then could go on
T-CLAIM   a USER_AVC that the confined service wrote itself: its own claim, not an observation
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sepolicyd.access import Access
from sepolicyd.audit.model import LogEventKind
from sepolicyd.rules.evidence import MAX_KEPT, Evidence

OPENING_S = 120.0  # a semodule of ours takes 38 s in an emulated guest; the record is written after it
RELOAD_S = 15.0
# the record's own header, not the message: msg='...' is what the sender wrote
SENDER = re.compile(r"type=(?:USER_AVC|1107) [^']*?\bsubj=[^:\s']+:[^:\s']+:([^:\s']+)")


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
    """Wall times between which a lease was open."""

    start: float
    end: float
    whole_system: bool = False
    hidden: bool = False
    lease: str = ""


@dataclass(frozen=True, order=True)
class Taint:
    """``at`` to ``until`` in epoch seconds; ``text`` is a sentence of ours without words from the log."""

    at: float
    until: float
    code: str
    text: str


def windows(history: Iterable[Mapping[str, Any]], profile: str, now: float) -> tuple[Window, ...]:
    """The leases of one profile out of leases.jsonl; one that has not ended counts to its deadline, or to now."""
    found: dict[str, Window] = {}
    for entry in history:
        if entry.get("profile") != profile:
            continue
        lease, wall = str(entry.get("id", "")), float(entry["wall"])
        if entry.get("what") == "opened":
            deadline = float(entry.get("deadline_wall", wall))
            found[lease] = Window(wall, deadline, bool(entry.get("whole_system")), bool(entry.get("hidden")), lease)
        elif lease in found and entry.get("what") == "renewed":
            found[lease] = replace(found[lease], end=float(entry.get("deadline_wall", wall)))
        elif lease in found and entry.get("what") == "ended":
            found[lease] = replace(found[lease], end=wall)
    return tuple(sorted(replace(window, end=max(window.start, min(window.end, now))) for window in found.values()))


def own_acts(
    history: Iterable[Mapping[str, Any]], marks: Iterable[float], applies: Iterable[float] = ()
) -> list[tuple[float, float]]:
    """Wall-time spans in which a policy load or a switch was ours: opening, ending, marks, and applies (times of their end)."""
    spans = [(float(mark) - RELOAD_S, float(mark) + RELOAD_S) for mark in marks]
    spans += [(float(end) - OPENING_S, float(end) + RELOAD_S) for end in applies]
    for entry in history:
        wall = float(entry["wall"])
        if entry.get("what") in {"planned", "opened"}:
            spans.append((wall - RELOAD_S, wall + (OPENING_S if entry["what"] == "planned" else RELOAD_S)))
        elif entry.get("what") in {"ended", "end failed", "enforced"}:
            spans.append((wall - float(entry.get("seconds", 0.0)) - RELOAD_S, wall + RELOAD_S))
    return spans


def taints(remarks: Iterable[DatedEvent], leases: Sequence[Window], ours: Sequence[tuple[float, float]]) -> tuple[Taint, ...]:
    """Everything that spoils evidence gathered in these leases, by time."""
    found = [
        Taint(window.start, window.end, "T-GLOBAL", "the whole machine was permissive during this lease")
        for window in leases
        if window.whole_system
    ]
    for remark in remarks:
        if not any(window.start <= remark.at <= window.end for window in leases):
            continue
        if remark.kind.is_loss:
            found.append(Taint(remark.at, remark.at, "T-LOST", "events were lost during a lease; repeat that exercise"))
        elif any(start <= remark.at <= end for start, end in ours):
            continue
        elif remark.kind is LogEventKind.POLICY_LOAD:
            found.append(Taint(remark.at, remark.at, "T-POLICY", "another hand loaded a policy during a lease"))
        elif remark.kind.is_switch:
            found.append(Taint(remark.at, remark.at, "T-SWITCH", "another hand switched enforcing during a lease"))
    return tuple(sorted(set(found)))


def is_own_claim(seen: Evidence, domains: Iterable[str]) -> bool:
    """Whether all that speaks for an access is USER_AVC, and a kept sample was written by a domain of the service itself."""
    if seen.kinds != ("USER_AVC",):
        return False
    own = frozenset(domains)
    return any(match.group(1) in own for sample in seen.samples for match in SENDER.finditer(sample))


def annotate(evidence: Mapping[Access, Evidence], found: Sequence[Taint], domains: Iterable[str]) -> dict[Access, Evidence]:
    """The same evidence, each with the taints that touch the time between its first and last sighting."""
    own = tuple(domains)
    coloured = {}
    for access, seen in evidence.items():
        texts = {f"{taint.code} {taint.text}" for taint in found if taint.at <= seen.last and seen.first <= taint.until}
        if is_own_claim(seen, own):
            texts.add("T-CLAIM the confined service itself reported this")
        merged = tuple(sorted({*seen.taints, *texts})[:MAX_KEPT])
        coloured[access] = replace(seen, taints=merged) if merged != seen.taints else seen
    return coloured


def summary(found: Sequence[Taint]) -> tuple[str, ...]:
    """One sentence for each code and text, with how often."""
    counts: dict[str, int] = {}
    for taint in found:
        key = f"{taint.code}: {taint.text}"
        counts[key] = counts.get(key, 0) + 1
    return tuple(f"{text} ({count} times)" if count > 1 else text for text, count in sorted(counts.items()))
