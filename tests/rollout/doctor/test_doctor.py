"""Each condition that impairs a rollout gives one problem with its repair; a healthy machine has none."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from sepolicyd.problems import Severity
from sepolicyd.rollout.doctor import gather
from sepolicyd.rollout.doctor.ask import Asker
from sepolicyd.rollout.doctor.checks import judge
from sepolicyd.rollout.doctor.codes import DoctorCode
from sepolicyd.rollout.doctor.examine import examine
from sepolicyd.rollout.doctor.facts import FileAccess, MachineFacts
from sepolicyd.rollout.doctor.gather import file_access, no_task_lines, parse_audit_status
from sepolicyd.settings import Settings
from tests.rollout.lease.test_lease import PROFILE

HEALTHY: dict[str, Any] = {
    "known_domains": ("hub_t", "proxy_t"),
    "services": {"hub.service": "hub_t"},
    "auditctl": {"lost": 0, "backlog": 3, "backlog_limit": 8192, "rate_limit": 0, "enabled": 1},
    "free": {"/var/lib/selinux/x": 1 << 33},
}

SICK = [
    ({"python": (3, 8)}, "D-PYTHON", Severity.STOP, "3.9"),
    ({"missing_tools": (("checkmodule", "checkpolicy"),)}, "D-TOOL", Severity.STOP, "install the package checkpolicy"),
    ({"setools": "other"}, "D-SETOOLS", Severity.STOP, "pip uninstall setools"),
    ({"setools": "missing"}, "D-SETOOLS", Severity.STOP, "python3-setools"),
    ({"enabled": False}, "D-DISABLED", Severity.STOP, "fixfiles"),
    ({"enforcing": False}, "D-PERMISSIVE", Severity.STOP, "setenforce 1"),
    ({"loads_refused": True}, "D-SECUREMODE", Severity.STOP, "setsebool -P secure_mode_policyload off"),
    ({"trial_problem": "a module on trial could not be rolled back"}, "D-TRIAL", Severity.STOP, "sepolicyd-trial.service"),
    ({"configured": "permissive"}, "D-CONFIG", Severity.WARN, "SELINUX=enforcing"),
    ({"unlabeled": ("/var",)}, "D-LABEL", Severity.STOP, "restorecon -R -F /var"),
    ({"known_domains": ()}, "D-DOMAIN", Severity.STOP, "sepolicyd init hub"),
    ({"unconfined_domains": ("hub_t",)}, "D-UNCONFINED", Severity.STOP, "sepolicyd init hub"),
    ({"services": {"hub.service": "initrc_t"}}, "D-SERVICE", Severity.STOP, "systemctl restart hub.service"),
    (
        {"services": {"hub.service": "initrc_t"}, "programs": {"hub.service": "/opt/hub/bin/hub"}},
        "D-SERVICE",
        Severity.STOP,
        "restorecon -v /opt/hub/bin/hub",
    ),
    ({"permissive": frozenset({"hub_t"})}, "D-FOREIGN", Severity.STOP, "semanage permissive -d hub_t"),
    ({"permissive": frozenset({"other_t"})}, "D-FOREIGN", Severity.NOTE, "semanage permissive -d other_t"),
    ({"permissive": frozenset({"hub_t"}), "stored": frozenset()}, "D-BOOTPOLICY", Severity.STOP, "semodule -B"),
    ({"permissive": frozenset({"other_t"}), "stored": frozenset()}, "D-BOOTPOLICY", Severity.WARN, "semodule -B"),
    ({"booted": frozenset({"hub_t"}), "stored": frozenset()}, "D-BOOTPOLICY", Severity.STOP, "sepolicyd-lease.service"),
    ({"stored": frozenset(), "boot_differs": True}, "D-BOOTDIFF", Severity.WARN, "semodule -B"),
    ({"neveraudit": ("hub_t",)}, "D-NEVERAUDIT", Severity.STOP, "typeneveraudit"),
    ({"dontaudit_off": True}, "D-DONTAUDIT", Severity.WARN, "semodule -B"),
    ({"auditd_active": False}, "D-AUDITD", Severity.STOP, "systemctl start auditd"),
    ({"daemon_user": False}, "D-USER", Severity.WARN, "make install"),
    ({"log_present": False}, "D-LOG", Severity.STOP, "log:"),
    ({"log_blocked_at": "/var/log/audit"}, "D-LOGGROUP", Severity.STOP, "log_group = sepolicyd"),
    ({"no_task_rules": ("/etc/audit/rules.d/x.rules:3",)}, "D-TASK", Severity.WARN, "augenrules --load"),
    ({"auditctl": {"lost": 7, "backlog_limit": 64}}, "D-LOST", Severity.WARN, "auditctl -b 8192"),
    ({"auditctl": {"rate_limit": 20}}, "D-RATE", Severity.WARN, "auditctl -r 0"),
    ({"auditctl": {"backlog": 60, "backlog_limit": 64}}, "D-BACKLOG", Severity.WARN, "auditctl -b 128"),
    ({"auditctl": {"enabled": 0}}, "D-AUDITOFF", Severity.STOP, "auditctl -e 1"),
    ({"store_present": False}, "D-STORE", Severity.STOP, "policy package"),
    ({"store_locked_by": "semodule (pid 7)"}, "D-LOCK", Severity.WARN, "wait"),
    ({"store_locked_by": ""}, "D-LOCK", Severity.WARN, "wait"),
    ({"expand_check": "0"}, "D-EXPAND", Severity.NOTE, "expand-check = 1"),
    ({"free": {"/var": 1000}}, "D-DISK", Severity.STOP, "free space"),
    ({"overdue": ("hub",)}, "D-OVERDUE", Severity.STOP, "sepolicyd enforce"),
    ({"broken_undo": ("/x/hub.json",)}, "D-UNDO", Severity.STOP, "sepolicyd-lease.service"),
    ({"open_operations": 1}, "D-JOURNAL", Severity.STOP, "sepolicyd apply"),
    ({"timer_problem": "no systemd"}, "D-TIMER", Severity.STOP, "make install"),
    ({"daemon_active": False}, "D-DAEMON", Severity.WARN, "systemctl start sepolicyd"),
    ({"default_state": False}, "D-STATE", Severity.WARN, "drop-ins"),
    ({"unasked": ("could not look at x",)}, "D-UNASKED", Severity.NOTE, "root"),
]


def test_a_healthy_machine_has_no_finding() -> None:
    assert judge(MachineFacts(**HEALTHY), PROFILE) == ()


@pytest.mark.parametrize(("change", "code", "level", "hint"), SICK, ids=[f"{code}-{level.name}" for _, code, level, _ in SICK])
def test_each_sickness_is_found_and_mended(change: dict[str, Any], code: str, level: Severity, hint: str) -> None:
    found = judge(MachineFacts(**{**HEALTHY, **change}), PROFILE)
    assert [finding.code for finding in found] == [code]
    assert found[0].level is level
    assert hint in found[0].hint


def test_every_code_is_produced() -> None:
    assert {code for _, code, _, _ in SICK} == set(DoctorCode)


def test_permissive_types_of_the_base_policy_are_one_note_without_a_command_that_cannot_work() -> None:
    names = frozenset({"a_t", "b_t", "c_t"})
    facts = MachineFacts(**{**HEALTHY, "permissive": names, "stored": names, "booted": names, "removable": frozenset({"c_t"})})
    found = judge(facts, PROFILE)
    assert [(one.code, one.level) for one in found] == [("D-FOREIGN", Severity.NOTE)] * 2
    assert "semanage permissive -d c_t" in found[0].hint
    assert "2 types" in found[1].what
    assert "semanage permissive" not in found[1].hint


def test_an_open_lease_is_no_disagreement() -> None:
    own = frozenset({"hub_t"})
    facts = MachineFacts(**{**HEALTHY, "permissive": own, "leased": own, "stored": own, "booted": own})
    assert judge(facts, PROFILE) == ()


def test_what_our_lease_opened_is_no_finding() -> None:
    facts = MachineFacts(**{**HEALTHY, "permissive": frozenset({"hub_t"}), "leased": frozenset({"hub_t"})})
    assert judge(facts, PROFILE) == ()
    assert judge(MachineFacts(**{**HEALTHY, "dontaudit_off": True, "hidden_lease": True}), PROFILE) == ()


def test_the_worst_comes_first() -> None:
    facts = MachineFacts(**{**HEALTHY, "expand_check": "0", "daemon_active": False, "auditd_active": False})
    assert [finding.level for finding in judge(facts, PROFILE)] == [Severity.STOP, Severity.WARN, Severity.NOTE]


PATH = (("/", 0o40755, 0, 0), ("/audit", 0o40750, 0, 4), ("/audit/log", 0o100640, 0, 4))


@pytest.mark.parametrize(
    ("parts", "uid", "groups", "blocked"),
    [
        (PATH, 100, (100, 4), ""),
        (PATH, 100, (100,), "/audit"),
        ((*PATH[:2], ("/audit/log", 0o100600, 0, 0)), 100, (4,), "/audit/log"),
        ((*PATH[:2], ("/audit/log", 0o100600, 0, 0)), 0, (), ""),
        ((*PATH[:2], ("/audit/log", 0o100400, 100, 4)), 100, (4,), ""),
    ],
)
def test_who_may_read_the_log(parts: Any, uid: int, groups: tuple[int, ...], blocked: str) -> None:
    assert FileAccess(parts).blocked_at(uid, groups) == blocked


def test_modes_of_a_real_file(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    file = tmp_path / "log"
    file.write_text("")
    file.chmod(0o644)
    owner = file.stat().st_uid
    assert file_access(file).blocked_at(owner, ()) == ""
    # mkdtemp's parents are private as well, so it may be stopped above
    assert str(file).startswith(file_access(file).blocked_at(owner + 12345, ()))
    assert file_access(file).blocked_at(owner + 12345, ())


def test_audit_rules_and_status() -> None:
    assert no_task_lines("# -a task,never\n-D\n-a task,never\n -A never,task -F uid=1\n-a always,exit\n") == [3, 4]
    text = "enabled 1\nfailure 1\npid 512\nrate_limit 0\nlost 12\nbacklog 4\nloginuid_immutable 0 unlocked\n"
    assert parse_audit_status(text)["lost"] == 12
    assert parse_audit_status("AUDIT_STATUS: enabled=1 lost=3\n") == {}
    assert parse_audit_status("") == {}


@pytest.mark.parametrize(
    ("files", "flavour"), [(["policyrep.so", "__init__.py"], "ok"), (["praat.py", "__init__.py"], "other")]
)
def test_the_two_packages_called_setools(
    files: list[str], flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "setools"
    package.mkdir()
    for name in files:
        (package / name).write_text("raise RuntimeError('nothing may be imported to tell')")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    monkeypatch.delitem(__import__("sys").modules, "setools", raising=False)
    assert gather.setools_flavour() == flavour


def test_it_looks_at_this_machine_whatever_it_is(tmp_path: Path) -> None:
    found = examine(Settings(state=tmp_path, log=tmp_path / "nothing"), PROFILE)
    codes = {finding.code for finding in found}
    assert {"D-LOG", "D-STATE"} <= codes
    assert all(finding.hint for finding in found)


def test_who_may_not_look_is_told_and_not_thrown_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """doctor is what a person runs first, often without sudo, and the store is root's to look into."""

    real = Path.is_dir

    def is_dir(path: Path, **more: bool) -> bool:
        if path.name == "modules":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **more)

    monkeypatch.setattr(Path, "is_dir", is_dir)
    asker = Asker()
    assert gather._store(asker, Settings(root=tmp_path, state=tmp_path))["store_present"] is None
    assert any("cannot examine the store" in text for text in asker.problems)
