"""Implementation of the interfaces in environment.py for this machine: semodule, systemd, clocks and journal."""

from __future__ import annotations

from pathlib import Path

from sepolicyd import process
from sepolicyd.errors import SepolicydError
from sepolicyd.kernel.journal import MessageId, Priority, send
from sepolicyd.kernel.selinuxfs import SelinuxFs
from sepolicyd.rollout.clock import SystemClock
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.lease import DEFAULT_DIR
from sepolicyd.rollout.lease.lease_records import LeaseBook
from sepolicyd.rollout.lease.public_record import PUBLIC_RECORD
from sepolicyd.rollout.lease.semodule import BootPolicyFiles, SemoduleStore
from sepolicyd.rollout.lease.systemd import SystemdTimers


class JournalAlerts:
    """Implementation of ``Alerts``. It writes to the journal's socket, which works from a terminal and from a unit."""

    def critical(self, text: str, message: MessageId, command: tuple[str, ...] = (), *, profile: str = "") -> None:
        """Write at level critical, and run the hook command."""
        send(text, Priority.CRITICAL, message, profile=profile)
        if command:
            try:
                process.run([*command, text], timeout=30)
            except SepolicydError as error:
                send(f"alert_command failed: {error}", Priority.ERROR, MessageId.ALERT_COMMAND_FAILED, profile=profile)

    def notice(self, text: str, message: MessageId, *, profile: str = "") -> None:
        """Write at level notice."""
        send(text, Priority.NOTICE, message, profile=profile)


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
        # any other state directory belongs to a test or a copy: only this machine's own leases are published
        book=LeaseBook(directory, PUBLIC_RECORD if directory == DEFAULT_DIR else None),
    )
