"""Points in time that survive a clock change and a reboot: wall clock, CLOCK_BOOTTIME and boot id."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Moment:
    """One moment on three clocks."""

    wall: float
    """Epoch seconds; the administrator can set this clock."""
    boottime: float
    """Seconds of CLOCK_BOOTTIME; it cannot be set, and begins again at each boot."""
    boot_id: str


@dataclass(frozen=True)
class Deadline:
    """A deadline on both clocks of one boot."""

    wall: float
    boottime: float
    boot_id: str

    def is_due(self, now: Moment) -> bool:
        """Tell whether the deadline has passed by either clock (so setting one back does not extend it), or after a reboot."""
        return now.boot_id != self.boot_id or now.boottime >= self.boottime or now.wall >= self.wall

    def remaining(self, now: Moment) -> float:
        """Return the seconds left, 0 when due."""
        return 0.0 if self.is_due(now) else min(self.boottime - now.boottime, self.wall - now.wall)


class SystemClock:
    """Implementation of ``Clock``."""

    def now(self) -> Moment:
        """Read the clocks."""
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), boot_id)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
