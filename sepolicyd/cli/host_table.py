"""The view of `status --hosts`: one line for each host, those that need a person first."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Optional

from sepolicyd.cli import terminal
from sepolicyd.errors import Exit
from sepolicyd.fleet.host_status import HostStatus, RefusedStatus, compare, read_statuses
from sepolicyd.rules.guard.level import GuardLevel

HEADER = ("host", "profile", "state", "lease left", "pending", "module", "sepolicyd", "look at")


def show_hosts(directory: Path, *, as_json: bool, now: Optional[float] = None) -> int:
    """Print the hosts whose status files are in a directory.

    :param now: epoch seconds; default: the clock
    :return: exit code 1 if a person should look at one of them, or a file was refused
    :raises InputError: not a directory, or without a status file
    """
    now = time.time() if now is None else now
    read, refused = read_statuses(directory)
    hosts = compare(read, now)
    if as_json:
        terminal.print_json(document(hosts, refused, now))
    else:
        if hosts:
            terminal.print_out("\n".join(terminal.table([_row(host, now) for host in hosts], HEADER)))
        for one in refused:
            terminal.print_err(f"sepolicyd: {terminal.escape(one.file)} is not shown: {terminal.escape(one.why)}")
    return int(Exit.FINDINGS if refused or any(host.attention for host in hosts) else Exit.DONE)


def _row(host: HostStatus, now: float) -> tuple[str, ...]:
    waiting = sum(host.pending.values())
    refuse = host.pending[GuardLevel.REFUSE]
    left = "-" if host.deadline is None else f"{max(0, int(host.deadline - now)) // 60} min"
    return (
        host.host,
        host.profile,
        host.state.value,
        left,
        f"{waiting} ({refuse} refuse)" if refuse else str(waiting),
        f"{host.version}" + (" (drift)" if host.drift else ""),
        host.sepolicyd,
        terminal.escape("; ".join(host.attention)) or "-",
    )


def document(hosts: list[HostStatus], refused: list[RefusedStatus], now: float) -> dict[str, Any]:
    """Return the JSON of status --hosts."""
    return {
        "hosts": [
            {
                "host": host.host,
                "profile": host.profile,
                "state": host.state.value,
                "at": host.at,
                "lease_seconds_left": None if host.deadline is None else max(0.0, host.deadline - now),
                "pending": {level.value: count for level, count in host.pending.items()},
                "version": host.version,
                "module_sha256": host.module or None,
                "base_policy": host.base_policy or None,
                "sepolicyd": host.sepolicyd,
                "drift": host.drift,
                "attention": list(host.attention),
            }
            for host in hosts
        ],
        "refused": [{"file": one.file, "why": one.why} for one in refused],
    }
