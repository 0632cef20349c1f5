"""Points in time that survive a clock change and a reboot: wall clock, CLOCK_BOOTTIME and boot id."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Moment:
    """Three clocks at once: wall (epoch seconds, can be set), boottime (CLOCK_BOOTTIME seconds, cannot), and which boot."""

    wall: float
    boottime: float
    boot_id: str


class SystemClock:
    """The port ``Clock``."""

    def now(self) -> Moment:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), boot_id)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
