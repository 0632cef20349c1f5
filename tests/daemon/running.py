"""Run the real daemon as a process, and read its database, for tests that kill it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Optional

from sepolicyd.state.evidence_reader import Snapshot, read_evidence

WAIT_SECONDS = 60.0


class Running:
    """`python -m sepolicyd run` on a log, with its state in a directory."""

    number = 0

    def __init__(self, log: Path, state: Path, *options: str, env: Optional[Mapping[str, str]] = None) -> None:
        self.database = state / "evidence" / "evidence.db"
        Running.number += 1
        self.talk = state.parent / f"daemon-{Running.number}.err"
        self._stderr = self.talk.open("wb")
        words = ("run", "--log", str(log), "--state", str(state), "--profile", "jupyterhub", *options)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sepolicyd", *words], stderr=self._stderr, env={**os.environ, **(env or {})}
        )

    def snapshot(self) -> Snapshot:
        return read_evidence(self.database)

    def until(self, seen: Callable[[Snapshot], bool]) -> Snapshot:
        end = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < end:
            snapshot = self.snapshot()
            if seen(snapshot):
                return snapshot
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError(f"it never came: {self.snapshot().counts}\n{self.talk.read_text()[-3000:]}")

    def ready(self) -> None:
        """Wait until it has said that it follows the log; before that a signal ends it like any young process."""
        end = time.monotonic() + WAIT_SECONDS
        while self.talk.read_bytes().count(b'"following"') < 1 and time.monotonic() < end:
            time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._stderr.close()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(WAIT_SECONDS)
        self._stderr.close()
        return code


def denials_in(snapshot: Snapshot) -> int:
    return sum(seen.count for seen in snapshot.evidence.values())


def notify_socket(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(path))
    listener.settimeout(WAIT_SECONDS)
    return listener
