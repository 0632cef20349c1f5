"""Order of several fixes: booleans, dontaudit rules, interfaces, programs, containers, logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.interfaces import INCLUDE, Interfaces
from sepolicyd.policy.labels import Labels
from sepolicyd.rules.fixes.fix import Fix, FixKind
from tests.rules.fixes.test_kinds import judge, kinds
from tests.rules.lines import line

ROOT_EXE = "/usr/sbin/x"


def every(item) -> list[Fix]:  # type: ignore[no-untyped-def]
    return [item.fix, *item.alternatives]


def system_call(text: str, exe: str, number: str = "257") -> str:
    head = "msg=audit(1795373100.000:100):"
    return (
        f"{text}\ntype=SYSCALL {head} arch=c000003e syscall={number} success=no exit=-13 a0=0 items=0 ppid=1 pid=7 "
        f'auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) comm="x" exe="{exe}"'
    )


@pytest.mark.parametrize(
    ("permissions", "source", "target", "tclass", "keys", "boolean"),
    [
        ("name_connect", "httpd_t", "mysqld_port_t", "tcp_socket", {"dest": 3306}, "httpd_can_network_connect_db"),
        ("name_connect", "httpd_t", "unreserved_port_t", "tcp_socket", {"dest": 9200}, "httpd_can_network_connect"),
        ("name_connect", "httpd_t", "ftp_port_t", "tcp_socket", {"dest": 21}, "httpd_can_network_relay"),
        ("watch", "smbd_t", "user_home_dir_t", "dir", {"path": "/home/u"}, "samba_enable_home_dirs"),
        ("read open", "ftpd_t", "user_home_t", "file", {"path": "/home/u/x"}, "ftp_home_dir"),
        ("execmem", "httpd_t", "httpd_t", "process", {}, "httpd_execmem"),
    ],
)
def test_a_boolean_of_the_domain_that_is_made_for_it(permissions, source, target, tclass, keys, boolean, policy_index, labels):
    item = judge(line(permissions, source, target, tclass, comm="x", **keys), policy_index, labels)
    named = [fix.commands[0] for fix in every(item) if fix.kind is FixKind.BOOLEAN]
    assert f"setsebool -P {boolean} on" in named
    if tclass != "process":
        assert item.fix.kind is FixKind.BOOLEAN


@pytest.mark.parametrize("source", ["sshd_t", "squid_t", "mysqld_t", "slapd_t", "postgresql_t"])
def test_a_port_without_a_name_is_labelled_before_any_boolean(source, policy_index, labels) -> None:
    item = judge(line("name_bind", source, "unreserved_port_t", "tcp_socket", src=21789, comm="x"), policy_index, labels)
    assert item.fix.kind is FixKind.PORT


def test_a_port_that_has_the_right_type_by_now(policy_index: PolicyIndex, labels: Labels) -> None:
    for source, port in (("httpd_t", 8443), ("sshd_t", 22), ("mysqld_t", 3306), ("squid_t", 3128), ("slapd_t", 389)):
        item = judge(line("name_bind", source, "unreserved_port_t", "tcp_socket", src=port, comm="x"), policy_index, labels)
        assert item.fix.kind is FixKind.PORT and "nothing to do" in item.fix.text
        assert not any("semanage port -m" in command for fix in every(item) for command in fix.commands)


@pytest.mark.parametrize(
    ("permissions", "source", "target", "tclass"),
    [
        ("module_request", "chronyd_t", "kernel_t", "system"),
        ("setrlimit", "hostname_t", "hostname_t", "process"),
        ("search", "ntpd_t", "sysctl_net_t", "dir"),
        ("getattr", "rpcd_t", "cgroup_t", "filesystem"),
        ("getattr", "postgrey_t", "sysctl_dev_t", "file"),
    ],
)
def test_what_the_policy_gives_to_most_who_ask_is_a_rule_first(permissions, source, target, tclass, policy_index, labels):
    item = judge(line(permissions, source, target, tclass, comm="x"), policy_index, labels)
    assert item.fix.kind is FixKind.ALLOW


@pytest.mark.parametrize(
    ("permissions", "source", "target", "tclass"),
    [
        ("net_admin", "rpcd_t", "rpcd_t", "capability"),
        ("sys_ptrace", "rpcd_t", "rpcd_t", "capability"),
        ("getattr", "passwd_t", "proc_t", "filesystem"),
        ("noatsecure", "ntpd_t", "postfix_master_t", "process"),
        ("rlimitinh siginh", "ntpd_t", "postfix_master_t", "process"),
    ],
)
def test_what_the_policy_silences_as_often_stays_denied(permissions, source, target, tclass, policy_index, labels) -> None:
    item = judge(line(permissions, source, target, tclass, comm="x"), policy_index, labels)
    assert item.fix.kind is FixKind.DONTAUDIT
    assert item.fix.commands[0].startswith("dontaudit ")


@pytest.mark.parametrize("comm", ["ps", "pgrep", "pidof", "top", "systemctl"])
def test_who_lists_processes_goes_on_without(comm, policy_index, labels) -> None:
    item = judge(line("sys_ptrace dac_read_search", "rpcd_t", "rpcd_t", "capability", comm=comm), policy_index, labels)
    assert item.fix.kind is FixKind.DONTAUDIT
    assert item.fix.commands == ("dontaudit rpcd_t self:capability { dac_read_search sys_ptrace };",)


@pytest.mark.parametrize("comm", ["sudo", "su", "pkexec", "runuser", "doas"])
def test_sudo_in_a_service_is_no_reason_for_its_rules(comm, policy_index, labels) -> None:
    text = line("setuid", "snmpd_t", "snmpd_t", "capability", comm=comm)
    item = judge(text.replace("setuid", "audit_write"), policy_index, labels)
    assert item.fix.kind is FixKind.APPLICATION and "sudo" in item.fix.text


@pytest.mark.parametrize(
    ("exe", "domain"),
    [
        ("/usr/bin/passwd", "passwd_t"),
        ("/usr/sbin/useradd", "useradd_t"),
        ("/usr/sbin/xtables-nft-multi", "iptables_t"),
        ("/usr/sbin/ntpd", "ntpd_t"),
        ("/usr/sbin/named", "named_t"),
    ],
)
def test_a_program_of_another_domain_should_have_left(exe, domain, policy_index, labels) -> None:
    text = system_call(line("write", "cupsd_t", "shadow_lock_t", "file", comm="x"), exe)
    item = judge(text.replace("shadow_lock_t", "mail_spool_t"), policy_index, labels)
    fixes = [fix for fix in every(item) if fix.kind is FixKind.TRANSITION]
    assert any(f":process {domain};" in fix.commands[0] for fix in fixes)


def test_the_object_manager_is_not_the_process(policy_index: PolicyIndex, labels: Labels) -> None:
    text = (
        "type=USER_AVC msg=audit(1795373100.000:100): pid=2 uid=81 auid=4294967295 ses=4294967295 "
        "subj=system_u:system_r:system_dbusd_t:s0 msg='avc:  denied  { send_msg } for msgtype=method_call dest=org.x spid=7 "
        "tpid=8 scontext=system_u:system_r:cupsd_t:s0 tcontext=system_u:system_r:ntpd_t:s0 tclass=dbus permissive=0  "
        'exe="/usr/bin/dbus-daemon" sauid=81 hostname=? addr=? terminal=?\''
    )
    assert FixKind.TRANSITION not in kinds(judge(text, policy_index, labels))


def test_a_shell_is_no_programs_domain(policy_index: PolicyIndex, labels: Labels) -> None:
    for exe in ("/usr/bin/bash", "/usr/bin/python3.11", "/usr/bin/perl", "/usr/bin/dash", "/bin/sh"):
        text = system_call(line("write", "cupsd_t", "mail_spool_t", "file", comm="x"), exe)
        assert FixKind.TRANSITION not in kinds(judge(text, policy_index, labels))


@pytest.mark.parametrize("path", ["/bin/sh", "/lib/x.so", "/usr/bin/python3", "/data/file", "/etc/passwd"])
def test_a_path_inside_a_container_is_none_of_the_host(path, policy_index, labels) -> None:
    """restorecon of such a path would relabel the host's own file."""
    for target in ("var_lib_t", "user_home_t", "httpd_sys_content_t", "unlabeled_t"):
        item = judge(line("read", "container_t", target, "file", path=path, comm="x"), policy_index, labels)
        assert not any(path in command for fix in every(item) for command in fix.commands)


@pytest.mark.parametrize("name", ["app.log", "app.log.1", "app.log.2.gz", "catalina.out", "trace.err"])
def test_a_log_elsewhere_gets_the_label_of_logs(name, policy_index, labels) -> None:
    item = judge(line("write", "logrotate_t", "usr_t", "file", name=name, comm="logrotate"), policy_index, labels)
    assert item.fix.kind is FixKind.RELABEL and "-t var_log_t" in item.fix.commands[0]
    other = judge(line("write", "logrotate_t", "usr_t", "file", name="data.db", comm="logrotate"), policy_index, labels)
    assert "var_log_t" not in str(other.fix)


@pytest.mark.parametrize("target", ["initrc_t", "unconfined_service_t"])
@pytest.mark.parametrize("source", ["httpd_t", "dovecot_t", "postfix_smtpd_t"])
def test_a_peer_without_a_domain_is_given_one(source, target, policy_index, labels) -> None:
    text = line("connectto", source, target, "unix_stream_socket", path="/run/x.sock", comm="x")
    assert judge(text, policy_index, labels).fix.kind is FixKind.TRANSITION


@pytest.mark.parametrize(
    "path", ["/memfd:x (deleted)", "/dev/shm/x", "/SYSV00000000 (deleted)", "/memfd:pulse", "/dev/shm/sem.x"]
)
def test_memory_with_a_name_is_the_services_own(path, policy_index, labels) -> None:
    item = judge(line("read write", "cupsd_t", "tmpfs_t", "file", path=path.replace(" ", ""), comm="x"), policy_index, labels)
    assert FixKind.OWN_TYPE in kinds(item)[:3]


def test_alternatives_differ_in_kind_before_they_vary(policy_index: PolicyIndex, labels: Labels) -> None:
    """Of each family (rule, label, boolean ...) one stands in front of further ones of the same family."""
    same = {FixKind.INTERFACE: FixKind.ALLOW, FixKind.OWN_TYPE: FixKind.RELABEL}
    for source, target, tclass, permission in (
        ("httpd_t", "user_home_t", "file", "read"),
        ("smbd_t", "user_home_t", "dir", "read"),
        ("cupsd_t", "var_lib_t", "file", "write"),
        ("ntpd_t", "useradd_exec_t", "file", "execute"),
        ("httpd_t", "smtp_port_t", "tcp_socket", "name_connect"),
    ):
        found = [
            same.get(kind, kind)
            for kind in kinds(judge(line(permission, source, target, tclass, comm="x"), policy_index, labels))
        ]
        assert len(set(found[: len(set(found))])) == len(set(found)) or found[-1] is FixKind.BOOLEAN, found


@pytest.fixture(scope="module")
def interfaces(tmp_path_factory: pytest.TempPathFactory) -> Interfaces:
    if not (INCLUDE / "support").is_dir():
        pytest.skip("the headers are not installed")
    return Interfaces.load(tmp_path_factory.mktemp("cache"), Path(INCLUDE))


@pytest.mark.parametrize(
    ("permissions", "source", "target", "tclass", "wanted"),
    [
        ("read open", "rpcd_t", "cert_t", "file", "miscfiles_read_generic_certs"),
        ("read open", "cupsd_lpd_t", "sysfs_t", "file", "dev_read_sysfs"),
        ("module_request", "chronyd_t", "kernel_t", "system", "kernel_request_load_module"),
        ("getattr", "rpcd_t", "cgroup_t", "filesystem", "fs_getattr_cgroup"),
        ("read", "hostname_t", "urandom_device_t", "chr_file", "dev_read_urand"),
        ("name_connect", "ntpd_t", "ldap_port_t", "tcp_socket", "corenet_tcp_connect_ldap_port"),
    ],
)
def test_the_interface_that_most_domains_have_is_the_first(
    permissions, source, target, tclass, wanted, interfaces, policy_index
) -> None:
    from sepolicyd.access import Access

    accesses = [Access.of(source, target, tclass, permission) for permission in permissions.split()]
    offers = interfaces.covering(policy_index, accesses)
    assert wanted in [offer.interface for offer in offers][:3]
    assert [offer.users for offer in offers] == sorted((offer.users for offer in offers), reverse=True)


def test_either_end_of_a_message_may_be_the_argument(interfaces: Interfaces, policy_index: PolicyIndex) -> None:
    """NetworkManager calls cups: networkmanager_dbus_chat(cupsd_t) opens both directions."""
    from sepolicyd.access import Access

    offers = interfaces.covering(policy_index, [Access.of("NetworkManager_t", "cupsd_t", "dbus", "send_msg")])
    assert "networkmanager_dbus_chat(cupsd_t)" in map(str, offers)
    for offer in offers:
        assert Access.of("NetworkManager_t", "cupsd_t", "dbus", "send_msg") in offer.accesses
