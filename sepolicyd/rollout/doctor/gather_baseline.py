"""Gather the facts of the baseline checks from this machine."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from sepolicyd import process
from sepolicyd.errors import SepolicydError
from sepolicyd.kernel.boot_policy import BootPolicy
from sepolicyd.kernel.selinuxfs import SelinuxFs
from sepolicyd.module.store import Store
from sepolicyd.policy.policy_files import find_policy
from sepolicyd.policy.selinux_config import policy_directory, setting
from sepolicyd.rollout.clock import SystemClock
from sepolicyd.rollout.doctor.ask import Asker
from sepolicyd.rollout.doctor.baseline import NOT_FOR_UNITS, WITHOUT_POLICY
from sepolicyd.rollout.doctor.baseline_facts import BaselineFacts, OpenLease, ServiceProcess
from sepolicyd.rollout.doctor.gather import SEMANAGE_MODULE, audit_rules, show_unit
from sepolicyd.rollout.lease.lease import Lease
from sepolicyd.rollout.lease.lease_records import LeaseBook
from sepolicyd.rollout.session import load_policy
from sepolicyd.rollout.setup.processes import domain_of
from sepolicyd.settings import Settings

# init(1) reads selinux=0 and enforcing=0 from the kernel's command line (kernel-parameters.txt)
SWITCHES = ("selinux=0", "enforcing=0")
UNIT_SUFFIXES = (".service", ".socket", ".mount", ".swap")


def gather_baseline(settings: Settings, *, proc: Path = Path("/proc")) -> BaselineFacts:
    """Examine the machine. Facts that cannot be read are None; expected errors are not raised."""
    ask = Asker()
    kernel = SelinuxFs()
    enabled = kernel.enabled()
    store = Store(settings.root)
    no_words: tuple[str, ...] = ()
    no_types: frozenset[str] = frozenset()
    given: dict[str, Any] = {
        "enabled": enabled,
        "configured": setting(Path("/etc/selinux/config"), "SELINUX", "enforcing"),
        "boot_options": ask("the kernel's command line", lambda: boot_options((proc / "cmdline").read_text()), no_words),
        "leases": _leases(settings, ask),
        "dontaudit_off": ask("the store", lambda: store.dontaudit_off, None),
        "booted": ask("the policy of the next boot", lambda: _booted(store), None),
        "removable": ask("the store", lambda: _removable(store), no_types),
        **_audit(ask),
    }
    if enabled:
        processes = ask("processes", lambda: service_processes(proc), None)
        head = ask("the loaded policy", kernel.head, None)
        given.update(
            enforcing=ask("enforcing", kernel.enforcing, None),
            permissive=None if head is None else head.permissive,
            processes=None if processes is None else tuple(_with_types(processes, ask)),
        )
        no_answer: dict[str, Any] = {"unconfined": None, "neveraudit": None}
        given.update(ask("the loaded policy", lambda: _by_policy(settings, processes or ()), no_answer))
    return BaselineFacts(**given, problems=tuple(ask.problems))


def boot_options(cmdline: str) -> tuple[str, ...]:
    """Return the words of a kernel command line that switch SELinux off or make it permissive."""
    return tuple(word for word in dict.fromkeys(cmdline.split()) if word in SWITCHES)


def unit_of(groups: str) -> tuple[str, bool]:
    """Read /proc/PID/cgroup.

    :return: the unit's name, "" for none; and whether it belongs to a user's session
    """
    # cgroup v2 has one line ("0::PATH"), v1 one for systemd among others ("1:name=systemd:PATH")
    lines = [line.split(":", 2) for line in groups.splitlines() if line.count(":") >= 2]
    path = next((parts[2] for parts in lines if parts[1] in {"", "name=systemd"} and parts[2] != "/"), "/")
    names = [part for part in path.split("/") if part]
    unit = next((name for name in names if name.endswith(UNIT_SUFFIXES)), "")
    return unit, bool(names) and names[0] == "user.slice"


def service_processes(proc: Path) -> list[ServiceProcess]:
    """Return the processes of system units, and all in a domain for services without a policy, without this process.

    :raises OSError: only root sees all processes
    """
    if os.geteuid() != 0:
        raise PermissionError(errno.EPERM, "only root sees all processes (hidepid= of proc(5), SELinux)")
    found = []
    for place in proc.iterdir():
        if not place.name.isdigit() or int(place.name) == os.getpid():
            continue
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            domain = domain_of((place / "attr/current").read_bytes())
            unit, of_user = unit_of((place / "cgroup").read_text(encoding="utf-8", errors="replace"))
            if domain in WITHOUT_POLICY or (unit and not of_user):
                comm = (place / "comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
                found.append(ServiceProcess("" if of_user else unit, int(place.name), comm, domain))
    return found


def _with_types(processes: Iterable[ServiceProcess], ask: Asker) -> Iterable[ServiceProcess]:
    """Tell jobs from daemons, only for those that would be a finding."""
    types: dict[str, str] = {}
    for one in processes:
        suspect = one.unit and one.domain in WITHOUT_POLICY | NOT_FOR_UNITS
        if suspect and one.unit not in types:
            types[one.unit] = ask(f"the type of {one.unit}", lambda unit=one.unit: show_unit(unit, "Type"), "")  # type: ignore[misc]
        yield ServiceProcess(one.unit, one.pid, one.comm, one.domain, oneshot=types.get(one.unit) == "oneshot")


def _by_policy(settings: Settings, processes: Iterable[ServiceProcess]) -> dict[str, Any]:
    policy_index = load_policy(settings, find_policy(settings))
    running = {one.domain for one in processes}
    return {
        "unconfined": frozenset(name for name in running if name in policy_index.types and policy_index.is_unconfined(name)),
        "neveraudit": policy_index.neveraudit_types,
    }


def _leases(settings: Settings, ask: Asker) -> Optional[tuple[OpenLease, ...]]:
    book = LeaseBook(settings.rollout_dir)
    if not book.is_readable:
        ask.problems.append(f"could not look at leases: {book.directory} is root's")
        return None
    now = SystemClock().now()
    return tuple(
        OpenLease(item.profile, frozenset(item.domains), item.hidden, item.deadline_wall, item.by, item.why, item.is_due(now))
        for item in book.all()
        if isinstance(item, Lease)
    )


def _booted(store: Store) -> frozenset[str]:
    return frozenset(BootPolicy(policy_directory(store.root, store.kind)).permissive_types())


def _removable(store: Store) -> frozenset[str]:
    places = store.files.modules.glob(f"400/{SEMANAGE_MODULE}*")
    return frozenset(path.name[len(SEMANAGE_MODULE) :] for path in places)


def _audit(ask: Asker) -> dict[str, Any]:
    rules = audit_rules(ask)
    given: dict[str, Any] = {
        "auditd_active": None,
        "auditd_enabled": None,
        "audit_status": rules.get("auditctl") or None,
        "no_task_rules": rules["no_task_rules"],
    }
    if Path("/run/systemd/system").is_dir():
        with suppress(SepolicydError):
            given["auditd_active"] = show_unit("auditd.service", "ActiveState") == "active"
            enabled = process.run(["systemctl", "is-enabled", "auditd.service"], ok=range(256), timeout=30).stdout.strip()
            given["auditd_enabled"] = enabled in {"enabled", "enabled-runtime", "static", "indirect", "alias"}
    return given
