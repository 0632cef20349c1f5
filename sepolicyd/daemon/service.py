"""The daemon: follow the audit log, attribute denials to the service, and store evidence. Runs without root."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Optional

import structlog

from sepolicyd.audit.follow.follower import POLL_SECONDS, Doorbell, Follower
from sepolicyd.audit.follow.rotated_file import LogPosition
from sepolicyd.audit.model import LogEventKind
from sepolicyd.daemon.intake import Intake
from sepolicyd.daemon.losses import LossReporter
from sepolicyd.daemon.notify import Notifier
from sepolicyd.errors import Exit, StateError
from sepolicyd.profiles import Profile
from sepolicyd.rules.attribution.matcher import Matcher
from sepolicyd.rules.attribution.matcher_interface import DenialMatcher
from sepolicyd.settings import DEFAULT_STATE, Settings
from sepolicyd.state.evidence_reader import LogEvent
from sepolicyd.state.evidence_store import Batch, EvidenceStore
from sepolicyd.storage.lock import exclusive

COMMIT_SECONDS = 0.05  # shortest time between two saves, and longest delay of a save
QUIET_COMMIT_SECONDS = 2.0  # the same if only the log position has changed
QUIET_COMMIT_BYTES = 1 << 20  # unless the position has moved by this much
BUSY_COMMIT_SECONDS = 2.0  # the same while a backlog is read
RETRY_SECONDS = 30.0  # pause after a failed save (full disk, lock); nothing is read meanwhile
MAX_LOGGED = 20


def run(settings: Settings, profile: Profile, *, since: Optional[float] = None, once: bool = False) -> int:
    """Follow the log until SIGTERM or SIGINT, or with ``once`` up to its present end. Returns the exit code.

    Without a saved position, the whole log is read, rotated files first, except lines older than ``since`` (epoch seconds).
    With a saved position, reading continues there and ``since`` is ignored.

    :raises InputError: the log is unreadable, or missing with ``once``
    :raises StateError: the evidence cannot be written; the next run continues at the last save
    :raises RefusedError: another daemon writes the same evidence
    """
    configure_logging()
    os.umask(0o027)
    with _alone(settings.evidence_db):
        store = EvidenceStore(settings.evidence_db, profile.name)
        # evidence elsewhere is a test's or a copy's: only losses of this machine's own log are announced
        losses = LossReporter(profile.name) if settings.state == DEFAULT_STATE and not once else None
        daemon = Daemon(settings, store, Matcher(profile), since=since, losses=losses)
        try:
            with _signals(daemon):
                daemon.start(once=once)
                return daemon.catch_up() if once else daemon.serve()
        finally:
            daemon.close()
            store.close()


def configure_logging() -> None:
    """Log JSON lines to stderr, or human-readable lines if stderr is a terminal."""
    shown: Any = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True), shown],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


class Daemon:
    """The main loop: wait for the log to grow, read blocks, scan finished events, attribute denials, and commit the evidence
    together with the position in the log in one transaction."""

    def __init__(
        self,
        settings: Settings,
        store: EvidenceStore,
        matcher: DenialMatcher,
        *,
        since: Optional[float] = None,
        losses: Optional[LossReporter] = None,
    ) -> None:
        self.stopping = False
        self._log = structlog.get_logger().bind(log=str(settings.log))
        self._store = store
        self._matcher = matcher
        place = None if store.place is None else LogPosition.from_json(store.place)
        if place is not None and since is not None:
            self._log.warning("--since is ignored: reading continues at the saved position", record=place.record)
        _recall(matcher, store.memory)
        self._follower = Follower(settings.log, place, since=since)
        self._intake = Intake(matcher)
        self._unsaved_bytes = 0
        self._place = place
        self._bell: Optional[Doorbell] = None
        self._saved_at = time.monotonic()
        self._notifier = Notifier.from_environment()
        self._caught_up = False
        self._losses = losses

    def start(self, *, once: bool) -> None:
        """Log the start of reading. The daemon waits for a missing log; an unreadable log is an error."""
        if once or self._follower.log.exists():
            self._follower.check()
        else:
            self._log.warning("the log does not exist yet: waiting for it")
        self._bell = None if once else Doorbell(self._follower.log.parent)
        if self._bell is not None and self._bell.failure:
            self._log.warning("inotify is not available: polling every quarter second", reason=self._bell.failure)
        saved = self._place
        self._log.info("following", record=saved.record if saved else "", accesses=self._store.rows)
        self._notifier.tell("READY=1")

    def close(self) -> None:
        if self._bell is not None:
            self._bell.close()
        self._follower.close()

    def stop(self, *_: object) -> None:
        """Handle a signal: end the loop after the current block. Takes no lock, because the loop may hold one."""
        self.stopping = True

    def catch_up(self) -> int:
        """Read to the present end of the log, save, and log the counters."""
        while not self.stopping and self._follower.read():
            self._take_in()
            if time.monotonic() - self._saved_at >= BUSY_COMMIT_SECONDS:
                self._save()
        self._take_in(final=True)
        self._save()
        self._log.info("read to the end", **self._store.counts)
        return int(Exit.DONE)

    def serve(self) -> int:
        """Run until :meth:`stop` is called."""
        while not self.stopping:
            self.turn()
        self._notifier.tell("STOPPING=1")
        self._save()
        self._log.info("stopped", **self._store.counts)
        return int(Exit.DONE)

    def turn(self) -> None:
        """Read available lines, save if due, then sleep until the log changes."""
        busy = self._follower.read()
        self._take_in()
        wait = self._save_when_due(busy)
        if not busy:
            if not self._caught_up:
                self._caught_up = True
                self._log.info("caught up", lines=self._store.counts.get("lines", 0))
            if self._follower.holding:
                wait = min(wait, self._follower.patience)
            if self._bell is not None:
                self._bell.wait(self._notifier.limit(wait))
        self._notifier.watchdog(f"STATUS={self._store.rows} accesses, {self._store.counts.get('lines', 0)} lines read")

    def _take_in(self, *, final: bool = False) -> None:
        chunk = self._follower.take(time.monotonic(), final=final)
        if chunk is not None:
            self._intake.feed(chunk.text)
            self._unsaved_bytes += len(chunk.text)
            self._place = chunk.place
        for happening in self._follower.happenings:
            self._log.warning("reading the log", kind=happening.kind.value, what=happening.text)
            self._intake.batch.counts["gaps"] += happening.kind is LogEventKind.GAP
            self._intake.batch.remarks.append(LogEvent(time.time(), happening.kind, happening.text))
        self._follower.happenings.clear()

    def _save_when_due(self, busy: bool) -> float:
        """Save if due, and return the seconds until the next save is due."""
        since = time.monotonic() - self._saved_at
        moved = self._place is not None and self._store.place != self._place.to_json()
        idle = POLL_SECONDS if self._bell is None else self._bell.interval
        if not (moved or self._intake.batch.remarks):
            return idle
        worth = busy or self._is_worth_saving()
        due = BUSY_COMMIT_SECONDS if busy else COMMIT_SECONDS if worth else QUIET_COMMIT_SECONDS
        if since < due:
            return min(idle, due - since)
        self._save_patiently()
        return idle

    def _is_worth_saving(self) -> bool:
        batch = self._intake.settle()
        return bool(batch.evidence or batch.remarks or batch.unparsed) or self._unsaved_bytes > QUIET_COMMIT_BYTES

    def _save_patiently(self) -> None:
        """Save, retrying after a full disk or a lock. Nothing is read until the save has succeeded, so nothing is lost."""
        until = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                self._save()
            except StateError as error:
                if self.stopping or time.monotonic() > until:
                    raise
                self._log.error("evidence cannot be saved, retrying", what=error.what, hint=error.hint)
                self._notifier.watchdog("STATUS=evidence cannot be saved")
                time.sleep(1.0)
            else:
                return

    def _save(self) -> None:
        batch = self._intake.settle()
        if self._place is None and not batch.remarks:
            return
        place = (self._place or self._follower.place).to_json()
        new = self._store.save(batch, place, _memory(self._matcher))
        if self._losses is not None and self._caught_up:  # what a backlog tells is old, and doctor and status show it
            self._losses.report(batch.counts, time.monotonic())
        self._intake.batch, self._unsaved_bytes, self._saved_at = Batch(), 0, time.monotonic()
        for access, role in new[:MAX_LOGGED]:
            self._log.info("new access", access=str(access), role=role)  # identifiers only: safe on a terminal
        if len(new) > MAX_LOGGED:
            self._log.info("more new accesses", count=len(new) - MAX_LOGGED)


def _memory(matcher: DenialMatcher) -> Any:
    remember = getattr(matcher, "memory", None)
    return remember() if remember is not None else None


def _recall(matcher: DenialMatcher, memory: Any) -> None:
    recall = getattr(matcher, "recall", None)
    if recall is not None and memory is not None:
        recall(memory)


def _alone(database: Path) -> AbstractContextManager[None]:
    """Lock the database against a second daemon; the kernel releases the lock with the process."""
    path = database.with_name("daemon.lock")
    hint = "run: systemctl stop sepolicyd; or end that process"
    return exclusive(path, f"another `sepolicyd run` already writes {database}", hint=hint, mode=0o640, directory_mode=0o750)


@contextmanager
def _signals(daemon: Daemon) -> Iterator[None]:
    handlers: dict[int, Any] = {signal.SIGTERM: daemon.stop, signal.SIGINT: daemon.stop, signal.SIGHUP: signal.SIG_IGN}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
