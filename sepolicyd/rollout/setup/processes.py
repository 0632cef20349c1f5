"""Processes of a unit with their domains, and why one of them is not confined (proc(5))."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sepolicyd.problems import Problem, Severity
from sepolicyd.profiles import Profile


@dataclass(frozen=True, order=True)
class Running:
    """One process of the unit. ``domain`` "" where the kernel knows none (SELinux is off)."""

    pid: int
    comm: str
    domain: str


def running(proc: Path, unit: str, profile: Profile) -> tuple[Running, ...]:
    """Processes of the unit's cgroup, and those that are in a domain of the profile already, sorted by pid."""
    found = []
    for place in proc.iterdir():
        if not place.name.isdigit():
            continue
        # a process may end while it is looked at
        with suppress(OSError):
            domain = domain_of((place / "attr/current").read_bytes()) if (place / "attr/current").exists() else ""
            groups = (place / "cgroup").read_text(encoding="utf-8", errors="replace")
            if in_unit(groups, unit) or domain in profile.domains:
                comm = (place / "comm").read_text(encoding="utf-8", errors="replace").strip()
                found.append(Running(int(place.name), comm, domain))
    return tuple(sorted(found))


def in_unit(groups: str, unit: str) -> bool:
    """Tell whether /proc/PID/cgroup names the unit as one whole part of a path."""
    return any(unit in line.rpartition(":")[2].split("/") for line in groups.splitlines())


def domain_of(current: bytes) -> str:
    """Return the type of /proc/PID/attr/current, "" where it holds no SELinux context."""
    fields = current.rstrip(b"\0\n").decode(errors="replace").split(":")
    return fields[2] if len(fields) >= 3 else ""


def still_elsewhere(processes: Iterable[Running], profile: Profile) -> tuple[Problem, ...]:
    """Return a problem for processes that still run in the domain in which they were started, with the remedy."""
    old = [process for process in processes if process.domain not in profile.domains]
    if not old:
        return ()
    if not any(process.domain for process in old):
        what = "SELinux is off on this machine: nothing is confined until it is switched on"
        return (Problem(Severity.WARN, "I-off", what, "boot with SELinux (selinux-activate, or security=selinux)"),)
    domains = ", ".join(sorted({process.domain for process in old}))
    pids = ", ".join(f"{process.pid} ({process.comm})" for process in old[:5]) + (" ..." if len(old) > 5 else "")
    what = f"{len(old)} processes of the service are still {domains}: they were started before the policy was loaded ({pids})"
    return (Problem(Severity.WARN, "I-running", what, "restart the service"),)


def why_unconfined(
    processes: Iterable[Running], profile: Profile, *, labels: Iterable[tuple[str, str, str]]
) -> tuple[Problem, ...]:
    """Return why the service is not in its domain: its programs lack their label, or it has not been started since.

    :param labels: path, type that it should have, type that it has
    """
    wrong = [(path, meant, now) for path, meant, now in labels if now != meant]
    outside = still_elsewhere(processes, profile)
    if not outside or not wrong:
        return outside
    path, meant, now = wrong[0]
    what = f"the service runs outside its domain because {path} is {now or 'without a label'} and not {meant}"
    return (Problem(Severity.WARN, "I-unlabelled", what, f"restorecon -v {path}, then restart the service"), *outside)
