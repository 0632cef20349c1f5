"""Taints of evidence, and the stage derived from facts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sepolicyd.access import Access
from sepolicyd.audit.model import LogEventKind
from sepolicyd.rollout.clock import Moment
from sepolicyd.rollout.history import Entry, History, HistoryEvent
from sepolicyd.rollout.learning.taint import Window, annotate, is_own_claim, own_acts, read_records, summary, taints, windows
from sepolicyd.rollout.lease.exercises import ExerciseMark, append, path
from sepolicyd.rollout.lease.lease_records import LeaseBook, LeaseEvent
from sepolicyd.rollout.stage import Rollout, StageFacts, stage_report
from sepolicyd.rules.evidence import Evidence
from sepolicyd.settings import Settings


@dataclass(frozen=True)
class Said:
    at: float
    kind: LogEventKind
    text: str = ""


OPENED = {"what": "opened", "id": "x", "profile": "hub", "wall": 1000.0, "deadline_wall": 4600.0}
HISTORY: list[dict[str, Any]] = [
    {"what": "planned", "id": "x", "profile": "hub", "wall": 970.0},
    OPENED,
    {"what": "renewed", "id": "x", "profile": "hub", "wall": 3000.0, "deadline_wall": 9000.0},
    {"what": "ended", "id": "x", "profile": "hub", "wall": 8000.0, "seconds": 40.0},
    {"what": "opened", "id": "y", "profile": "other", "wall": 9500.0, "deadline_wall": 9900.0},
]


def test_windows_of_one_profile() -> None:
    assert windows(HISTORY, "hub", 20000.0) == (Window(1000.0, 8000.0, lease="x"),)
    assert windows(HISTORY[:3], "hub", 5000.0) == (Window(1000.0, 5000.0, lease="x"),)
    assert windows([{**OPENED, "whole_system": True, "hidden": True}], "hub", 9e9)[0].whole_system


def codes(*said: Said, history: list[dict[str, Any]] = HISTORY) -> list[str]:
    ours = own_acts(history, marks=[2000.0], applies=[6000.0])
    return [taint.code for taint in taints(said, windows(history, "hub", 9e9), ours)]


@pytest.mark.parametrize("at", [985.0, 1000.0, 2001.0, 5980.0, 7970.0])
def test_our_own_loads_are_no_taint(at: float) -> None:
    assert codes(Said(at, LogEventKind.POLICY_LOAD)) == []


def test_another_hand_is() -> None:
    assert codes(Said(4000.0, LogEventKind.POLICY_LOAD), Said(4001.0, LogEventKind.SWITCHED)) == ["T-POLICY", "T-SWITCH"]
    assert codes(Said(500.0, LogEventKind.POLICY_LOAD), Said(8500.0, LogEventKind.SWITCHED)) == []  # no lease was open


@pytest.mark.parametrize("kind", [LogEventKind.LOST, LogEventKind.GAP, LogEventKind.DAMAGED, LogEventKind.AUDITD])
def test_lost_events_taint_even_while_we_act(kind: LogEventKind) -> None:
    assert codes(Said(2001.0, kind)) == ["T-LOST"]


def test_a_whole_system_lease_taints_all_that_it_gathered() -> None:
    history = [{**OPENED, "whole_system": True}]
    assert codes(history=history) == ["T-GLOBAL"]
    evidence = {Access("hub_t", "a_t", "file", "read"): Evidence(count=1, first=1100.0, last=1200.0)}
    found = taints([], windows(history, "hub", 9e9), [])
    (coloured,) = annotate(evidence, found, ["hub_t"]).values()
    assert coloured.taints == ("T-GLOBAL the whole machine was permissive during this lease",)
    early = {access: replace(seen, first=10.0, last=20.0) for access, seen in evidence.items()}
    assert annotate(early, found, ["hub_t"]) == early


def user_avc(sender: str, message: str = "avc:  denied  { send_msg }") -> Evidence:
    raw = f"type=USER_AVC msg=audit(1.2:3): pid=7 uid=0 subj=system_u:system_r:{sender}:s0 msg='{message}'"
    return Evidence(count=1, kinds=("USER_AVC",), samples=(raw,))


def test_what_the_service_says_of_itself_is_a_claim() -> None:
    assert is_own_claim(user_avc("hub_t"), ["hub_t"])
    assert not is_own_claim(user_avc("system_dbusd_t"), ["hub_t"])
    # a sender cannot make another one look guilty, nor itself innocent, by what it writes into the message
    assert not is_own_claim(user_avc("system_dbusd_t", "subj=a:b:hub_t:s0"), ["hub_t"])
    assert is_own_claim(user_avc("hub_t", "subj=a:b:system_dbusd_t:s0"), ["hub_t"])
    kernel_too = replace(user_avc("hub_t"), kinds=("AVC", "USER_AVC"))
    assert not is_own_claim(kernel_too, ["hub_t"])


def test_summary_counts() -> None:
    found = taints([Said(4000.0, LogEventKind.LOST), Said(4100.0, LogEventKind.LOST)], (Window(0.0, 9000.0),), [])
    assert summary(found) == ("T-LOST: events were lost during a lease; repeat that exercise (2 times)",)


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (StageFacts(domains_loaded=False, lease_open=True), Rollout.NEW),
        (StageFacts(domains_loaded=True, unconfined=True, version=3), Rollout.NEW),
        (StageFacts(domains_loaded=True), Rollout.CONFINED),
        (StageFacts(domains_loaded=True, permissive=True, version=2), Rollout.CONFINED),
        (StageFacts(domains_loaded=True, lease_open=True, permissive=True, pending=9, trial_open=True), Rollout.LEARNING),
        (StageFacts(domains_loaded=True, trial_open=True, pending=1), Rollout.TRIAL),
        (StageFacts(domains_loaded=True, pending=1, version=2), Rollout.REVIEWING),
        (StageFacts(domains_loaded=True, unapplied=1), Rollout.REVIEWING),
        (StageFacts(domains_loaded=True, version=1), Rollout.ENFORCED),
    ],
)
def test_states(facts: StageFacts, state: Rollout) -> None:
    found = stage_report(facts)
    assert found.state is state
    assert found.why
    assert found.next.startswith("sepolicyd")


def test_taints_are_found_from_what_lies_in_the_state_directory(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    assert read_records(settings, "hub").taints([Said(5.0, LogEventKind.SWITCHED)]) == ()
    book = LeaseBook(settings.rollout_dir)
    for entry in HISTORY:
        book.record(
            LeaseEvent(entry["what"]),
            Moment(entry["wall"], 1.0, "boot"),
            **{k: v for k, v in entry.items() if k not in ("what", "wall")},
        )
    append(path(settings.state), ExerciseMark("log in", 2000.0, "hub", "x"))
    History(settings.rollout_dir).add(Entry(HistoryEvent.APPLY, "ada", 6000.0))
    remarks = [Said(at, LogEventKind.POLICY_LOAD) for at in (2001.0, 4000.0, 5990.0)]
    assert [(found.at, found.code) for found in read_records(settings, "hub").taints(remarks)] == [(4000.0, "T-POLICY")]
