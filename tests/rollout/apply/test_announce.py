"""Policy changes of this machine are announced with their message id; changes below another root are not."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from sepolicyd.kernel.journal import MessageId, Priority
from sepolicyd.rollout.apply import announce
from sepolicyd.rollout.history import HistoryEvent
from sepolicyd.settings import Settings

LIVE, ELSEWHERE = Settings(), Settings(root=Path("/nonexistent"))
APPLY: dict[str, Any] = {
    "kind": "apply",
    "module": "sepolicyd_hub",
    "from": 0,
    "to": 1,
    "by": "ada",
    "at": 1_800_000_000.0,
    "history": {"gained": ["a", "b"], "lost": [], "confirm_within": 600},
}


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[tuple[MessageId, str, str]]:
    heard: list[tuple[MessageId, str, str]] = []

    def send(text: str, priority: Priority, message: MessageId, *, profile: str = "") -> None:
        heard.append((message, text, profile))

    monkeypatch.setattr(announce, "send", send)
    return heard


def test_an_apply_on_trial_is_two_messages(journal: list[tuple[MessageId, str, str]]) -> None:
    announce.announce_change(LIVE, APPLY)
    assert journal == [
        (MessageId.POLICY_APPLIED, "sepolicyd_hub went from version none to 1 by ada: 2 accesses gained, 0 lost", "hub"),
        (
            MessageId.TRIAL_STARTED,
            "version 1 of sepolicyd_hub is on trial until 2027-01-15 08:10:00 UTC; ada asked for it",
            "hub",
        ),
    ]


@pytest.mark.parametrize(
    ("kind", "message"),
    [("rollback", MessageId.POLICY_ROLLED_BACK), ("return", MessageId.TRIAL_RETURNED)],
)
def test_a_return_names_the_reason(journal: list[tuple[MessageId, str, str]], kind: str, message: MessageId) -> None:
    history = {"reason": "ticket 7", "added_rules": [1], "dropped_rules": [1, 2]}
    announce.announce_change(LIVE, {**APPLY, "kind": kind, "from": 2, "history": history})
    assert [one[:2] for one in journal] == [
        (message, "sepolicyd_hub went from version 2 to 1 by ada (ticket 7): 1 rules added, 2 removed")
    ]


def test_another_root_and_another_versions_word_are_silent(journal: list[tuple[MessageId, str, str]]) -> None:
    announce.announce_change(ELSEWHERE, APPLY)
    announce.announce_change(LIVE, {**APPLY, "kind": "of a later version"})
    announce.announce(ELSEWHERE, "x", MessageId.TRIAL_NOT_RETURNED)
    assert journal == []


@pytest.mark.parametrize(
    ("settings", "unit", "written"),
    [(LIVE, "", "sepolicyd: x\n"), (LIVE, "1", ""), (ELSEWHERE, "1", "<2>sepolicyd: x\n"), (ELSEWHERE, "", "sepolicyd: x\n")],
)
def test_stderr_repeats_nothing_that_the_journal_has(
    settings: Settings, unit: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    if unit:
        monkeypatch.setenv("INVOCATION_ID", unit)
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    announce.say_in_unit(settings, "x", Priority.CRITICAL)
    assert stderr.getvalue() == written


def test_every_recorded_change_has_a_message() -> None:
    """CONFIRM is announced where it is written; OTHER is of another version."""
    assert set(HistoryEvent) - set(announce.MESSAGES) == {HistoryEvent.CONFIRM, HistoryEvent.OTHER}
