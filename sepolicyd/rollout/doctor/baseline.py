"""Checks that security baselines ask for (CIS, STIG, ComplianceAsCode), answered for the whole machine.

Unlike the problems of `doctor`, they do not depend on a profile. A check without facts never passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Union

from sepolicyd.rollout.doctor.baseline_facts import BaselineFacts, OpenLease, ServiceProcess

# The domains in which a daemon runs for which the policy has no rules: Fedora's and RHEL's, and refpolicy's.
WITHOUT_POLICY = frozenset(("unconfined_service_t", "initrc_t"))
# Domains of an administrator's shell and of the kernel. In a unit: a context set by hand, or a file system without labels.
NOT_FOR_UNITS = frozenset(("unconfined_t", "kernel_t"))


class CheckResult(str, Enum):
    """The answer of one check."""

    PASS = "pass"  # noqa: S105 the word of XCCDF
    FAIL = "fail"
    UNKNOWN = "unknown"


class BaselineCheck(str, Enum):
    """A check: its name, its requirement, and the controls that ask for it (sources: docs/monitoring.md)."""

    requirement: str
    controls: tuple[str, ...]

    def __new__(cls, name: str, requirement: str, controls: tuple[str, ...]) -> BaselineCheck:
        made = str.__new__(cls, name)
        made._value_ = name
        made.requirement, made.controls = requirement, controls
        return made

    @classmethod
    def named(cls, name: str) -> BaselineCheck:
        """Return the check of that name.

        :raises KeyError: no such check
        """
        return {check.value: check for check in cls}[name]

    ENFORCING = (
        "enforcing",
        "SELinux enforces now and after a reboot",
        ("CIS RHEL 9 v2.0.0 1.3.1.5", "STIG RHEL-09-431010", "ComplianceAsCode selinux_state"),
    )
    PERMISSIVE = ("permissive-domains", "no domain is permissive, except under an open lease of sepolicyd", ())
    UNCONFINED = (
        "unconfined-services",
        "no service runs in a domain for services without a policy",
        ("CIS RHEL 9 v2.0.0 1.3.1.6", "ComplianceAsCode selinux_confinement_of_daemons"),
    )
    NEVERAUDIT = ("neveraudit-types", "the policy has no type whose denials are never logged", ())
    DONTAUDIT = ("dontaudit", "dontaudit rules are in force, except under an open lease with --hidden", ())
    AUDITD = (
        "auditd",
        "auditd runs, starts at boot, and receives the kernel's events",
        ("STIG RHEL-09-653015", "ComplianceAsCode service_auditd_enabled"),
    )


@dataclass(frozen=True)
class BaselineFinding:
    """Reason for a failed check."""

    name: str
    """A type, a unit, or a setting."""
    what: str
    """One sentence. It may contain untrusted text (the name of a process): escape it before display."""
    hint: str = ""


@dataclass(frozen=True)
class Note:
    """Something that is allowed and still worth knowing, such as an open lease."""

    text: str


@dataclass(frozen=True)
class NotExamined:
    """A question that could not be answered."""

    text: str


Observation = Union[BaselineFinding, Note, NotExamined]


@dataclass(frozen=True)
class CheckReport:
    """The answer of one check and its reasons."""

    check: BaselineCheck
    result: CheckResult
    findings: tuple[BaselineFinding, ...] = ()
    notes: tuple[str, ...] = ()
    """Notes, and what could not be examined."""


def run_checks(facts: BaselineFacts, chosen: Sequence[BaselineCheck] = ()) -> tuple[CheckReport, ...]:
    """Answer the chosen checks, all of them by default, in the order of :class:`BaselineCheck`."""
    return tuple(_report(check, facts) for check in BaselineCheck if not chosen or check in chosen)


def worst(reports: Iterable[CheckReport]) -> CheckResult:
    """Return FAIL if a check failed, else UNKNOWN if one could not be answered, else PASS."""
    results = {report.result for report in reports}
    return next((one for one in (CheckResult.FAIL, CheckResult.UNKNOWN) if one in results), CheckResult.PASS)


def _report(check: BaselineCheck, facts: BaselineFacts) -> CheckReport:
    seen = list(CHECKS[check](facts))
    findings = tuple(one for one in seen if isinstance(one, BaselineFinding))
    gaps = [one.text for one in seen if isinstance(one, NotExamined)]
    notes = tuple([one.text for one in seen if isinstance(one, Note)] + gaps)
    result = CheckResult.FAIL if findings else CheckResult.UNKNOWN if gaps else CheckResult.PASS
    return CheckReport(check, result, findings, notes)


def _enforcing(facts: BaselineFacts) -> Iterator[Observation]:
    if not facts.enabled:
        yield _disabled()
    elif facts.enforcing is None:
        yield NotExamined("whether the kernel enforces could not be read")
    elif not facts.enforcing:
        leased = next((lease for lease in _leases(facts) if not lease.domains and not lease.overdue), None)
        why = f"under {_about(leased)}" if leased else "without a lease, so that nothing ends that"
        yield BaselineFinding("getenforce", f"the whole machine is permissive, {why}", "sepolicyd enforce, or: setenforce 1")
    if facts.configured != "enforcing":
        what = f"/etc/selinux/config says SELINUX={facts.configured}: a reboot does not come back enforcing"
        yield BaselineFinding("/etc/selinux/config", what, "set SELINUX=enforcing there")
    for word in facts.boot_options:
        yield BaselineFinding(word, f"the kernel was started with {word}", "take it out of the boot loader's configuration")


def _permissive(facts: BaselineFacts) -> Iterator[Observation]:
    if not facts.enabled:
        yield _disabled()
        return
    covered = {name: lease for lease in _leases(facts) if not lease.overdue for name in lease.domains}
    for where, types in (("in the loaded policy", facts.permissive), ("in the policy of the next boot", facts.booted)):
        if types is None:
            yield NotExamined(f"permissive types {where} could not be read")
            continue
        uncovered = types - covered.keys()
        if uncovered and facts.leases is None:
            yield NotExamined(f"whether a lease covers {', '.join(sorted(uncovered))} could not be read: run this as root")
            continue
        for name in sorted(uncovered):
            removable = name in facts.removable
            origin = "semanage made it so" if removable else "the base policy or another module makes it so"
            hint = f"semanage permissive -d {name}" if removable else "find the module: semodule -lfull"
            yield BaselineFinding(name, f"{name} is permissive {where} without a lease ({origin})", hint)
    for lease in _leases(facts):
        if lease.domains:
            yield Note(f"{', '.join(sorted(lease.domains))}: permissive under {_about(lease)}")


def _unconfined(facts: BaselineFacts) -> Iterator[Observation]:
    if not facts.enabled:
        yield _disabled()
        return
    if facts.processes is None:
        yield NotExamined("processes could not be read")
    for process in sorted(facts.processes or ()):
        without_policy = process.domain in WITHOUT_POLICY
        if without_policy and process.oneshot:
            yield Note(f"{_who(process)}: a job that ends by itself, not a daemon")
        elif without_policy or (process.domain in NOT_FOR_UNITS and process.unit):
            hint = f"give it a domain: sepolicyd init --new NAME --unit {process.unit}" if process.unit else ""
            yield BaselineFinding(process.unit or process.comm, _who(process), hint)
        elif process.domain in (facts.unconfined or ()):
            yield Note(f"{_who(process)}, to which the policy allows everything")
    if facts.unconfined is None:
        yield Note("which other domains the policy allows everything was not examined")


def _neveraudit(facts: BaselineFacts) -> Iterator[Observation]:
    if not facts.enabled or facts.neveraudit is None:
        yield NotExamined("the loaded policy could not be read")
    for name in sorted(facts.neveraudit or ()):
        yield BaselineFinding(name, f"denials of {name} are never logged", "find (typeneveraudit ...): semodule -lfull")


def _dontaudit(facts: BaselineFacts) -> Iterator[Observation]:
    if not facts.enabled or facts.dontaudit_off is None:
        yield NotExamined("the module store of a running policy could not be read")
        return
    if not facts.dontaudit_off:
        return
    covering = next((lease for lease in _leases(facts) if lease.hidden and not lease.overdue), None)
    if covering is not None:
        yield Note(f"dontaudit rules are off under {_about(covering)}")
    elif facts.leases is None:
        yield NotExamined("dontaudit rules are off, and whether a lease covers that could not be read: run this as root")
    else:
        yield BaselineFinding(
            "disable_dontaudit", "dontaudit rules are off without a lease: harmless denials fill the log", "semodule -B"
        )


def _auditd(facts: BaselineFacts) -> Iterator[Observation]:
    if facts.auditd_active is None or facts.auditd_enabled is None:
        yield NotExamined("the state of auditd.service could not be read")
    if facts.auditd_active is False:
        yield BaselineFinding("auditd.service", "auditd is not running", "systemctl start auditd")
    if facts.auditd_enabled is False:
        yield BaselineFinding("auditd.service", "auditd is not started at boot", "systemctl enable auditd")
    status = facts.audit_status
    if status is None:
        yield NotExamined("auditctl -s could not be run: run this as root")
        return
    if status.get("enabled") == 0:
        yield BaselineFinding("auditctl", "auditing is switched off in the kernel", "auditctl -e 1")
    if status.get("pid") == 0:
        yield BaselineFinding("auditctl", "no audit daemon is registered with the kernel", "service auditd restart")
    for place in facts.no_task_rules:
        yield BaselineFinding(
            place, "the rule `-a task,never` keeps program and path out of every denial", "remove it; augenrules --load"
        )
    if status.get("lost"):
        yield Note(f"the kernel has lost {status['lost']} audit events since boot")


def _leases(facts: BaselineFacts) -> tuple[OpenLease, ...]:
    return facts.leases or ()


def _about(lease: OpenLease) -> str:
    until = datetime.fromtimestamp(lease.deadline, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    reason = f": {lease.why}" if lease.why else ""
    return f"the lease of {lease.profile} until {until}{' (OVERDUE)' if lease.overdue else ''}, opened by {lease.by}{reason}"


def _who(process: ServiceProcess) -> str:
    unit = process.unit or "a process of no unit"
    return f"{unit}: process {process.pid} ({process.comm}) runs as {process.domain}"


def _disabled() -> BaselineFinding:
    return BaselineFinding("SELinux", "SELinux is disabled in this kernel: nothing is confined", "boot with SELinux")


CHECKS: dict[BaselineCheck, Callable[[BaselineFacts], Iterator[Observation]]] = {
    BaselineCheck.ENFORCING: _enforcing,
    BaselineCheck.PERMISSIVE: _permissive,
    BaselineCheck.UNCONFINED: _unconfined,
    BaselineCheck.NEVERAUDIT: _neveraudit,
    BaselineCheck.DONTAUDIT: _dontaudit,
    BaselineCheck.AUDITD: _auditd,
}
