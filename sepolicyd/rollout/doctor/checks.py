"""The doctor's checks: what would spoil a rollout, each with the command that corrects it."""

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
    """Return all problems, the worst first. ``facts`` come from :func:`sepolicyd.rollout.doctor.gather.gather`."""
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
            "install the distribution's python3-setools; the environment needs --system-site-packages",
        )
    if facts.setools == "other":
        yield _stop(
            DoctorCode.SETOOLS,
            "the Python module setools is another one: the package of that name on the Python index is a speech toolkit",
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
            "the whole machine is permissive: denials of other services are logged as well, and no deadline ends it",
            "run: setenforce 1; then: sepolicyd learn start",
        )
    if facts.loads_refused:
        yield _stop(
            DoctorCode.SECUREMODE,
            "the boolean secure_mode_policyload is on or about to be: the kernel takes no policy, so that nothing can be"
            " applied, and no lease opened or ended",
            "setsebool -P secure_mode_policyload off; if it is on already, only a reboot switches it off",
        )
    if facts.configured != "enforcing":
        yield _warn(
            DoctorCode.CONFIG,
            f"/etc/selinux/config says SELINUX={facts.configured}: a reboot does not come back enforcing",
            "set SELINUX=enforcing in /etc/selinux/config",
        )
    for path in facts.unlabeled:
        yield _stop(DoctorCode.LABEL, f"{path} has no SELinux label", f"run: restorecon -R -F {path}")


def _domains(facts: MachineFacts, profile: Profile) -> Iterable[Problem]:
    own = profile.own_domains
    if facts.known_domains is not None and not any(name in facts.known_domains for name in own):
        yield _stop(
            DoctorCode.DOMAIN,
            f"the loaded policy knows no domain of {profile.name}",
            f"run: sepolicyd init {profile.name}",
        )
    for name in facts.unconfined_domains:
        yield _stop(
            DoctorCode.UNCONFINED, f"{name} is unconfined: nothing is denied to it", f"run: sepolicyd init {profile.name}"
        )
    for unit, kind in sorted(facts.services.items()):
        if kind in profile.unpoliced:
            what = f"{unit} runs as {kind}, which is not confined: there is nothing to learn"
            command = f"run: sepolicyd init {profile.name}; then: systemctl restart {unit}"
            program = facts.programs.get(unit, "")
            if program and any(name in (facts.known_domains or ()) for name in own):
                # its policy is there: an upgrade may have written the program anew, without its label
                what += f"; its policy is loaded, so {program} may have lost its label, or was started before"
                command = f"run: restorecon -v {shlex.quote(program)}; then: systemctl restart {unit}"
            yield _stop(DoctorCode.SERVICE, what, command)
    for name in facts.neveraudit:
        yield _stop(
            DoctorCode.NEVERAUDIT,
            f"{name} is neveraudit: being permissive it logs nothing",
            "remove the module that says (typeneveraudit ...): semodule -lfull",
        )


def _permissive(facts: MachineFacts, profile: Profile) -> Iterable[Problem]:
    """Permissive types without a lease."""
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
            f"{name} is permissive without a lease, so nothing ends that",
            f"run: semanage permissive -d {name} (or remove the module that says so: semodule -lfull)",
        )
    if others:
        yield _note(
            DoctorCode.FOREIGN,
            f"{len(others)} types of other services are permissive by the base policy or another module: {', '.join(others)}",
            f"this does not concern {profile.name}; a distribution makes new domains permissive for a while",
        )


def _agreement(facts: MachineFacts, profile: Profile) -> Iterable[Problem]:
    """Kernel, store and the next boot's policy must agree on what is permissive; the store is the authority."""
    if facts.stored is None:
        return
    own = frozenset(profile.own_domains)
    for where, types in (
        ("in the loaded policy", facts.permissive),
        ("in the policy of the next boot", facts.booted or frozenset()),
    ):
        for name in sorted(types - facts.stored):
            yield (_stop if name in own else _warn)(
                DoctorCode.BOOTPOLICY,
                f"{name} is permissive {where}, and not in the policy that the store built",
                "run: systemctl start sepolicyd-lease.service; if that does not help: semodule -B",
            )
    if facts.boot_differs:
        yield _warn(
            DoctorCode.BOOTDIFF,
            "the policy file that the next boot loads is not the policy that the store built",
            "run: semodule -B (an interrupted semodule, or a restore of /etc or /var alone)",
        )


def _hidden(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    if facts.dontaudit_off and not facts.hidden_lease:
        yield _warn(
            DoctorCode.DONTAUDIT,
            "dontaudit rules are switched off without a lease: the log fills with harmless denials",
            "run: semodule -B",
        )


def _audit(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    if facts.auditd_active is False:
        yield _stop(
            DoctorCode.AUDITD,
            "auditd is not running, so denials reach no log",
            "run: systemctl start auditd",
        )
    if not facts.daemon_user:
        yield _warn(DoctorCode.USER, "the user sepolicyd does not exist", "run: make install (or systemd-sysusers)")
    if not facts.log_present:
        yield _stop(
            DoctorCode.LOG,
            f"the audit log {facts.log} does not exist",
            "name it with `log:` in /etc/sepolicyd/config.yaml",
        )
    elif facts.log_blocked_at:
        yield _stop(
            DoctorCode.LOGGROUP,
            f"the daemon's user may not read {facts.log} (stopped at {facts.log_blocked_at})",
            f"set log_group = sepolicyd in /etc/audit/auditd.conf, then: {RESTART_AUDITD}",
        )
    for place in facts.no_task_rules:
        yield _warn(
            DoctorCode.TASK,
            f"the audit rule `-a task,never` ({place}) keeps program, path and command line out of every denial",
            "take that rule out, put /usr/share/audit/sample-rules/10-base-config.rules there, run: augenrules --load",
        )


def _losses(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    numbers = facts.auditctl
    if numbers.get("lost"):
        yield _warn(
            DoctorCode.LOST,
            f"the kernel has lost {numbers['lost']} audit events since boot: something needed may be missing",
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
            f"{numbers['backlog']} of {limit} places in the audit queue are taken",
            f"run: auditctl -b {2 * limit}",
        )
    if numbers.get("enabled") == 0:
        yield _stop(DoctorCode.AUDITOFF, "auditing is switched off in the kernel", "run: auditctl -e 1")


def _store(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    if facts.store_present is False:
        yield _stop(DoctorCode.STORE, "there is no policy store on this machine", "install the distribution's policy package")
    if facts.store_locked_by is not None:
        who = facts.store_locked_by or "another process"
        yield _warn(DoctorCode.LOCK, f"the policy store is locked by {who}", "wait for it to end")
    if facts.expand_check.strip() == "0":
        yield _note(
            DoctorCode.EXPAND,
            "semanage.conf has expand-check=0: the base policy's neverallow rules are not checked",
            "try expand-check = 1 with `semodule -p COPY -n -B` on a copy of the store first: a base policy that violates its"
            " own neverallow rules (Fedora's with container-selinux) cannot be built with it, and then no lease can be ended",
        )
    for place, free in sorted(facts.free.items()):
        if free < MIN_FREE_BYTES:
            yield _stop(
                DoctorCode.DISK,
                f"{place} has {free >> 20} MiB free, {MIN_FREE_BYTES >> 20} are needed",
                "free space on that disk",
            )


def _ours(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    for name in facts.overdue:
        yield _stop(
            DoctorCode.OVERDUE,
            f"the lease of {name} is past its deadline and not ended",
            "run: sepolicyd enforce; journalctl -p crit",
        )
    for path in facts.broken_undo:
        yield _stop(
            DoctorCode.UNDO,
            f"the lease record {path} cannot be understood",
            "run: systemctl start sepolicyd-lease.service",
        )
    if facts.open_operations:
        yield _stop(
            DoctorCode.JOURNAL,
            f"{facts.open_operations} operations were interrupted",
            "run: sepolicyd apply (it finishes or undoes them first)",
        )
    if facts.trial_problem:
        yield _stop(DoctorCode.TRIAL, facts.trial_problem, "do that, then: systemctl start sepolicyd-trial.service")
    if facts.timer_problem:
        yield _stop(
            DoctorCode.TIMER,
            f"no lease can be opened, as nothing could end it: {facts.timer_problem}",
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
            "the state directory is not /var/lib/sepolicyd: sepolicyd-boot and sepolicyd-lease look there only",
            "use the default, or change --dir and the conditions of both units in drop-ins",
        )


def _unasked(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    for text in facts.unasked:
        yield _note(DoctorCode.UNASKED, text, "run this as root, on the machine itself")


CHECKS: tuple[Callable[[MachineFacts, Profile], Iterable[Problem]], ...] = (
    *(_interpreter, _selinux, _domains, _permissive, _agreement, _hidden, _audit, _losses, _store, _ours, _unasked),
)
