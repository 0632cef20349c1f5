"""The first fix of each kind, assessed with a generic profile on the distribution's policy; no line comes from a report."""

from __future__ import annotations

import io

import pytest

from sepolicyd.audit.scan.scan_files import scan_stream
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import Labels
from sepolicyd.rules.assess.assess import Assessed, assess
from sepolicyd.rules.attribution.gather_evidence import attribute
from sepolicyd.rules.candidate import group
from sepolicyd.rules.fixes.fix import FixKind
from sepolicyd.rules.guard.generic_profile import neutral_profile
from sepolicyd.rules.guard.type_facts import facts_of_policy
from tests.rules.lines import GUARD, line


def judge(text: str, policy_index: PolicyIndex, labels: Labels) -> Assessed:
    """The one candidate of some lines, its source a service of its own."""
    evidence = attribute(scan_stream(io.BytesIO(text.encode() + b"\n")), None).evidence
    (source,) = {access.source for access in evidence}
    profile = neutral_profile(source, facts_of_policy(policy_index))
    candidates = group(evidence, GUARD.facets(evidence, profile))
    (item,) = assess(candidates, profile=profile, guard=GUARD, policy_index=policy_index, labels=labels)
    return item


def kinds(item: Assessed) -> list[FixKind]:
    return [fix.kind for fix in (item.fix, *item.alternatives)]


@pytest.mark.parametrize(
    ("source", "target", "path"),
    [
        ("ntpd_t", "usr_t", "/usr/share/tool/helper.sh"),
        ("named_t", "etc_t", "/etc/tool/hook"),
        ("dovecot_t", "var_lib_t", "/var/lib/tool/run-me"),
        ("snmpd_t", "lib_t", "/usr/lib/tool/probe"),
        ("cupsd_t", "cupsd_etc_t", "/etc/cups/after-print"),
        ("crond_t", "usr_t", "/opt/tool/share/job"),
    ],
)
def test_what_is_executed_is_labelled_as_a_program(source, target, path, policy_index, labels) -> None:
    item = judge(line("execute execute_no_trans", source, target, "file", path=path, comm="x"), policy_index, labels)
    assert item.fix.kind is FixKind.RELABEL
    assert "bin_t" in item.fix.commands[0] or "exec_t" in item.fix.commands[0]


def test_a_library_is_labelled_as_one(policy_index: PolicyIndex, labels: Labels) -> None:
    item = judge(line("execute", "ntpd_t", "usr_t", "file", path="/opt/tool/libx.so.1", comm="x"), policy_index, labels)
    assert item.fix.kind is FixKind.RELABEL and "-t lib_t" in item.fix.commands[0]


@pytest.mark.parametrize(
    ("source", "port", "wanted"),
    [
        ("httpd_t", 8777, "http_port_t"),
        ("sshd_t", 2222, "ssh_port_t"),
        ("squid_t", 3999, "squid_port_t"),
        ("mysqld_t", 13306, "mysqld_port_t"),
        ("postgresql_t", 15432, "postgresql_port_t"),
        ("slapd_t", 10389, "ldap_port_t"),
    ],
)
def test_a_port_gets_a_type_that_the_domain_may_bind(source, port, wanted, policy_index, labels) -> None:
    item = judge(line("name_bind", source, "unreserved_port_t", "tcp_socket", src=port, comm="x"), policy_index, labels)
    assert item.fix.commands == (f"semanage port -a -t {wanted} -p tcp {port}",)


def test_a_port_of_another_service_says_so(policy_index: PolicyIndex, labels: Labels) -> None:
    item = judge(line("name_bind", "sshd_t", "soundd_port_t", "tcp_socket", src=8000, comm="x"), policy_index, labels)
    assert item.fix.kind is FixKind.PORT and "-m" in item.fix.commands[0]
    assert "soundd_port_t" in item.fix.text


@pytest.mark.parametrize(
    ("source", "program", "domain"),
    [
        ("dovecot_t", "useradd_exec_t", "useradd_t"),
        ("named_t", "iptables_exec_t", "iptables_t"),
        ("cupsd_t", "passwd_exec_t", "passwd_t"),
        ("ntpd_t", "postfix_master_exec_t", "postfix_master_t"),
        ("snmpd_t", "plymouth_exec_t", "plymouth_t"),
        ("postfix_master_t", "smbcontrol_exec_t", "smbcontrol_t"),
    ],
)
def test_another_domains_program_runs_in_its_domain(source, program, domain, policy_index, labels) -> None:
    item = judge(line("execute", source, program, "file", comm="x"), policy_index, labels)
    assert FixKind.TRANSITION in kinds(item)[:3]
    fix = next(one for one in (item.fix, *item.alternatives) if one.kind is FixKind.TRANSITION)
    assert f":process {domain};" in fix.commands[0]


@pytest.mark.parametrize("tclass", ["file", "dir", "sock_file"])
@pytest.mark.parametrize("source", ["strange_t", "httpd_t"])
def test_categories_that_differ_come_first(source, tclass, policy_index, labels) -> None:
    """Also where the policy has no such type."""
    text = line(
        "read", source, "other_t", tclass, comm="x",
        scontext=f"system_u:system_r:{source}:s0:c1,c2", tcontext="system_u:object_r:other_t:s0:c3,c4",
    )  # fmt: skip
    item = judge(text, policy_index, labels)
    assert item.fix.kind is FixKind.CONTEXT and "s0:c1,c2" in item.fix.commands[0]
    assert not item.approvable


@pytest.mark.parametrize("ranges", [("s0", "s0"), ("s0-s0:c0.c1023", "s0:c3"), ("s0:c1.c5", "s0:c2,c4")])
def test_categories_that_are_held_are_no_obstacle(ranges, policy_index, labels) -> None:
    text = line(
        "read", "strange_t", "other_t", "file", comm="x",
        scontext=f"system_u:system_r:strange_t:{ranges[0]}", tcontext=f"system_u:object_r:other_t:{ranges[1]}",
    )  # fmt: skip
    assert FixKind.CONTEXT not in kinds(judge(text, policy_index, labels))


def event(capability: str, mode: str, owner: int, fsuid: int, name: str = "/srv/tool/data") -> str:
    head = "msg=audit(1795373100.000:100):"
    avc = line(capability, "ntpd_t", "ntpd_t", "capability", pid=7, comm="x", capability=1)
    return (
        f"{avc}\n"
        f"type=SYSCALL {head} arch=c000003e syscall=257 success=no exit=-13 a0=0 items=1 ppid=1 pid=7 auid=4294967295 "
        f'uid={fsuid} gid=0 euid={fsuid} suid=0 fsuid={fsuid} egid=0 sgid=0 fsgid=0 tty=(none) comm="x" exe="/usr/sbin/x"\n'
        f'type=PATH {head} item=0 name="{name}" inode=9 dev=fd:00 mode={mode} ouid={owner} ogid={owner} rdev=00:00 '
        f"obj=system_u:object_r:ntp_drift_t:s0 nametype=NORMAL"
    )


@pytest.mark.parametrize(
    ("capability", "mode", "owner", "fsuid", "command"),
    [
        ("dac_override", "0100444", 0, 0, "chmod u+rw /srv/tool/data"),
        ("dac_override", "0100600", 1000, 0, "chown USER:GROUP /srv/tool/data"),
        ("dac_read_search", "040700", 33, 0, "chown USER:GROUP /srv/tool/data"),
        ("dac_read_search", "0100200", 0, 0, "chmod u+rw /srv/tool/data"),
        ("fowner", "0100644", 1000, 0, "chown USER:GROUP /srv/tool/data"),
    ],
)
def test_the_owner_or_the_mode_comes_before_the_capability(
    capability, mode, owner, fsuid, command, policy_index, labels
) -> None:
    item = judge(event(capability, mode, owner, fsuid), policy_index, labels)
    assert item.fix.kind is FixKind.OWNER and item.fix.commands == (command,)
    assert "/srv/tool/data" in item.fix.text


def test_a_mode_that_lets_the_owner_in_is_not_the_reason(policy_index: PolicyIndex, labels: Labels) -> None:
    assert FixKind.OWNER not in kinds(judge(event("dac_override", "0100644", 0, 0), policy_index, labels))


def error(fields: str) -> str:
    return f"type=SELINUX_ERR msg=audit(1795373100.000:100): {fields}"


@pytest.mark.parametrize("new", ["ntpd_t", "named_t", "sshd_t", "dovecot_t", "invented_t"])
def test_a_bounded_transition_names_no_new_privileges(new, policy_index, labels) -> None:
    contexts = f"oldcontext=system_u:system_r:init_t:s0 newcontext=system_u:system_r:{new}:s0"
    item = judge(error(f"op=security_bounded_transition seresult=denied {contexts}"), policy_index, labels)
    assert kinds(item)[0] is FixKind.TRANSITION and f"init_t {new}:process2" in item.fix.commands[0]
    assert any("NoNewPrivileges=no" in fix.commands for fix in item.alternatives)


@pytest.mark.parametrize("source", ["devfile_t", "unlabeled_t", "httpd_sys_content_t", "etc_t", "var_lib_t", "user_home_t"])
def test_a_label_that_a_file_system_does_not_take_is_no_process(source, policy_index, labels) -> None:
    item = judge(line("associate", source, "proc_t", "filesystem", name="data", comm="x"), policy_index, labels)
    assert item.fix.kind is FixKind.RELABEL and "not a domain" in item.fix.text


@pytest.mark.parametrize("comm", ["nginx", "apache2", "php-fpm8.2", "haproxy", "httpd"])
def test_regular_expressions_need_no_executable_memory(comm, policy_index, labels) -> None:
    item = judge(line("execmem", "squid_t", "squid_t", "process", comm=comm), policy_index, labels)
    assert item.fix.kind is FixKind.APPLICATION and item.fix.commands == ("pcre_jit off;",)


@pytest.mark.parametrize("comm", ["java", "node", "mono-sgen", "qemu-system-x86", "dotnet"])
def test_a_compiler_at_run_time_is_not_told_to_go_without(comm, policy_index, labels) -> None:
    item = judge(line("execmem", "ntpd_t", "ntpd_t", "process", comm=comm), policy_index, labels)
    assert item.fix.kind is not FixKind.DONTAUDIT


@pytest.mark.parametrize("source", ["ntpd_t", "named_t", "dovecot_t", "squid_t", "cupsd_t"])
def test_a_search_without_a_system_call_is_on_its_way(source, policy_index, labels) -> None:
    item = judge(line("search", source, "mail_spool_t", "dir", name="x", comm="x"), policy_index, labels)
    if "allowed" not in {finding.about for finding in item.findings}:
        assert item.fix.kind is not FixKind.DONTAUDIT


def test_an_unknown_source_is_never_approvable(policy_index: PolicyIndex, labels: Labels) -> None:
    item = judge(line("read", "invented_t", "etc_t", "file", path="/etc/x", comm="x"), policy_index, labels)
    assert FixKind.ALLOW not in kinds(item) and not item.approvable
