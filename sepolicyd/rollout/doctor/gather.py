"""Gather the facts that the doctor checks. Each is read independently; a failure is reported, not guessed around."""

from __future__ import annotations

import grp
import importlib.util
import pwd
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Union

from sepolicyd import process
from sepolicyd.kernel.boot_policy import BootPolicy
from sepolicyd.kernel.policy_image import parse_head
from sepolicyd.kernel.selinuxfs import SelinuxFs
from sepolicyd.kernel.xattr import read_context
from sepolicyd.module.store import Store
from sepolicyd.policy.selinux_config import policy_directory, setting
from sepolicyd.profiles import Profile
from sepolicyd.rollout.apply import trial as trials
from sepolicyd.rollout.apply.journal import ApplyJournal
from sepolicyd.rollout.clock import SystemClock
from sepolicyd.rollout.doctor.ask import Asker
from sepolicyd.rollout.doctor.facts import FileAccess, MachineFacts
from sepolicyd.rollout.lease.lease import CorruptLease, Lease
from sepolicyd.rollout.lease.lease_records import LeaseBook
from sepolicyd.rollout.lease.systemd import SystemdTimers
from sepolicyd.settings import DEFAULT_STATE, Settings

DAEMON_USER = "sepolicyd"
TOOLS = ("semodule", "checkmodule", "semodule_package", "restorecon", "load_policy", "systemd-run", "auditctl")
RULES = ("/etc/audit/audit.rules", "/etc/audit/rules.d/*.rules")
SEMANAGE_MODULE = "permissive_"  # seobject.py, permissiveRecords.add: permissive_TYPE at priority 400
LABELLED = ("/", "/etc", "/usr", "/var", "/var/lib")
NO_TASK = re.compile(r"^\s*-[aA]\s+(?:task,never|never,task)\b")


def gather(settings: Settings, profile: Profile) -> MachineFacts:
    """Examine everything once. Expected errors are collected in ``unasked``."""
    ask = Asker()
    kernel = SelinuxFs()
    enabled = kernel.enabled()
    given: dict[str, Any] = {
        "python": sys.version_info[:2],
        "missing_tools": tuple(
            (tool, process.PACKAGES.get(tool, "policycoreutils")) for tool in TOOLS if not process.which(tool)
        ),
        "setools": setools_flavour(),
        "enabled": enabled,
        "configured": setting(Path("/etc/selinux/config"), "SELINUX", "enforcing"),
        "default_state": settings.state == DEFAULT_STATE,
        **_log(settings, ask),
        **audit_rules(ask),
        **_units(settings, profile, ask),
        **_store(ask, settings),
        **_leases(settings, ask),
    }
    if enabled:
        given.update(_policy(kernel, settings, profile, ask))
    return MachineFacts(**given, unasked=tuple(ask.problems))


def setools_flavour() -> str:
    """Determine which package is installed as setools, without importing it.

    :return: "ok" for the SELinux library, "other" for the speech toolkit of the same name, or "missing"
    """
    spec = importlib.util.find_spec("setools")
    if spec is None or not spec.submodule_search_locations:
        return "missing" if spec is None else "other"
    places = [Path(place) for place in spec.submodule_search_locations]
    return "ok" if any(any(place.glob("policyrep*")) for place in places) else "other"


def _policy(kernel: SelinuxFs, settings: Settings, profile: Profile, ask: Asker) -> dict[str, Any]:
    given: dict[str, Any] = {
        "enforcing": ask("enforcing", kernel.enforcing, None),
        "loads_refused": ask("secure_mode_policyload", kernel.refuses_loads, None),
    }
    head = ask("the loaded policy", kernel.head, None)
    if head is not None:
        given["permissive"] = head.permissive
        given["known_domains"] = tuple(name for name in profile.domains if name in head.types)
    given["unlabeled"] = tuple(path for path in LABELLED if _type_of(path) in {"", "unlabeled_t", "file_t"})
    no_answer: dict[str, Any] = {}
    given.update(ask("unconfined domains", lambda: _by_policy_index(settings, profile), no_answer))
    return given


def _by_policy_index(settings: Settings, profile: Profile) -> dict[str, Any]:
    from sepolicyd.policy.policy_files import find_policy
    from sepolicyd.rollout.session import load_policy

    policy_index = load_policy(settings, find_policy(settings))
    own = profile.own_domains
    return {
        "unconfined_domains": tuple(name for name in own if policy_index.is_unconfined(name)),
        "neveraudit": tuple(sorted(frozenset(own) & policy_index.neveraudit_types)),
    }


def _type_of(path: str) -> str:
    label = read_context(path, follow_symlinks=True)
    return label.split(":")[2] if label.count(":") >= 2 else ""


def _log(settings: Settings, ask: Asker) -> dict[str, Any]:
    present = ask(f"the log {settings.log}", settings.log.exists, True)
    given: dict[str, Any] = {"log": str(settings.log), "log_present": present, "log_blocked_at": None}
    try:
        user = pwd.getpwnam(DAEMON_USER)
    except KeyError:
        return {**given, "daemon_user": False}
    groups = [user.pw_gid, *(group.gr_gid for group in grp.getgrall() if DAEMON_USER in group.gr_mem)]
    if present:
        access = ask("the log's modes", lambda: file_access(settings.log), None)
        given["log_blocked_at"] = access.blocked_at(user.pw_uid, groups) if access else None
    return given


def file_access(path: Path) -> FileAccess:
    """Return modes and owners from / down to a file."""
    parts = [*reversed(path.absolute().parents), path.absolute()]
    seen = [(str(part), part.stat()) for part in parts]
    return FileAccess(tuple((name, stat.st_mode, stat.st_uid, stat.st_gid) for name, stat in seen))


def parse_audit_status(text: str) -> dict[str, int]:
    """Parse ``auditctl -s``: a name and a number per line, possibly followed by words (loginuid_immutable 0 locked)."""
    numbers = {}
    for line in text.splitlines():
        words = line.replace("=", " ").split()
        if len(words) >= 2 and words[1].lstrip("-").isdigit():
            numbers[words[0].lower()] = int(words[1])
    return numbers


def no_task_lines(text: str) -> list[int]:
    """Return the line numbers of ``-a task,never`` in a rules file or in ``auditctl -l`` (both orders are valid)."""
    return [number for number, line in enumerate(text.splitlines(), 1) if NO_TASK.match(line)]


def audit_rules(ask: Asker) -> dict[str, Any]:
    """Return where an audit rule excludes every process, and the numbers of ``auditctl -s``."""
    places: list[str] = []
    for pattern in RULES:
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            text = ask(str(path), lambda path=path: path.read_text(encoding="utf-8", errors="replace"), "")  # type: ignore[misc]
            places += [f"{path}:{number}" for number in no_task_lines(text)]
    given: dict[str, Any] = {}
    if process.which("auditctl"):
        loaded = ask("the loaded audit rules", lambda: process.run(["auditctl", "-l"], timeout=30).stdout, "")
        places += ["loaded now"] if no_task_lines(loaded) else []
        status = ask("the audit status", lambda: process.run(["auditctl", "-s"], timeout=30).stdout, "")
        given["auditctl"] = parse_audit_status(status)
    return {**given, "no_task_rules": tuple(places)}


def _units(settings: Settings, profile: Profile, ask: Asker) -> dict[str, Any]:
    timers = SystemdTimers(settings.rollout_dir)
    problem = ask("systemd's units", timers.problem, None)
    given: dict[str, Any] = {"timer_problem": problem, "auditd_active": None, "daemon_active": None}
    if not Path("/run/systemd/system").is_dir():
        return given
    given["auditd_active"] = ask("auditd", lambda: show_unit("auditd.service", "ActiveState") == "active", None)
    given["daemon_active"] = ask("sepolicyd.service", lambda: show_unit("sepolicyd.service", "ActiveState") == "active", None)
    services: dict[str, str] = {}
    programs: dict[str, str] = {}
    for unit in profile.units:
        if not set(unit) & set("*?["):
            kind = ask(f"the process of {unit}", lambda unit=unit: _domain_of(unit), "")  # type: ignore[misc]
            if kind:
                services[unit] = kind
                programs[unit] = ask(f"the program of {unit}", lambda unit=unit: _program_of(unit), "")  # type: ignore[misc]
    return {**given, "services": services, "programs": programs}


def show_unit(unit: str, name: str) -> str:
    """Return a property of a unit, as systemctl(1) shows it."""
    return process.run(["systemctl", "show", unit, f"--property={name}", "--value"], timeout=30).stdout.strip()


def _program_of(unit: str) -> str:
    """Return the path of a unit's program, "" if it has none. systemctl prints ``{ path=/usr/bin/x ; argv[]=...``."""
    _, _, rest = show_unit(unit, "ExecStart").partition("path=")
    return rest.partition(" ;")[0]


def _domain_of(unit: str) -> str:
    """Return the type of a unit's main process, "" if it does not run."""
    pid = show_unit(unit, "MainPID")
    if not pid.isdigit() or pid == "0":
        return ""
    label = Path(f"/proc/{pid}/attr/current").read_text(encoding="ascii", errors="replace").rstrip("\0\n")
    return label.split(":")[2] if label.count(":") >= 2 else ""


def _store(ask: Asker, settings: Settings) -> dict[str, Any]:
    store = Store(settings.root)
    given: dict[str, Any] = {
        "store_present": ask("the store", (store.active / "modules").is_dir, None),
        "expand_check": setting(store.etc / "semanage.conf", "expand-check", "1"),
        "dontaudit_off": ask("the store", lambda: store.dontaudit_off, None),
    }
    if given["store_present"]:
        given["store_locked_by"] = ask("the store's lock", store.files.locked_by, None)
        given.update(_three_policies(ask, store))
    free: dict[str, int] = {}
    for path in (store.directory, settings.state, Path("/tmp")):  # noqa: S108
        ask(f"the free space of {path}", lambda path=path: free.update(_free(path)), None)  # type: ignore[misc]
    return {**given, "free": free}


def _three_policies(ask: Asker, store: Store) -> dict[str, Any]:
    """Return facts about the store's policy and the boot policy; those of the loaded policy are in :func:`_policy`."""
    boot = BootPolicy(policy_directory(store.root, store.kind))
    built = ask("the policy that the store built", store.files.built_policy.read_bytes, b"")
    given: dict[str, Any] = {
        "booted": ask("the boot policy", boot.permissive_types, None),
        "removable": frozenset(
            path.name[len(SEMANAGE_MODULE) :] for path in store.files.modules.glob(f"400/{SEMANAGE_MODULE}*")
        ),
    }
    if built:
        given["stored"] = ask("the policy that the store built", lambda: parse_head(built).permissive, None)
        given["boot_differs"] = ask("the boot policy", lambda: not boot.holds(built), None)
    return given


def _free(path: Path) -> dict[str, int]:
    return {str(path): shutil.disk_usage(path).free} if path.exists() else {}


def _leases(settings: Settings, ask: Asker) -> dict[str, Any]:
    book = LeaseBook(settings.rollout_dir)
    if not book.is_readable:
        ask.problems.append(f"cannot examine leases and journals: only root can read {settings.rollout_dir}")
        return {}
    now = SystemClock().now()
    no_items: list[Union[Lease, CorruptLease]] = []
    items = ask("the lease records", book.all, no_items)
    leases = [item for item in items if isinstance(item, Lease)]
    operations = ask("the apply journal", lambda: len(ApplyJournal(settings.rollout_dir).open()), 0)
    return {
        "leased": frozenset(name for lease in leases for name in lease.domains),
        "hidden_lease": any(lease.hidden for lease in leases),
        "overdue": tuple(lease.profile for lease in leases if lease.is_due(now)),
        "broken_undo": tuple(str(item.path) for item in items if isinstance(item, CorruptLease)),
        "open_operations": operations,
        "trial_problem": trials.problem(settings),
    }
