"""Processes of a unit with their domains, and reasons why one is not confined (proc(5))."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sepolicyd.problems import Problem, Severity
from sepolicyd.profiles import Profile


@dataclass(frozen=True, order=True)
class Running:
    """One process of the unit. ``domain`` is "" if SELinux is off."""

    pid: int
    comm: str
    domain: str


def running(proc: Path, unit: str, profile: Profile) -> tuple[Running, ...]:
    """Return the processes in the unit's cgroup or in a domain of the profile, sorted by pid."""
    found = []
    for place in proc.iterdir():
        if not place.name.isdigit():
            continue
        # a process may end while it is examined
        with suppress(OSError):
            domain = domain_of((place / "attr/current").read_bytes()) if (place / "attr/current").exists() else ""
            groups = (place / "cgroup").read_text(encoding="utf-8", errors="replace")
            if in_unit(groups, unit) or domain in profile.domains:
                comm = (place / "comm").read_text(encoding="utf-8", errors="replace").strip()
                found.append(Running(int(place.name), comm, domain))
    return tuple(sorted(found))


def in_unit(groups: str, unit: str) -> bool:
    """Tell whether /proc/PID/cgroup contains the unit as a path component."""
    return any(unit in line.rpartition(":")[2].split("/") for line in groups.splitlines())


def domain_of(current: bytes) -> str:
    """Return the type in /proc/PID/attr/current, "" if it contains no SELinux context."""
    fields = current.rstrip(b"\0\n").decode(errors="replace").split(":")
    return fields[2] if len(fields) >= 3 else ""


def still_elsewhere(processes: Iterable[Running], profile: Profile) -> tuple[Problem, ...]:
    """Return a problem for processes that still run in the domain in which they were started."""
    old = [process for process in processes if process.domain not in profile.domains]
    if not old:
        return ()
    if not any(process.domain for process in old):
        what = "SELinux is off on this machine: nothing is confined until it is switched on"
        return (Problem(Severity.WARN, "I-off", what, "boot with SELinux enabled (selinux-activate, or security=selinux)"),)
    domains = ", ".join(sorted({process.domain for process in old}))
    pids = ", ".join(f"{process.pid} ({process.comm})" for process in old[:5]) + (" ..." if len(old) > 5 else "")
    what = f"{len(old)} processes of the service still run as {domains}: they were started before the policy load ({pids})"
    return (Problem(Severity.WARN, "I-running", what, "restart the service"),)


def why_unconfined(
    processes: Iterable[Running], profile: Profile, *, labels: Iterable[tuple[str, str, str]]
) -> tuple[Problem, ...]:
    """Return the reasons why the service is not in its domain: unlabelled programs, or no restart since the policy load.

    :param labels: (path, intended type, present type) of each program
    """
    wrong = [(path, expected, present) for path, expected, present in labels if present != expected]
    outside = still_elsewhere(processes, profile)
    if not outside or not wrong:
        return outside
    path, expected, present = wrong[0]
    what = f"the service runs outside its domain because {path} is {present or 'unlabelled'} instead of {expected}"
    return (Problem(Severity.WARN, "I-unlabelled", what, f"run: restorecon -v {path}; restart the service"), *outside)
