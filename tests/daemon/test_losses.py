"""Losses are announced at most once per minute, with their number; a backlog or a copied log is not announced."""

from __future__ import annotations

from pathlib import Path

from sepolicyd import profiles
from sepolicyd.daemon.losses import PAUSE_SECONDS, LossReporter
from sepolicyd.daemon.service import Daemon
from sepolicyd.kernel.journal import MessageId, Priority
from sepolicyd.rules.attribution.matcher import Matcher
from sepolicyd.settings import Settings
from sepolicyd.state.evidence_store import EvidenceStore
from tests.audit.follow.writer import event
from tests.paths import POLICIES

LOST = b"Nov 25 09:00:00 hub kernel: audit: audit_lost=7 audit_rate_limit=0 audit_backlog_limit=64\n"


class Heard:
    def __init__(self) -> None:
        self.messages: list[tuple[MessageId, str]] = []
        self.reporter = LossReporter("hub", self._say)

    def _say(self, text: str, priority: Priority, message: MessageId) -> None:
        assert priority is Priority.WARNING
        self.messages.append((message, text))


def test_one_message_a_minute_with_the_number_of_all() -> None:
    heard = Heard()
    heard.reporter.report({"lost": 2}, 100.0)
    for second in range(10):
        heard.reporter.report({"lost": 1}, 101.0 + second)
    heard.reporter.report({}, 100.0 + PAUSE_SECONDS)
    heard.reporter.report({}, 200.0 + PAUSE_SECONDS)
    assert [message for message, _ in heard.messages] == [MessageId.EVENTS_LOST] * 2
    assert "2 times" in heard.messages[0][1]
    assert "10 times" in heard.messages[1][1]


def test_a_gap_is_a_message_of_its_own() -> None:
    heard = Heard()
    heard.reporter.report({"lost": 1, "gaps": 1}, 0.0)
    assert [message for message, _ in heard.messages] == [MessageId.EVENTS_LOST, MessageId.LOG_GAP]


def test_nothing_lost_nothing_said() -> None:
    heard = Heard()
    heard.reporter.report({"lost": 0, "lines": 9}, 0.0)
    assert heard.messages == []


def test_the_daemon_announces_what_comes_and_not_what_it_catches_up(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(b"".join(event(1)) + LOST)
    heard = Heard()
    profile = profiles.load("jupyterhub", (POLICIES,))
    store = EvidenceStore(tmp_path / "evidence/evidence.db", profile.name)
    daemon = Daemon(Settings(log=log), store, Matcher(profile), losses=heard.reporter)
    try:
        daemon.start(once=True)
        daemon.catch_up()
        assert store.counts["lost"] == 1
        assert heard.messages == []
        daemon.turn()
        with log.open("ab") as file:
            file.write(LOST)
        daemon.catch_up()
        assert [message for message, _ in heard.messages] == [MessageId.EVENTS_LOST]
    finally:
        daemon.close()
        store.close()
