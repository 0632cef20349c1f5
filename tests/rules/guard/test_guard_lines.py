"""One golden case per line of the list of refused, reviewed and otherwise fixed accesses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sepolicyd.access import Access
from sepolicyd.audit.model import Sighting
from sepolicyd.audit.parse.denial import denials_of
from sepolicyd.audit.parse.event import Event
from sepolicyd.audit.parse.record import Record, parse
from sepolicyd.errors import InputError
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rules.assess.assess import assess
from sepolicyd.rules.candidate import group
from sepolicyd.rules.guard.guard import Guard, explain, load_guard
from tests.rules.lines import GUARD, POLICIES, PROFILE, candidates_from, evidence_of, fold, judge, line, one

HUB, USER = "jupyterhub_t", "jupyterhub_user_t"

# the line, the denial (permissions, source, target, class, more), code, level, the fix proposed
LINES = [
    ("SELinux off", ("setenforce", HUB, "security_t", "security", {}), "R-001", "refuse", "refuse"),
    ("SELinux off", ("load_policy", HUB, "security_t", "security", {}), "R-001", "refuse", "refuse"),
    ("SELinux off", ("setbool", HUB, "security_t", "security", {}), "R-001", "refuse", "refuse"),
    ("policy files", ("write", HUB, "selinux_config_t", "file", {}), "R-002", "refuse", "refuse"),
    ("policy files", ("add_name", HUB, "semanage_store_t", "dir", {}), "R-002", "refuse", "refuse"),
    ("policy files", ("append", HUB, "file_context_t", "file", {}), "R-002", "refuse", "refuse"),
    ("shadow", ("append", USER, "shadow_t", "file", {}), "R-003", "refuse", "refuse"),
    ("shadow", ("read", HUB, "shadow_t", "file", {}), "R-003", "refuse", "refuse"),
    ("shadow", ("relabelto", USER, "shadow_t", "file", {}), "R-003", "refuse", "refuse"),
    ("users", ("write", HUB, "passwd_file_t", "file", {}), "R-003", "refuse", "refuse"),
    ("raw memory", ("read", HUB, "memory_device_t", "chr_file", {}), "R-004", "refuse", "refuse"),
    ("raw memory", ("read", HUB, "proc_kcore_t", "file", {}), "R-004", "refuse", "refuse"),
    ("raw disk", ("open", HUB, "fixed_disk_device_t", "blk_file", {}), "R-004", "refuse", "refuse"),
    ("raw disk", ("ioctl", HUB, "scsi_generic_device_t", "chr_file", {}), "R-004", "refuse", "refuse"),
    ("kernel code", ("sys_module", HUB, HUB, "capability", {}), "R-005", "refuse", "refuse"),
    ("kernel code", ("module_load", HUB, "modules_object_t", "system", {}), "R-005", "refuse", "refuse"),
    ("kernel code", ("write", HUB, "modules_object_t", "file", {}), "R-005", "refuse", "refuse"),
    ("boot", ("create", HUB, "boot_t", "file", {}), "R-005", "refuse", None),
    ("MAC", ("mac_admin", HUB, HUB, "capability2", {}), "R-006", "refuse", "refuse"),
    ("MAC", ("mac_override", HUB, HUB, "capability2", {}), "R-006", "refuse", "refuse"),
    ("unconfined", ("transition", HUB, "unconfined_t", "process", {}), "R-007", "refuse", "refuse"),
    ("unconfined", ("dyntransition", HUB, "init_t", "process", {}), "R-007", "refuse", "refuse"),
    ("unconfined by attribute", ("transition", HUB, "dpkg_script_t", "process", {}), "R-007", "refuse", "refuse"),
    ("entry point", ("entrypoint", HUB, "bin_t", "file", {}), "R-008", "refuse", "refuse"),
    ("entry point", ("entrypoint", HUB, "crond_exec_t", "file", {}), "R-008", "refuse", "refuse"),
    ("entry point", ("entrypoint", HUB, "user_home_t", "file", {}), "R-008", "refuse", "refuse"),
    ("setcurrent", ("setcurrent", HUB, HUB, "process", {}), "R-009", "refuse", "refuse"),
    ("mmap_zero", ("mmap_zero", HUB, HUB, "memprotect", {}), "R-010", "refuse", "refuse"),
    ("relabel", ("relabelfrom", HUB, "user_home_t", "file", {}), "R-012", "refuse", "refuse"),
    ("relabel", ("relabelto", HUB, "bin_t", "file", {}), "R-012", "refuse", "refuse"),
    ("relabel own", ("relabelto", HUB, "jupyterhub_var_lib_t", "file", {}), "V-011", "review", "allow"),
    ("foreign source", ("read", "sshd_t", "var_t", "file", {}), "R-017", "refuse", "refuse"),
    ("foreign source", ("execmem", "init_t", "init_t", "process", {}), "R-017", "refuse", "relabel"),
    ("code", ("write", HUB, "bin_t", "file", {}), "R-018", "refuse", "refuse"),
    ("code", ("add_name", HUB, "lib_t", "dir", {}), "R-018", "refuse", "refuse"),
    ("code", ("create", HUB, "systemd_unit_t", "file", {}), "R-018", "refuse", "refuse"),
    ("code", ("append", HUB, "cron_spool_t", "file", {}), "R-018", "refuse", "refuse"),
    ("code by attribute", ("write", HUB, "sshd_exec_t", "file", {}), "R-018", "refuse", "refuse"),
    ("own code", ("write", HUB, "jupyterhub_exec_t", "file", {}), "R-019", "refuse", "refuse"),
    ("execmem", ("execmem", USER, USER, "process", {}), "V-001", "review", "allow"),
    ("execheap", ("execheap", USER, USER, "process", {}), "V-001", "review", "allow"),
    ("execmod", ("execmod", USER, "lib_t", "file", {}), "V-001", "review", "allow"),
    ("write and run", ("write execute", USER, "jupyterhub_user_tmp_t", "file", {}), "V-002", "review", "allow"),
    ("nearly root", ("sys_admin", HUB, HUB, "capability", {}), "V-003", "review", "allow"),
    ("nearly root", ("sys_ptrace", HUB, HUB, "capability", {}), "V-003", "review", "dontaudit"),
    ("nearly root", ("bpf", HUB, HUB, "capability2", {}), "V-003", "review", "allow"),
    ("nearly root", ("setpcap", HUB, HUB, "capability", {}), "V-003", "review", "allow"),
    ("modes", ("dac_override", HUB, HUB, "capability", {}), "V-004", "review", "allow"),
    ("modes", ("setuid", HUB, HUB, "capability", {}), "V-004", "review", "allow"),
    ("modes", ("audit_control", HUB, HUB, "capability", {}), "V-004", "review", "allow"),
    ("ptrace", ("ptrace", USER, USER, "process", {}), "V-005", "review", "allow"),
    ("chooses labels", ("setexec", HUB, HUB, "process", {}), "V-006", "review", "allow"),
    ("environment", ("noatsecure", HUB, USER, "process", {}), "V-006", "review", "dontaudit"),
    ("clean start", ("siginh rlimitinh", HUB, "chkpwd_t", "process", {}), "P-008", "review", "dontaudit"),
    ("noise", ("block_suspend", HUB, HUB, "capability2", {}), "P-008", "note", "dontaudit"),
    ("noise", ("net_admin", HUB, HUB, "capability", {}), "P-008", "review", "dontaudit"),
    ("noise", ("module_request", HUB, "kernel_t", "system", {}), "P-008", "note", "dontaudit"),
    ("kernel's programs", ("write", HUB, "usermodehelper_t", "file", {}), "R-023", "refuse", "refuse"),
    ("into the hub", ("ptrace", USER, HUB, "process", {}), "R-024", "refuse", "refuse"),
    ("kernel settings", ("write", HUB, "sysctl_net_t", "file", {}), "V-015", "review", "allow"),
    ("a login's port", ("name_bind", HUB, "ssh_port_t", "tcp_socket", {"src": 22}), "V-016", "review", "allow"),
    ("the web server in front", ("name_connect", "httpd_t", "jupyterhub_port_t", "tcp_socket", {"dest": 8000}),
     "V-017", "review", None),
    ("programs in the kernel", ("prog_load", HUB, HUB, "bpf", {}), "V-003", "review", "allow"),
    ("programs in the kernel", ("sqpoll", "jupyterhub_proxy_t", "jupyterhub_proxy_t", "io_uring", {}),
     "V-003", "review", "allow"),
    ("no labels", ("read", HUB, "nfs_t", "file", {}), "P-009", "note", "application"),
    ("no labels", ("search", HUB, "cifs_t", "dir", {}), "P-009", "note", "application"),
    ("mounts", ("mounton", HUB, "mnt_t", "dir", {}), "V-007", "review", "allow"),
    ("mounts", ("mount", HUB, "fs_t", "filesystem", {}), "V-007", "review", "allow"),
    ("indirect root", ("send_msg", HUB, "init_t", "dbus", {}), "V-008", "review", "allow"),
    ("indirect root", ("send_msg", HUB, "policykit_t", "dbus", {}), "V-008", "review", "allow"),
    ("configuration", ("write", HUB, "etc_t", "file", {}), "V-010", "review", "own-type"),
    ("configuration", ("unlink", HUB, "usr_t", "file", {}), "V-010", "review", "own-type"),
    ("unlabelled", ("read", HUB, "unlabeled_t", "file", {}), "P-001", "note", "relabel"),
    ("unlabelled", ("getattr", HUB, "default_t", "file", {}), "P-001", "note", "relabel"),
    ("generic types", ("write", HUB, "var_lib_t", "file", {}), "P-002", "note", "own-type"),
    ("generic types", ("create", HUB, "var_log_t", "file", {}), "P-002", "review", "own-type"),
    ("generic types", ("add_name", HUB, "var_run_t", "dir", {}), "P-002", "note", "own-type"),
    ("generic types", ("write", HUB, "user_home_t", "file", {}), "P-002", "review", "own-type"),
    ("generic ports", ("name_connect", HUB, "unreserved_port_t", "tcp_socket", {"dest": 5000}), "P-003", "note", "port"),
    ("generic ports", ("name_bind", HUB, "port_t", "tcp_socket", {"src": 9999}), "P-003", "note", "port"),
    ("random ports", ("name_bind", USER, "unreserved_port_t", "tcp_socket", {"src": 45123}), "P-003", "review", "allow"),
    ("left open", ("use", USER, "sshd_t", "fd", {}), "P-005", "note", "dontaudit"),
    ("only looked", ("getattr", USER, "mail_spool_t", "dir", {}), "P-006", "note", "dontaudit"),
    ("only looked", ("search", USER, "mail_spool_t", "dir", {}), "P-006", "note", "dontaudit"),
    ("shared tmp", ("create", USER, "tmp_t", "file", {}), "P-007", "note", "own-type"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "asked", "code", "level", "fix"), LINES, ids=[f"{case[0]}-{case[1][0]}" for case in LINES])
def test_a_line_gets_its_code_level_and_fix(what, asked, code, level, fix, policy_index: PolicyIndex) -> None:
    permissions, source, target, tclass, more = asked
    item = one([line(permissions, source, target, tclass, comm="x", pid=7, **more)], policy_index)
    assert code in {finding.code for finding in item.findings}, (what, item.findings)
    assert item.level == level, (what, item.findings)
    if fix is not None:
        assert item.fix.kind == fix, (what, item.fix, item.alternatives)
    assert item.approvable == (level != "refuse"), item.why_not
    if level == "refuse":
        assert not {"allow", "boolean", "interface"} & {one.kind for one in (item.fix, *item.alternatives)}


@pytest.mark.parametrize(("what", "asked", "code", "level", "fix"), LINES, ids=[f"{case[0]}-{case[1][0]}" for case in LINES])
def test_refusals_need_no_policy(what, asked, code, level, fix) -> None:
    permissions, source, target, tclass, _ = asked
    if level != "refuse" or "attribute" in what:
        return
    for permission in permissions.split():
        findings = GUARD.judge_access(Access.of(source, target, tclass, permission), PROFILE)
        assert code in {finding.code for finding in findings}


def test_a_leak_at_execve_is_told_by_its_system_call(policy_index: PolicyIndex) -> None:
    text = line("read write", USER, "sshd_t", "unix_stream_socket", comm="bash", pid=7)
    stamp = text.split("audit(")[1].split(")")[0]
    call = f'type=SYSCALL msg=audit({stamp}): arch=c000003e syscall=59 success=yes ppid=1 pid=7 comm="bash" exe="/bin/bash"'
    records = tuple(record for record in map(parse, (text, call)) if isinstance(record, Record))
    (found,) = denials_of(Event(records[0].event, records)).denials
    evidence = fold({}, found.accesses(), evidence_of(Sighting(found, 1)))
    (item,) = assess(group(evidence, {}), profile=PROFILE, guard=GUARD, policy_index=policy_index)
    assert "P-005" in {finding.code for finding in item.findings}
    assert item.fix.kind == "dontaudit"


def test_a_wide_boolean_is_not_proposed_before_the_narrow_rule(policy_index: PolicyIndex) -> None:
    """nsswitch_domain's allow_ypbind turns on thousands of rules; acpid_t stands in for a service."""
    profile = replace(PROFILE, roles=(replace(PROFILE.roles[0], domains=("acpid_t",)),))
    lines = [line("name_connect", "acpid_t", "unreserved_port_t", "tcp_socket", comm="acpid", pid=7, dest=40001)]
    (item,) = assess(candidates_from(lines), profile=profile, guard=GUARD, policy_index=policy_index)
    codes = {finding.code for finding in item.findings}
    assert "P-004" in codes, item.findings
    assert item.fix.kind != "boolean"
    assert "boolean" in {fix.kind for fix in item.alternatives}
    assert any("rules for" in fix.text for fix in item.alternatives if fix.kind == "boolean")


STATEMENTS = [
    ("typeattribute jupyterhub_t can_read_shadow_passwords;", "R-011"),
    ("typeattribute jupyterhub_t can_relabelto_shadow_passwords, domain;", "R-011"),
    ("typeattribute jupyterhub_t can_setenforce;", "R-011"),
    ("typeattribute jupyterhub_t memory_raw_read;", "R-011"),
    ("typeattribute jupyterhub_t privfd;", "R-011"),
    ("typeattribute jupyterhub_t mlsfilewrite;", "R-011"),
    ("(typeattributeset can_read_shadow_passwords (jupyterhub_t))", "R-011"),
    ("allow jupyterhub_t var_t:file *;", "R-013"),
    ("allow jupyterhub_t var_t:file ~{ read };", "R-013"),
    ("allow jupyterhub_t file_type:file read;", "R-013"),
    ("allow domain jupyterhub_var_lib_t:file read;", "R-013"),
    ("(allow jupyterhub_t port_type (tcp_socket (name_bind)))", "R-013"),
    ("permissive jupyterhub_t;", "R-014"),
    ("(typepermissive jupyterhub_t)", "R-014"),
    ("(typeneveraudit jupyterhub_t)", "R-014"),
    ("dontaudit jupyterhub_t shadow_t:file read;", "R-015"),
    ("dontaudit jupyterhub_t var_t:file *;", "R-015"),
    ("role system_r types jupyterhub_t;", "R-016"),
    ("allow user_r system_r;", "R-016"),
    ("role_transition system_r jupyterhub_exec_t user_r;", "R-016"),
    ("range_transition init_t jupyterhub_exec_t:process s0 - s15;", "R-016"),
    ("(roletype system_r jupyterhub_t)", "R-016"),
    ("user alice roles system_r;", "R-016"),
    ("optional { allow jupyterhub_t shadow_t:file { getattr append }; }", "R-003"),
    ("if (jupyterhub_connect_web) { allow jupyterhub_t unconfined_t:process transition; }", "R-007"),
    ("(booleanif x (true (allow jupyterhub_t shadow_t (file (read)))))", "R-003"),
    ("allow init_t jupyterhub_var_lib_t:file read;", "R-017"),
    ("allow jupyterhub_t exec_type:file execute_no_trans;", "V-009"),
]


@pytest.mark.parametrize(("text", "code"), STATEMENTS)
def test_statements_of_a_module_are_judged_too(text: str, code: str) -> None:
    assert code in {finding.code for finding in GUARD.judge_statement(text, PROFILE)}


def test_a_plain_module_is_not_flagged() -> None:
    text = """
    policy_module(x, 1.0)
    require { type var_t; class file { read write }; role system_r; }
    allow jupyterhub_t jupyterhub_var_lib_t:file { read getattr };  # allow jupyterhub_t shadow_t:file read;
    dontaudit jupyterhub_t mail_spool_t:dir search;
    type_transition jupyterhub_t tmp_t:file jupyterhub_tmp_t;
    """
    assert GUARD.judge_statement(text, PROFILE) == []


def test_an_attribute_wider_than_its_name_is_found_in_the_policy(policy_index: PolicyIndex) -> None:
    wide = max(policy_index.attributes, key=lambda name: len(policy_index.attributes[name]))
    findings = GUARD.judge_access(Access.of("jupyterhub_t", wide, "file", "read"), PROFILE, policy_index)
    assert "R-013" in {finding.code for finding in findings}


def test_what_answers_the_service_is_no_foreign_rule() -> None:
    plain = GUARD.judge_access(Access.of("systemd_logind_t", "jupyterhub_t", "dbus", "send_msg"), PROFILE)
    assert [finding.level for finding in plain] == []
    stranger = GUARD.judge_access(Access.of("httpd_t", "jupyterhub_t", "dbus", "send_msg"), PROFILE)
    assert [finding.code for finding in stranger] == ["V-012"]


def test_a_refused_permission_does_not_take_its_harmless_siblings_along(policy_index: PolicyIndex) -> None:
    items = judge([line("getattr entrypoint", HUB, "sudo_exec_t", "file", comm="x", pid=7)], policy_index)
    assert {(item.candidate.permissions, item.approvable) for item in items} == {(("entrypoint",), False), (("getattr",), True)}


@pytest.mark.parametrize("code", GUARD.codes)
def test_every_code_is_explained_with_its_source(code: str) -> None:
    text = explain(GUARD, code)
    assert text.startswith(code) and "\nSource: " in text


def test_an_unknown_code_is_no_explanation() -> None:
    with pytest.raises(KeyError):
        explain(GUARD, "R-999")


def test_a_broken_guard_says_all_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(
        "rules:\n  - {code: R-1, level: bad, title: t, reason: r, source: s, match: [{class: ['@nosuch']}]}\n"
        "  - {code: R-1, level: refuse, title: t, reason: r, source: s}\n"
    )
    with pytest.raises(InputError) as error:
        load_guard([tmp_path])
    text = str(error.value)
    assert f"{file}:2: rules[0].level" in text
    assert "there is no set @nosuch" in text
    assert "R-1 occurs twice" in text
    assert "matches nothing" in text


def test_no_guard_is_an_error_and_not_an_open_door(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        load_guard([tmp_path])
    assert isinstance(Guard.load(POLICIES / "guard.yaml"), Guard)
