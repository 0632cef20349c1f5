"""Facts about this machine in, findings out: what would spoil a rollout, each with the command that mends it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable

from sepolicyd.problems import Problem, Severity
from sepolicyd.profiles import Profile
from sepolicyd.rollout.doctor.facts import OLDEST_PYTHON, MachineFacts

MIN_FREE_BYTES = 256 << 20
FULL_BACKLOG = 0.5  # of backlog_limit
RESTART_AUDITD = "service auditd restart"  # auditd.service refuses a manual stop on Fedora and RHEL (RefuseManualStop=)


def judge(facts: MachineFacts, profile: Profile) -> tuple[Problem, ...]:
    """All findings, the worst first. Pure; ``facts`` come from :func:`sepolicyd.rollout.doctor.gather.gather`."""
    found: list[Problem] = []
    for check in CHECKS:
        found += check(facts, profile)
    return tuple(sorted(found, key=lambda finding: (-finding.level, finding.code)))


def _stop(code: str, what: str, hint: str) -> Problem:
    return Problem(Severity.STOP, code, what, hint)


def _warn(code: str, what: str, hint: str) -> Problem:
    return Problem(Severity.WARN, code, what, hint)


def _note(code: str, what: str, hint: str) -> Problem:
    return Problem(Severity.NOTE, code, what, hint)


def _interpreter(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    if facts.python < OLDEST_PYTHON:
        yield _stop(
            "D-PYTHON",
            f"Python {'.'.join(map(str, facts.python))} is too old",
            "use the distribution's /usr/bin/python3, 3.9 or later",
        )
    for tool, package in facts.missing_tools:
        yield _stop("D-TOOL", f"{tool} is not installed", f"install the package {package}")
    if facts.setools == "missing":
        yield _stop(
            "D-SETOOLS",
            "the Python module setools is missing, so no policy can be read",
            "install the distribution's python3-setools; the environment needs --system-site-packages",
        )
    if facts.setools == "other":
        yield _stop(
            "D-SETOOLS",
            "the Python module setools is another one: the package of that name on the Python index is a speech toolkit",
            "run: python3 -m pip uninstall setools; install the distribution's python3-setools",
        )


def _selinux(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    if facts.enabled is False:
        yield _stop(
            "D-DISABLED",
            "SELinux is disabled in this kernel",
            "set SELINUX=permissive in /etc/selinux/config, boot with security=selinux, run: fixfiles -F onboot; reboot",
        )
        return
    if facts.enforcing is False:
        yield _stop(
            "D-PERMISSIVE",
            "the whole machine is permissive: what others are denied is in the log too, and nothing ends it",
            "run: setenforce 1; then: sepolicyd learn start",
        )
    if facts.loads_refused:
        yield _stop(
            "D-SECUREMODE",
            "the boolean secure_mode_policyload is on or about to be: the kernel takes no policy, so that nothing can be"
            " applied, and no lease opened or ended",
            "setsebool -P secure_mode_policyload off; if it is on already, only a reboot switches it off",
        )
    if facts.configured != "enforcing":
        yield _warn(
            "D-CONFIG",
            f"/etc/selinux/config says SELINUX={facts.configured}: a reboot does not come back enforcing",
            "set SELINUX=enforcing in /etc/selinux/config",
        )
    for path in facts.unlabeled:
        yield _stop("D-LABEL", f"{path} has no SELinux label", f"run: restorecon -R -F {path}")


def _domains(facts: MachineFacts, profile: Profile) -> Iterable[Problem]:
    own = [name for name in profile.domains if name not in profile.unpoliced]
    if facts.known_domains is not None and not any(name in facts.known_domains for name in own):
        yield _stop(
            "D-DOMAIN",
            f"the loaded policy knows no domain of {profile.name}",
            f"run: sepolicyd init {profile.name}",
        )
    for name in facts.unconfined_domains:
        yield _stop("D-UNCONFINED", f"{name} is unconfined: nothing is denied to it", f"run: sepolicyd init {profile.name}")
    for unit, kind in sorted(facts.services.items()):
        if kind in profile.unpoliced:
            what = f"{unit} runs as {kind}, which is not confined: there is nothing to learn"
            command = f"run: sepolicyd init {profile.name}; then: systemctl restart {unit}"
            program = facts.programs.get(unit, "")
            if program and any(name in (facts.known_domains or ()) for name in own):
                # its policy is there: an upgrade may have written the program anew, without its label
                what += f"; its policy is loaded, so {program} may have lost its label, or was started before"
                command = f"run: restorecon -v {shlex.quote(program)}; then: systemctl restart {unit}"
            yield _stop("D-SERVICE", what, command)
    foreign = sorted(facts.permissive - facts.leased)
    for name in foreign:
        yield (_stop if name in own else _note)(
            "D-FOREIGN",
            f"{name} is permissive, and not by a lease: nothing ends that",
            f"run: semanage permissive -d {name} (or remove the module that says so: semodule -lfull)",
        )
    for name in facts.neveraudit:
        yield _stop(
            "D-NEVERAUDIT",
            f"{name} is neveraudit: being permissive it logs nothing",
            "remove the module that says (typeneveraudit ...): semodule -lfull",
        )


def _hidden(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    if facts.dontaudit_off and not facts.hidden_lease:
        yield _warn(
            "D-DONTAUDIT",
            "dontaudit rules are switched off, and not by a lease: the log fills with what nobody needs",
            "run: semodule -B",
        )


def _audit(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    if facts.auditd_active is False:
        yield _stop(
            "D-AUDITD",
            "auditd is not running, so denials reach no log",
            "run: systemctl start auditd",
        )
    if not facts.daemon_user:
        yield _warn("D-USER", "the user sepolicyd does not exist", "run: make install (or systemd-sysusers)")
    if not facts.log_present:
        yield _stop(
            "D-LOG",
            f"the audit log {facts.log} does not exist",
            "name it with `log:` in /etc/sepolicyd/config.yaml",
        )
    elif facts.log_blocked_at:
        yield _stop(
            "D-LOGGROUP",
            f"the daemon's user may not read {facts.log} (stopped at {facts.log_blocked_at})",
            f"set log_group = sepolicyd in /etc/audit/auditd.conf, then: {RESTART_AUDITD}",
        )
    for place in facts.no_task_rules:
        yield _warn(
            "D-TASK",
            f"the audit rule `-a task,never` ({place}) keeps program, path and command line out of every denial",
            "take that rule out, put /usr/share/audit/sample-rules/10-base-config.rules there, run: augenrules --load",
        )


def _losses(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    numbers = facts.auditctl
    if numbers.get("lost"):
        yield _warn(
            "D-LOST",
            f"the kernel has lost {numbers['lost']} audit events since boot: something needed may be missing",
            f"run: auditctl -b {max(8192, 2 * numbers.get('backlog_limit', 0))}; auditctl --reset-lost; repeat the exercise",
        )
    if numbers.get("rate_limit"):
        yield _warn("D-RATE", f"the kernel logs at most {numbers['rate_limit']} audit events a second", "run: auditctl -r 0")
    limit = numbers.get("backlog_limit", 0)
    if limit and numbers.get("backlog", 0) > FULL_BACKLOG * limit:
        yield _warn(
            "D-BACKLOG",
            f"{numbers['backlog']} of {limit} places in the audit queue are taken",
            f"run: auditctl -b {2 * limit}",
        )
    if numbers.get("enabled") == 0:
        yield _stop("D-AUDITOFF", "auditing is switched off in the kernel", "run: auditctl -e 1")


def _store(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    if facts.store_present is False:
        yield _stop("D-STORE", "there is no policy store on this machine", "install the distribution's policy package")
    if facts.store_locked_by is not None:
        who = facts.store_locked_by or "another process"
        yield _warn("D-LOCK", f"the policy store is locked by {who}", "wait for it to end")
    if facts.expand_check.strip() == "0":
        yield _note(
            "D-EXPAND",
            "semanage.conf has expand-check=0: the base policy's neverallow rules are not checked (our guard is)",
            "set expand-check = 1 in /etc/selinux/semanage.conf",
        )
    for place, free in sorted(facts.free.items()):
        if free < MIN_FREE_BYTES:
            yield _stop(
                "D-DISK",
                f"{place} has {free >> 20} MiB free, {MIN_FREE_BYTES >> 20} are needed",
                "free space on that disk",
            )


def _ours(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    for name in facts.overdue:
        yield _stop(
            "D-OVERDUE",
            f"the lease of {name} is past its deadline and not ended",
            "run: sepolicyd enforce; journalctl -p crit",
        )
    for path in facts.broken_undo:
        yield _stop(
            "D-UNDO",
            f"{path} is no undo file that can be understood",
            "run: systemctl start sepolicyd-lease.service",
        )
    if facts.open_operations:
        yield _stop(
            "D-JOURNAL",
            f"{facts.open_operations} operations were interrupted",
            "run: sepolicyd apply (it finishes or undoes them first)",
        )
    if facts.trial_problem:
        yield _stop("D-TRIAL", facts.trial_problem, "do that, then: systemctl start sepolicyd-trial.service")
    if facts.timer_problem:
        yield _stop(
            "D-TIMER",
            f"no lease can be opened, as nothing could end it: {facts.timer_problem}",
            "run: make install; systemctl daemon-reload",
        )
    if facts.daemon_active is False:
        yield _warn(
            "D-DAEMON",
            "sepolicyd.service is not running: no evidence is collected",
            "run: systemctl start sepolicyd",
        )
    if not facts.default_state:
        yield _warn(
            "D-STATE",
            "the state directory is not /var/lib/sepolicyd: sepolicyd-boot and sepolicyd-lease look there only",
            "use the default, or change --dir and the conditions of both units in drop-ins",
        )


def _unasked(facts: MachineFacts, _: Profile) -> Iterable[Problem]:
    for text in facts.unasked:
        yield _note("D-UNASKED", text, "run this as root, on the machine itself")


CHECKS: tuple[Callable[[MachineFacts, Profile], Iterable[Problem]], ...] = (
    *(_interpreter, _selinux, _domains, _hidden, _audit, _losses, _store, _ours, _unasked),
)
