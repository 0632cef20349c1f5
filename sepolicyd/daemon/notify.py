"""Notifications to the service manager (sd_notify(3))."""

from __future__ import annotations

import os
import socket
import time


class Notifier:
    """sd_notify(3) without libsystemd: a datagram to NOTIFY_SOCKET, and WATCHDOG=1 at least twice per WATCHDOG_USEC."""

    def __init__(self, address: str, watchdog_seconds: float) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._interval = watchdog_seconds / 2
        self._told_at = 0.0

    @classmethod
    def from_environment(cls) -> Notifier:
        for_this_process = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = os.environ.get("WATCHDOG_USEC", "0") if for_this_process else "0"
        return cls(os.environ.get("NOTIFY_SOCKET", ""), int(usec) / 1e6 if usec.isdigit() else 0.0)

    def limit(self, wait: float) -> float:
        """Return ``wait`` in seconds, reduced to what the service manager's watchdog allows."""
        return min(wait, self._interval) if self._address and self._interval else wait

    def tell(self, state: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            try:
                notify.sendto(state.encode(), self._address)
            except OSError:
                return  # the service manager no longer listens; notifications are optional

    def watchdog(self, status: str) -> None:
        if self._address and time.monotonic() - self._told_at >= (self._interval or 5.0):
            self._told_at = time.monotonic()
            self.tell(f"WATCHDOG=1\n{status}")
