"""Bounded memory of the service's processes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Optional

from sepolicyd.audit.model import Denial, Kind

MAX_PROCESSES = 8192
KEPT_PROCESSES = 512  # bounded, because the table is written with every save of the evidence
MAX_TEXT = 256
FORGET_SECONDS = 24 * 3600.0
REBOOT_SERIALS = 1000  # a larger step back means a reboot: serials restart then; within a boot, records are slightly unordered


@dataclass
class Process:
    """One process of the service as last seen: its role, domain and parent."""

    role: str
    domain: str
    ppid: Optional[int]
    comm: str
    exe: str
    time: float


class ProcessTable:
    """Processes of the service by pid. They are forgotten after a day without a denial, and at a reboot."""

    def __init__(self) -> None:
        self._processes: OrderedDict[int, Process] = OrderedDict()
        self._last_serial = 0
        self._last_time = 0.0

    def __len__(self) -> int:
        return len(self._processes)

    def known(self, pid: Optional[int], domain: str, ppid: Optional[int], now: float) -> Optional[Process]:
        """Return the process with this pid if it is the same one: in the same domain and, if known, with the same parent.

        Another domain means that the process runs another program, or that the pid was reused.
        """
        process = None if pid is None or pid <= 1 else self._processes.get(pid)
        if process is None or pid is None:
            return None
        # ppid 1: its parent has ended, and init has adopted it
        reused = ppid is not None and process.ppid is not None and ppid not in (process.ppid, 1)
        if reused or now - process.time > FORGET_SECONDS:
            del self._processes[pid]
            return None
        return process if process.domain == domain else None

    def parent(self, denial: Denial) -> Optional[Process]:
        """Return the parent of the denial's process."""
        if denial.ppid is None or denial.ppid <= 1:
            return None
        parent = self._processes.get(denial.ppid)
        return None if parent is None or denial.time - parent.time > FORGET_SECONDS else parent

    def remember(self, pid: Optional[int], denial: Denial, role: str) -> None:
        """Remember the process of a denial that belongs to the service."""
        if pid is None or pid <= 1:
            return
        domain = denial.scontext.type
        old = self._processes.pop(pid, None)
        if old is not None and old.domain != domain:
            old = None
        ppid = denial.ppid if denial.ppid is not None else (old.ppid if old else None)
        comm, exe = (denial.comm, denial.exe) if denial.comm or old is None else (old.comm, old.exe)
        self._processes[pid] = Process(role, domain, ppid, comm, exe, denial.time)
        parent = self.parent(denial)
        if parent is not None and denial.ppid is not None:  # a process with children is alive
            parent.time = max(parent.time, denial.time)
            self._processes.move_to_end(denial.ppid)
        while len(self._processes) > MAX_PROCESSES:
            self._processes.popitem(last=False)

    def notice_time(self, denial: Denial) -> None:
        """Forget everything if the denial is from a later boot than the preceding ones."""
        serial, time = denial.event.serial, denial.time
        if serial + REBOOT_SERIALS < self._last_serial and time > self._last_time:
            self._processes.clear()
            self._last_serial = serial
        self._last_serial = max(self._last_serial, serial)
        self._last_time = max(self._last_time, time)

    def memory(self) -> list[Any]:
        """Return the newest processes as JSON, to restore after a restart of the daemon."""
        newest = list(self._processes.items())[-KEPT_PROCESSES:]
        known = [
            [pid, one.role, one.ppid, one.comm[:MAX_TEXT], one.exe[:MAX_TEXT], one.time, one.domain] for pid, one in newest
        ]
        return [self._last_serial, self._last_time, known]

    def recall(self, memory: list[Any], roles: frozenset[str]) -> None:
        """Restore the result of :meth:`memory`, without processes of unknown role or without domain (older versions)."""
        self._last_serial, self._last_time, known = memory
        for pid, role, ppid, comm, exe, time, *more in known:
            if role in roles and more:
                self._processes[pid] = Process(role, more[0], ppid, comm, exe, time)


def pid_of(denial: Denial) -> Optional[int]:
    """Return the pid of the requesting process; in a user-space AVC, that is the client, not the object manager."""
    if denial.kind is Kind.USER_AVC:
        sender = dict(denial.extra).get("spid", "")
        if sender.isascii() and sender.isdigit() and len(sender) < 11:
            return int(sender)
    return denial.pid
