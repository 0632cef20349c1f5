"""Checks of `sepolicyd doctor`: conditions that would impair a rollout, each with the command that corrects it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable

from sepolicyd.problems import Problem, Severity
from sepolicyd.profiles import Profile
from sepolicyd.rollout.doctor.codes import DoctorCode
from sepolicyd.rollout.doctor.facts import OLDEST_PYTHON, MachineFacts

MIN_FREE_BYTES = 256 << 20
FULL_BACKLOG = 0.5  # of backlog_limit
RESTART_AUDITD = "service auditd restart"  # auditd.service refuses a manual stop on Fedora and RHEL (RefuseManualStop=)


def judge(facts: MachineFacts, profile: Profile) -> tuple[Problem, ...]:
    """Return all problems, the most severe first. ``facts`` come from :func:`sepolicyd.rollout.doctor.gather.gather`."""
    found: list[Problem] = []
    for check in CHECKS:
        found += check(facts, profile)
    return tuple(sorted(found, key=lambda finding: (-finding.level, finding.code)))


def _stop(code: DoctorCode, what: str, hint: str) -> Problem:
    return Problem(Severity.STOP, code, what, hint)


def _warn(code: DoctorCode, what: str, hint: str) -> Problem:
    return Problem(Severity.WARN, code, what, hint)


def _note(code: DoctorCode, what: str, hint: str) -> Problem:
    return Problem(Severity.NOTE, code, what, hint)


def _interpreter(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    if facts.python < OLDEST_PYTHON:
        yield _stop(
            DoctorCode.PYTHON,
            f"Python {'.'.join(map(str, facts.python))} is too old",
            "use the distribution's /usr/bin/python3, 3.9 or later",
        )
    for tool, package in facts.missing_tools:
        yield _stop(DoctorCode.TOOL, f"{tool} is not installed", f"install the package {package}")
    if facts.setools == "missing":
        yield _stop(
            DoctorCode.SETOOLS,
            "the Python module setools is missing, so no policy can be read",
            "install the distribution's python3-setools; a virtual environment needs --system-site-packages",
        )
    if facts.setools == "other":
        yield _stop(
            DoctorCode.SETOOLS,
            "the installed Python module setools is not the SELinux library but a speech toolkit of the same name from PyPI",
            "run: python3 -m pip uninstall setools; install the distribution's python3-setools",
        )


def _selinux(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    if facts.enabled is False:
        yield _stop(
            DoctorCode.DISABLED,
            "SELinux is disabled in this kernel",
            "set SELINUX=permissive in /etc/selinux/config, boot with security=selinux, run: fixfiles -F onboot; reboot",
        )
        return
    if facts.enforcing is False:
        yield _stop(
            DoctorCode.PERMISSIVE,
            "the whole machine is permissive without a deadline, and denials of all services are logged",
            "run: setenforce 1; then: sepolicyd learn start",
        )
    if facts.loads_refused:
        yield _stop(
            DoctorCode.SECUREMODE,
            "the boolean secure_mode_policyload is on or pending: the kernel refuses policy loads, so nothing can be applied,"
            " and no lease can be opened or ended",
            "run: setsebool -P secure_mode_policyload off; if it is already on, reboot as well",
        )
    if facts.configured != "enforcing":
        yield _warn(
            DoctorCode.CONFIG,
            f"/etc/selinux/config says SELINUX={facts.configured}: the machine will not be enforcing after a reboot",
            "set SELINUX=enforcing in /etc/selinux/config",
        )
    for path in facts.unlabeled:
        yield _stop(DoctorCode.LABEL, f"{path} has no SELinux label", f"run: restorecon -R -F {path}")


def _domains(facts: MachineFacts, profile: Profile) -> Iterable[Problem]:
    own = profile.own_domains
    if facts.known_domains is not None and not any(name in facts.known_domains for name in own):
        yield _stop(
            DoctorCode.DOMAIN,
            f"the loaded policy defines no domain of {profile.name}",
            f"run: sepolicyd init {profile.name}",
        )
    for name in facts.unconfined_domains:
        yield _stop(
            DoctorCode.UNCONFINED,
            f"{name} is unconfined, so none of its accesses is denied",
            f"run: sepolicyd init {profile.name}",
        )
    for unit, kind in sorted(facts.services.items()):
        if kind in profile.unpoliced:
            what = f"{unit} runs as {kind}, which is not a confined domain: there is nothing to learn"
            command = f"run: sepolicyd init {profile.name}; then: systemctl restart {unit}"
            program = facts.programs.get(unit, "")
            if program and any(name in (facts.known_domains or ()) for name in own):
                # the policy is loaded: an upgrade may have replaced the program file without its label
                what += f"; its policy is loaded, so either {program} has lost its label, or the unit was started before"
                command = f"run: restorecon -v {shlex.quote(program)}; then: systemctl restart {unit}"
            yield _stop(DoctorCode.SERVICE, what, command)
    for name in facts.neveraudit:
        yield _stop(
            DoctorCode.NEVERAUDIT,
            f"{name} is a neveraudit type: it logs nothing, even while it is permissive",
            "remove the module that contains (typeneveraudit ...); see: semodule -lfull",
        )


def _permissive(facts: MachineFacts, profile: Profile) -> Iterable[Problem]:
    """Report permissive types without a lease."""
    own = frozenset(profile.own_domains)
    others: list[str] = []
    for name in sorted(facts.permissive - facts.leased):
        if facts.stored is not None and name not in facts.stored:
            continue  # _agreement reports it
        if name not in own and facts.removable is not None and name not in facts.removable:
            others.append(name)
            continue
        yield (_stop if name in own else _note)(
            DoctorCode.FOREIGN,
            f"{name} is permissive without a lease, so there is no deadline",
            f"run: semanage permissive -d {name}; or remove the module that makes it permissive (see: semodule -lfull)",
        )
    if others:
        yield _note(
            DoctorCode.FOREIGN,
            f"{len(others)} types of other services are permissive in the base policy or another module: {', '.join(others)}",
            f"no action needed for {profile.name}; distributions make new domains permissive for a while",
        )


def _agreement(facts: MachineFacts, profile: Profile) -> Iterable[Problem]:
    """Report differences in permissive types between kernel, boot policy and store; the store is authoritative."""
    if facts.stored is None:
        return
    own = frozenset(profile.own_domains)
    for where, types in (
        ("in the loaded policy", facts.permissive),
        ("in the boot policy", facts.booted or frozenset()),
    ):
        for name in sorted(types - facts.stored):
            yield (_stop if name in own else _warn)(
                DoctorCode.BOOTPOLICY,
                f"{name} is permissive {where}, but not in the policy that the store built",
                "run: systemctl start sepolicyd-lease.service; if that does not help: semodule -B",
            )
    if facts.boot_differs:
        yield _warn(
            DoctorCode.BOOTDIFF,
            "the boot policy differs from the policy that the store built (interrupted semodule, or a partial restore)",
            "run: semodule -B",
        )


def _hidden(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    if facts.dontaudit_off and not facts.hidden_lease:
        yield _warn(
            DoctorCode.DONTAUDIT,
            "dontaudit rules are disabled without a lease: the log fills with harmless denials",
            "run: semodule -B",
        )


def _audit(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    if facts.auditd_active is False:
        yield _stop(
            DoctorCode.AUDITD,
            "auditd is not running, so denials are not written to the audit log",
            "run: systemctl start auditd",
        )
    if not facts.daemon_user:
        yield _warn(DoctorCode.USER, "the user sepolicyd does not exist", "run: make install (or systemd-sysusers)")
    if not facts.log_present:
        yield _stop(
            DoctorCode.LOG,
            f"the audit log {facts.log} does not exist",
            "set `log:` in /etc/sepolicyd/config.yaml",
        )
    elif facts.log_blocked_at:
        yield _stop(
            DoctorCode.LOGGROUP,
            f"the daemon's user cannot read {facts.log} (no permission on {facts.log_blocked_at})",
            f"set log_group = sepolicyd in /etc/audit/auditd.conf, then: {RESTART_AUDITD}",
        )
    for place in facts.no_task_rules:
        yield _warn(
            DoctorCode.TASK,
            f"because of the audit rule `-a task,never` ({place}), denials lack program, path and command line",
            "replace that rule by /usr/share/audit/sample-rules/10-base-config.rules, then run: augenrules --load",
        )


def _losses(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    numbers = facts.auditctl
    if numbers.get("lost"):
        yield _warn(
            DoctorCode.LOST,
            f"the kernel has lost {numbers['lost']} audit events since boot: denials may be missing from the log",
            f"run: auditctl -b {max(8192, 2 * numbers.get('backlog_limit', 0))}; auditctl --reset-lost; repeat the exercise",
        )
    if numbers.get("rate_limit"):
        yield _warn(
            DoctorCode.RATE, f"the kernel logs at most {numbers['rate_limit']} audit events a second", "run: auditctl -r 0"
        )
    limit = numbers.get("backlog_limit", 0)
    if limit and numbers.get("backlog", 0) > FULL_BACKLOG * limit:
        yield _warn(
            DoctorCode.BACKLOG,
            f"the audit queue is filling: backlog {numbers['backlog']} of {limit}",
            f"run: auditctl -b {2 * limit}",
        )
    if numbers.get("enabled") == 0:
        yield _stop(DoctorCode.AUDITOFF, "auditing is switched off in the kernel", "run: auditctl -e 1")


def _store(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    if facts.store_present is False:
        yield _stop(DoctorCode.STORE, "there is no policy store on this machine", "install the distribution's policy package")
    if facts.store_locked_by is not None:
        who = facts.store_locked_by or "another process"
        yield _warn(DoctorCode.LOCK, f"the policy store is locked by {who}", "wait until it has finished")
    if facts.expand_check.strip() == "0":
        yield _note(
            DoctorCode.EXPAND,
            "semanage.conf has expand-check=0: the base policy's neverallow rules are not checked",
            "test expand-check = 1 with `semodule -p COPY -n -B` on a copy of the store first: a base policy that violates its"
            " own neverallow rules (Fedora with container-selinux) cannot be built with it, and then no lease can be ended",
        )
    for place, free in sorted(facts.free.items()):
        if free < MIN_FREE_BYTES:
            yield _stop(
                DoctorCode.DISK,
                f"{place} has {free >> 20} MiB free, {MIN_FREE_BYTES >> 20} MiB are needed",
                "free space on that file system",
            )


def _ours(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    for name in facts.overdue:
        yield _stop(
            DoctorCode.OVERDUE,
            f"the lease of {name} is past its deadline and has not ended",
            "run: sepolicyd enforce; journalctl -p crit",
        )
    for path in facts.broken_undo:
        yield _stop(
            DoctorCode.UNDO,
            f"the lease record {path} is damaged",
            "run: systemctl start sepolicyd-lease.service",
        )
    if facts.open_operations:
        yield _stop(
            DoctorCode.JOURNAL,
            f"{facts.open_operations} operations were interrupted",
            "run: sepolicyd apply (it completes or rolls them back first)",
        )
    if facts.trial_problem:
        yield _stop(DoctorCode.TRIAL, facts.trial_problem, "correct that, then: systemctl start sepolicyd-trial.service")
    if facts.timer_problem:
        yield _stop(
            DoctorCode.TIMER,
            f"no lease can be opened, because no timer could end it: {facts.timer_problem}",
            "run: make install; systemctl daemon-reload",
        )
    if facts.daemon_active is False:
        yield _warn(
            DoctorCode.DAEMON,
            "sepolicyd.service is not running: no evidence is collected",
            "run: systemctl start sepolicyd",
        )
    if not facts.default_state:
        yield _warn(
            DoctorCode.STATE,
            "the state directory is not /var/lib/sepolicyd, the only one that sepolicyd-boot and sepolicyd-lease examine",
            "use the default, or change --dir and the conditions of both units in drop-ins",
        )


def _unasked(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    for text in facts.unasked:
        yield _note(DoctorCode.UNASKED, text, "run this as root, on the machine itself")


CHECKS: tuple[Callable[[MachineFacts, Profile], Iterable[Problem]], ...] = (
    *(_interpreter, _selinux, _domains, _permissive, _agreement, _hidden, _audit, _losses, _store, _ours, _unasked),
)
