"""kill -9 of the real daemon during writes and rotations: every denial is counted exactly once."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from tests.audit.follow.writer import Writer, event
from tests.daemon.running import Running, denials_in

KILLS = 6
MAX_ROTATIONS = 60


class Writing(threading.Thread):
    """Writes events, cut anywhere, and rotates now and then, until it is told that it is enough."""

    def __init__(self, writer: Writer, *, copytruncate: bool) -> None:
        super().__init__()
        self.writer = writer
        self.copytruncate = copytruncate
        self.dice = random.Random(7)
        self.rotations = 0
        self.events = 0
        self.enough = threading.Event()

    def run(self) -> None:
        rest = b""
        while not self.enough.is_set():
            count = self.dice.randint(1, 25)
            data = rest + b"".join(b"".join(event(self.events + step)) for step in range(1, count + 1))
            self.events += count
            cut = max(0, len(data) - self.dice.randint(0, 700))
            self.writer.write(data[:cut])
            rest = data[cut:]
            time.sleep(0.005)
            if self.dice.random() < 0.1 and self.rotations < MAX_ROTATIONS:
                rest = self.rotate(rest)
        self.writer.write(rest)

    def rotate(self, rest: bytes) -> bytes:
        if self.writer.in_a_line:
            end = rest.index(b"\n") + 1
            self.writer.write(rest[:end])
            rest = rest[end:]
        self.rotations += 1
        if self.copytruncate:
            self.writer.copytruncate()
        else:
            self.writer.rename()
            self.writer.reopen()
            if self.dice.random() < 0.5:
                self.writer.compress(2)
        return rest


@pytest.mark.parametrize("copytruncate", [False, True], ids=["rename", "copytruncate"])
def test_nothing_is_lost_or_counted_twice_over_kills_and_rotations(tmp_path: Path, copytruncate: bool) -> None:
    log = tmp_path / "log" / "audit.log"
    log.parent.mkdir()
    writer = Writer(log)
    writing = Writing(writer, copytruncate=copytruncate)
    running = Running(log, tmp_path / "state")
    writing.start()
    dice = random.Random(3)
    saved = [0]
    for number in range(KILLS):
        running.ready()
        if number % 2:  # right after a save, however slow the machine is at present
            running.until(lambda seen: seen.counts.get("lines", 0) > saved[-1])
        else:
            time.sleep(dice.uniform(0.02, 0.4))
        running.kill()
        saved.append(running.snapshot().counts.get("lines", 0))
        running = Running(log, tmp_path / "state")
    writing.enough.set()
    writing.join()
    events = writing.events
    snapshot = running.until(lambda seen: denials_in(seen) >= events)
    running.ready()
    assert running.stop() == 0
    assert writing.rotations > 5
    assert len({lines for lines in saved if 0 < lines < 5 * events}) > 1, "it was never killed in the middle"
    assert denials_in(snapshot) == events
    final = running.snapshot()
    assert final.counts["matched"] == final.counts["denials"] == events
    assert final.counts["lines"] == writer.written.count(b"\n") == 5 * events
    assert final.counts.get("unparsed", 0) == final.counts.get("gaps", 0) == 0
    writer.close()
