"""Checks of security baselines: reasons to fail, exceptions for leases, and no pass in doubt."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sepolicyd.rollout.doctor.baseline import BaselineCheck, CheckReport, CheckResult, run_checks, worst
from sepolicyd.rollout.doctor.baseline_facts import BaselineFacts, OpenLease, ServiceProcess
from sepolicyd.rollout.doctor.gather_baseline import boot_options, gather_baseline, service_processes, unit_of
from sepolicyd.settings import Settings

LEASE = OpenLease("hub", frozenset({"hub_t"}), False, 1_800_000_000.0, "ada", "ticket 4711", False)
HUB = ServiceProcess("hub.service", 7, "hub", "unconfined_service_t")
HUB_T = frozenset({"hub_t"})


def ask(check: str, **facts: Any) -> CheckReport:
    (report,) = run_checks(BaselineFacts(**facts), [BaselineCheck.named(check)])
    return report


def test_a_healthy_machine_passes_every_check() -> None:
    reports = run_checks(BaselineFacts())
    assert [report.check for report in reports] == list(BaselineCheck)
    assert {report.result for report in reports} == {CheckResult.PASS}
    assert all(not report.findings for report in reports)


FAILS: list[tuple[str, dict[str, Any], str]] = [
    ("enforcing", {"enabled": False}, "SELinux"),
    ("enforcing", {"enforcing": False}, "getenforce"),
    ("enforcing", {"configured": "permissive"}, "/etc/selinux/config"),
    ("enforcing", {"boot_options": ("enforcing=0",)}, "enforcing=0"),
    ("permissive-domains", {"enabled": False}, "SELinux"),
    ("permissive-domains", {"permissive": HUB_T}, "hub_t"),
    ("permissive-domains", {"booted": HUB_T}, "hub_t"),
    ("permissive-domains", {"permissive": HUB_T, "leases": (replace(LEASE, overdue=True),)}, "hub_t"),
    ("permissive-domains", {"permissive": HUB_T | {"other_t"}, "leases": (LEASE,)}, "other_t"),
    ("unconfined-services", {"enabled": False}, "SELinux"),
    ("unconfined-services", {"processes": (HUB,)}, "hub.service"),
    ("unconfined-services", {"processes": (replace(HUB, domain="initrc_t"),)}, "hub.service"),
    ("unconfined-services", {"processes": (replace(HUB, domain="unconfined_t"),)}, "hub.service"),
    ("unconfined-services", {"processes": (replace(HUB, domain="kernel_t"),)}, "hub.service"),
    ("unconfined-services", {"processes": (replace(HUB, unit=""),)}, "hub"),
    ("neveraudit-types", {"neveraudit": HUB_T}, "hub_t"),
    ("dontaudit", {"dontaudit_off": True}, "disable_dontaudit"),
    ("dontaudit", {"dontaudit_off": True, "leases": (LEASE,)}, "disable_dontaudit"),
    ("auditd", {"auditd_active": False}, "auditd.service"),
    ("auditd", {"auditd_enabled": False}, "auditd.service"),
    ("auditd", {"audit_status": {"enabled": 0, "pid": 7}}, "auditctl"),
    ("auditd", {"audit_status": {"enabled": 1, "pid": 0}}, "auditctl"),
    ("auditd", {"no_task_rules": ("loaded now",)}, "loaded now"),
]


@pytest.mark.parametrize(("check", "facts", "name"), FAILS, ids=[f"{check}-{next(iter(facts))}" for check, facts, _ in FAILS])
def test_what_makes_a_check_fail(check: str, facts: dict[str, Any], name: str) -> None:
    report = ask(check, **facts)
    assert report.result is CheckResult.FAIL
    assert [one.name for one in report.findings] == [name]


def test_every_check_can_fail() -> None:
    assert {check for check, _, _ in FAILS} == {check.value for check in BaselineCheck}


UNKNOWN: list[tuple[str, dict[str, Any]]] = [
    ("enforcing", {"enforcing": None}),
    ("permissive-domains", {"permissive": None}),
    ("permissive-domains", {"booted": None}),
    ("permissive-domains", {"permissive": HUB_T, "leases": None}),
    ("unconfined-services", {"processes": None}),
    ("neveraudit-types", {"neveraudit": None}),
    ("neveraudit-types", {"enabled": False}),
    ("dontaudit", {"enabled": False}),
    ("dontaudit", {"dontaudit_off": None}),
    ("dontaudit", {"dontaudit_off": True, "leases": None}),
    ("auditd", {"auditd_active": None}),
    ("auditd", {"audit_status": None}),
]


@pytest.mark.parametrize(("check", "facts"), UNKNOWN, ids=[f"{check}-{next(iter(facts))}" for check, facts in UNKNOWN])
def test_what_cannot_be_examined_does_not_pass(check: str, facts: dict[str, Any]) -> None:
    report = ask(check, **facts)
    assert report.result is CheckResult.UNKNOWN
    assert report.notes


def test_a_lease_covers_its_domains_and_is_named() -> None:
    report = ask("permissive-domains", permissive=HUB_T, booted=HUB_T, leases=(LEASE,))
    assert report.result is CheckResult.PASS
    assert report.notes == ("hub_t: permissive under the lease of hub until 2027-01-15 08:00 UTC, opened by ada: ticket 4711",)
    assert ask("dontaudit", dontaudit_off=True, leases=(replace(LEASE, hidden=True),)).result is CheckResult.PASS


def test_a_permissive_machine_fails_under_a_lease_too() -> None:
    """The control asks for the mode of the machine, whoever has changed it."""
    report = ask("enforcing", enforcing=False, leases=(replace(LEASE, domains=frozenset()),))
    assert report.result is CheckResult.FAIL
    assert "under the lease of hub" in report.findings[0].what


def test_jobs_and_domains_with_a_policy_are_notes() -> None:
    crond = ServiceProcess("crond.service", 8, "crond", "crond_t")
    report = ask("unconfined-services", processes=(replace(HUB, oneshot=True), crond), unconfined=frozenset({"crond_t"}))
    assert report.result is CheckResult.PASS
    assert [note.partition(":")[0] for note in report.notes] == ["crond.service", "hub.service"]


def test_the_worst_answer_decides() -> None:
    assert worst(run_checks(BaselineFacts())) is CheckResult.PASS
    assert worst(run_checks(BaselineFacts(dontaudit_off=None))) is CheckResult.UNKNOWN
    assert worst(run_checks(BaselineFacts(dontaudit_off=None, auditd_active=False))) is CheckResult.FAIL


@pytest.mark.parametrize(
    ("groups", "unit"),
    [
        ("0::/system.slice/hub.service\n", ("hub.service", False)),
        ("0::/system.slice/system-getty.slice/getty@tty1.service\n", ("getty@tty1.service", False)),
        ("0::/system.slice/hub.service/worker.scope\n", ("hub.service", False)),
        ("12:pids:/x.service\n1:name=systemd:/system.slice/hub.service\n0::/\n", ("hub.service", False)),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/editor.service\n", ("user@1000.service", True)),
        ("0::/user.slice/user-0.slice/session-3.scope\n", ("", True)),
        ("0::/init.scope\n", ("", False)),
        ("0::/\n", ("", False)),
        ("", ("", False)),
    ],
)
def test_the_unit_of_a_process(groups: str, unit: tuple[str, bool]) -> None:
    assert unit_of(groups) == unit


def process_files(proc: Path, pid: int, domain: str, groups: str, comm: str = "hub") -> None:
    place = proc / str(pid)
    (place / "attr").mkdir(parents=True)
    (place / "attr/current").write_bytes(f"system_u:system_r:{domain}:s0\0".encode())
    (place / "cgroup").write_text(f"0::{groups}\n")
    (place / "comm").write_text(f"{comm}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees all processes")
def test_processes_of_units_and_all_without_a_policy(tmp_path: Path) -> None:
    process_files(tmp_path, 10, "unconfined_service_t", "/system.slice/hub.service", comm="evil\x1b[2J name")
    process_files(tmp_path, 11, "sshd_t", "/system.slice/sshd.service")
    process_files(tmp_path, 12, "unconfined_t", "/user.slice/user-0.slice/session-3.scope")
    process_files(tmp_path, 13, "initrc_t", "/user.slice/user-0.slice/session-3.scope")
    process_files(tmp_path, 14, "kernel_t", "/")
    process_files(tmp_path, os.getpid(), "unconfined_service_t", "/system.slice/scan.service")
    (tmp_path / "15").mkdir()  # has ended meanwhile
    (tmp_path / "sys").mkdir()
    found = sorted(service_processes(tmp_path))
    assert [(one.unit, one.pid, one.domain) for one in found] == [
        ("", 13, "initrc_t"),
        ("hub.service", 10, "unconfined_service_t"),
        ("sshd.service", 11, "sshd_t"),
    ]


def test_another_user_is_told_that_root_must_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PermissionError, match="only root"):
        service_processes(tmp_path)


def test_options_of_the_kernel() -> None:
    assert boot_options("root=/dev/vda enforcing=0 quiet selinux=0 enforcing=0\n") == ("enforcing=0", "selinux=0")
    assert boot_options("root=/dev/vda enforcing=1 apparmor_enforcing=0") == ()


def test_this_machine_is_examined_whatever_it_is(tmp_path: Path) -> None:
    facts = gather_baseline(Settings(state=tmp_path, root=tmp_path))
    assert facts.leases == ()
    assert worst(run_checks(facts)) is not CheckResult.PASS  # a root without a store
