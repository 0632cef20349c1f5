"""The ports of world.py on the real machine: semodule, systemd, the clocks and the journal; standard library and `process`."""

from __future__ import annotations

import syslog
from pathlib import Path

from sepolicyd import process
from sepolicyd.errors import SepolicydError
from sepolicyd.kernel.selinuxfs import SelinuxFs
from sepolicyd.rollout.clock import SystemClock
from sepolicyd.rollout.lease.book import LeaseBook
from sepolicyd.rollout.lease.environment import World
from sepolicyd.rollout.lease.lease import DEFAULT_DIR
from sepolicyd.rollout.lease.semodule import SemoduleStore
from sepolicyd.rollout.lease.systemd import SystemdTimers


class JournalVoice:
    """The port ``Voice``: syslog(3) reaches the journal from a terminal as well as from a unit."""

    def shout(self, text: str, command: tuple[str, ...] = ()) -> None:
        self._log(syslog.LOG_CRIT, text)
        if command:
            try:
                process.run([*command, text], timeout=30)
            except SepolicydError as error:
                self._log(syslog.LOG_ERR, f"alert_command failed: {error}")

    def say(self, text: str) -> None:
        self._log(syslog.LOG_NOTICE, text)

    def _log(self, level: int, text: str) -> None:
        syslog.openlog("sepolicyd", syslog.LOG_PID, syslog.LOG_DAEMON)
        syslog.syslog(level, text)


def machine(directory: Path = DEFAULT_DIR) -> World:
    """This machine."""
    return World(SelinuxFs(), SemoduleStore(), SystemdTimers(directory), SystemClock(), JournalVoice(), LeaseBook(directory))
