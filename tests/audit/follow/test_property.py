"""Property: any sequence of writes, rotations, restarts and kills yields every line exactly once and in order."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Optional

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sepolicyd.audit.follow.follower import Follower
from sepolicyd.audit.follow.rotated_file import LogPosition
from tests.audit.follow.writer import Writer, event


class Following(RuleBasedStateMachine):
    """A writer that rotates and a reader that is killed; ``committed`` and ``place`` are what a database would hold."""

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.log = Path(self.directory.name) / "audit.log"
        self.writer = Writer(self.log)
        self.serial = 0
        self.rest = b""
        self.clock = 0.0
        self.away = False
        self.stale = False
        self.committed = b""
        self.place: Optional[LogPosition] = None
        self.follower = Follower(self.log)
        self.unsaved = b""

    # the writer

    @rule(count=st.integers(1, 12), cut=st.integers(0, 300))
    def write(self, count: int, cut: int) -> None:
        """Some events; the last bytes are kept back, so that a read finds half lines and half events."""
        data = self.rest
        for _ in range(count):
            self.serial += 1
            data += b"".join(event(self.serial, records=1 + self.serial % 5))
        at = max(0, len(data) - cut)
        self.writer.write(data[:at])
        self.rest = data[at:]

    @precondition(lambda self: not self.away and not self.stale)
    @rule()
    def rename(self) -> None:
        if self.log.stat().st_size:
            self.writer.rename()
            self.stale = True

    @precondition(lambda self: self.stale)
    @rule()
    def reopen(self) -> None:
        """The writer finishes its line in the old file before it turns to the new one."""
        if self.writer.in_a_line:
            end = self.rest.index(b"\n") + 1
            self.writer.write(self.rest[:end])
            self.rest = self.rest[end:]
        self.writer.reopen()
        self.stale = False

    @precondition(lambda self: not self.away and not self.stale and not self.writer.in_a_line)
    @rule()
    def copytruncate(self) -> None:
        if self.log.stat().st_size:
            self.writer.copytruncate()

    # a file may only be packed when nobody writes to it any more
    @precondition(lambda self: not self.stale)
    @rule(number=st.integers(1, 3))
    def compress(self, number: int) -> None:
        self.writer.compress(number)

    @precondition(lambda self: not self.away and not self.stale)
    @rule()
    def vanish(self) -> None:
        self.writer.vanish()
        self.away = True

    @precondition(lambda self: self.away)
    @rule()
    def come_back(self) -> None:
        self.writer.return_()
        self.away = False

    # the reader

    @rule(steps=st.integers(1, 4), wait=st.sampled_from([0.0, 0.03, 2.0]), save=st.booleans())
    def read(self, steps: int, wait: float, save: bool) -> None:
        for _ in range(steps):
            self.follower.read()
            self.clock += wait
            self.take()
        if save:
            self.save()

    @rule()
    def kill(self) -> None:
        """What was not saved is gone; a new process begins at the saved place."""
        self.follower.close()
        self.unsaved = b""
        self.follower = Follower(self.log, self.place and LogPosition.from_json(self.place.to_json()))

    def take(self, final: bool = False) -> None:
        chunk = self.follower.take(self.clock, final=final)
        if chunk is not None:
            self.unsaved += chunk.text
            self.latest = chunk.place

    def save(self) -> None:
        if self.unsaved:
            self.committed, self.place, self.unsaved = self.committed + self.unsaved, self.latest, b""

    @invariant()
    def only_what_was_written_and_in_order(self) -> None:
        if hasattr(self, "writer"):
            assert bytes(self.writer.written).startswith(self.committed + self.unsaved)
            assert (self.committed + self.unsaved).endswith(b"\n") or not self.committed + self.unsaved

    def teardown(self) -> None:
        if not hasattr(self, "writer"):
            return
        try:
            self.to_the_end()
        finally:
            self.follower.close()
            self.writer.close()
            self.directory.cleanup()

    def to_the_end(self) -> None:
        if self.away:
            self.come_back()
        self.writer.write(self.rest)
        for _ in range(3):  # a file that appears between two looks takes another turn
            while self.follower.read():
                self.take()
        self.take(final=True)
        self.save()
        assert self.committed == bytes(self.writer.written)
        assert not self.follower.happenings


TestFollowing = Following.TestCase
TestFollowing.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
