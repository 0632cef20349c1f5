"""The ports of environment.py on this machine: semodule, systemd, clocks and journal."""

from __future__ import annotations

import syslog
from pathlib import Path

from sepolicyd import process
from sepolicyd.errors import SepolicydError
from sepolicyd.kernel.selinuxfs import SelinuxFs
from sepolicyd.rollout.clock import SystemClock
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.lease import DEFAULT_DIR
from sepolicyd.rollout.lease.lease_records import LeaseBook
from sepolicyd.rollout.lease.semodule import BootPolicyFiles, SemoduleStore
from sepolicyd.rollout.lease.systemd import SystemdTimers


class JournalAlerts:
    """The port ``Alerts``: syslog(3) reaches the journal from a terminal as well as from a unit."""

    def critical(self, text: str, command: tuple[str, ...] = ()) -> None:
        """Write at level critical, and run the hook command."""
        self._log(syslog.LOG_CRIT, text)
        if command:
            try:
                process.run([*command, text], timeout=30)
            except SepolicydError as error:
                self._log(syslog.LOG_ERR, f"alert_command failed: {error}")

    def notice(self, text: str) -> None:
        """Write at level notice."""
        self._log(syslog.LOG_NOTICE, text)

    def _log(self, level: int, text: str) -> None:
        syslog.openlog("sepolicyd", syslog.LOG_PID, syslog.LOG_DAEMON)
        syslog.syslog(level, text)


def live_environment(directory: Path = DEFAULT_DIR) -> Environment:
    """Return the environment of this machine.

    :param directory: root's rollout directory
    """
    return Environment(
        kernel=SelinuxFs(),
        store=SemoduleStore(),
        boot=BootPolicyFiles(),
        timers=SystemdTimers(directory),
        clock=SystemClock(),
        alerts=JournalAlerts(),
        book=LeaseBook(directory),
    )
