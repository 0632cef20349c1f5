"""Transient systemd timers that end a lease without sepolicyd running."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Optional

from sepolicyd import process
from sepolicyd.errors import ToolError
from sepolicyd.rollout.lease.lease import Lease, carry_lease

STATIC_UNITS = ("sepolicyd-boot.service", "sepolicyd-lease.timer")
ONE_SHOT = "sepolicyd.rollout.lease"
SYSTEMD = Path("/run/systemd/system")  # sd_booted(3)


def one_shot(directory: Path, *arguments: str) -> list[str]:
    """Return the command that ends leases, with this interpreter and this package."""
    return [*process.module_argv(ONE_SHOT), "--dir", str(directory), *arguments]


def argv_arm(lease: Lease, seconds: float, command: list[str]) -> list[str]:
    """Return the systemd-run command for a lease's timer.

    One timer covers both clocks: OnActiveSec= counts CLOCK_MONOTONIC, OnCalendar= follows changes of the wall clock. systemd
    restarts the service if it fails or is killed (Restart= for Type=oneshot, systemd 244 and later).
    """
    properties = ("Type=oneshot", "Restart=on-failure", "RestartSec=20s", "TimeoutStartSec=30min")
    argv = ["systemd-run", f"--unit={lease.unit}", f"--description=End of sepolicyd's lease for {lease.profile}", "--quiet"]
    # rounded up: a timer that fires a fraction of a second early finds nothing due, and does not fire again
    argv += [f"--on-active={max(1, math.ceil(seconds))}s", f"--on-calendar=@{math.ceil(lease.deadline_wall)}"]
    argv += ["--timer-property=AccuracySec=1s", *(f"--property={text}" for text in properties)]
    argv += [f"--setenv={key}={value}" for key, value in process.module_environment().items()]
    # the command line carries the lease record, so that the timer can end the lease even if the state directory is gone
    return [*argv, "--", *command, "--undo", carry_lease(lease)]


class SystemdTimers:
    """Implementation of ``Timers``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def problem(self) -> Optional[str]:
        if not SYSTEMD.is_dir():
            return "systemd is not the init system of this machine"
        for unit in STATIC_UNITS:
            state = process.run(["systemctl", "is-enabled", unit], ok=range(256)).stdout.strip()
            if state not in {"enabled", "static", "enabled-runtime"}:
                return f"the unit {unit} is {state or 'not installed'}"
        if not self._is_active("sepolicyd-lease.timer"):
            return "the unit sepolicyd-lease.timer is not active"
        return self._one_shot_problem()

    def _one_shot_problem(self) -> Optional[str]:
        try:
            argv = one_shot(self.directory, "--check")
            process.run(argv, cwd=Path("/"), env=process.module_environment(), timeout=120)
        except ToolError as error:
            return f"the command that ends leases does not start: {error.what}"
        return None

    def arm(self, lease: Lease, seconds: float) -> None:
        process.run(argv_arm(lease, seconds, one_shot(self.directory)), timeout=60)

    def armed(self, lease: Lease) -> bool:
        return self._is_active(f"{lease.unit}.timer")

    def disarm(self, lease: Lease) -> None:
        process.run(["systemctl", "stop", f"{lease.unit}.timer"], ok=(0, 5), timeout=60)  # 5: not loaded

    def stop_services(self, units: tuple[str, ...]) -> None:
        process.run(["systemctl", "stop", *units], ok=(0, 5), timeout=300)

    def _is_active(self, unit: str) -> bool:
        return process.run(["systemctl", "is-active", unit], ok=range(256), timeout=60).stdout.strip() == "active"
