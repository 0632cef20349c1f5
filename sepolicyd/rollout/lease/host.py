"""Adapters of environment.py for this machine: semodule, systemd, clocks and journal; standard library and `process` only."""

from __future__ import annotations

import syslog
from pathlib import Path

from sepolicyd import process
from sepolicyd.errors import SepolicydError
from sepolicyd.kernel.selinuxfs import SelinuxFs
from sepolicyd.rollout.clock import SystemClock
from sepolicyd.rollout.lease.book import LeaseBook
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.lease import DEFAULT_DIR
from sepolicyd.rollout.lease.semodule import SemoduleStore
from sepolicyd.rollout.lease.systemd import SystemdTimers


class JournalAlerts:
    """The port ``Voice``: syslog(3) reaches the journal from a terminal as well as from a unit."""

    def critical(self, text: str, command: tuple[str, ...] = ()) -> None:
        self._log(syslog.LOG_CRIT, text)
        if command:
            try:
                process.run([*command, text], timeout=30)
            except SepolicydError as error:
                self._log(syslog.LOG_ERR, f"alert_command failed: {error}")

    def notice(self, text: str) -> None:
        self._log(syslog.LOG_NOTICE, text)

    def _log(self, level: int, text: str) -> None:
        syslog.openlog("sepolicyd", syslog.LOG_PID, syslog.LOG_DAEMON)
        syslog.syslog(level, text)


def live_environment(directory: Path = DEFAULT_DIR) -> Environment:
    """The environment of this machine."""
    return Environment(
        SelinuxFs(), SemoduleStore(), SystemdTimers(directory), SystemClock(), JournalAlerts(), LeaseBook(directory)
    )
