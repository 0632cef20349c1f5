"""The guard with type names of Fedora and RHEL.

The names are of fedora-selinux/selinux-policy; Debian's policy has none of them, so they are judged by name alone.
"""

from __future__ import annotations

import pytest

from sepolicyd.access import Access
from tests.rules.lines import GUARD, PROFILE, line, one

HUB, PROXY, USER = "jupyterhub_t", "jupyterhub_proxy_t", "jupyterhub_user_t"

NAMES = [
    ("R-003", "refuse", USER, "passwd_file_t", "file", "write"),
    ("R-003", "refuse", HUB, "shadow_t", "file", "map"),
    ("R-007", "refuse", HUB, "unconfined_service_t", "process", "transition"),
    ("R-007", "refuse", HUB, "spc_t", "process", "transition"),
    ("R-007", "refuse", USER, "rpm_script_t", "process", "transition"),
    ("R-007", "refuse", HUB, "install_t", "process", "dyntransition"),
    ("R-008", "refuse", HUB, "updpwd_exec_t", "file", "entrypoint"),
    ("R-018", "refuse", HUB, "systemd_unit_file_t", "file", "create"),
    ("R-018", "refuse", HUB, "httpd_unit_file_t", "file", "write"),
    ("R-018", "refuse", USER, "system_cron_spool_t", "file", "append"),
    ("V-008", "review", HUB, "container_runtime_t", "unix_stream_socket", "connectto"),
    ("V-008", "review", HUB, "virtqemud_t", "unix_stream_socket", "connectto"),
    ("V-008", "review", HUB, "container_var_run_t", "sock_file", "write"),
    ("V-008", "review", HUB, "systemd_unit_file_t", "service", "start"),
    ("V-008", "review", HUB, "systemd_hostnamed_t", "dbus", "send_msg"),
    ("V-009", "review", USER, "updpwd_exec_t", "file", "execute_no_trans"),
    ("V-010", "review", HUB, "system_conf_t", "file", "write"),
    ("V-010", "review", HUB, "sssd_conf_t", "file", "append"),
    ("P-002", "note", HUB, "data_home_t", "file", "write"),
    ("P-002", "note", HUB, "admin_home_t", "file", "create"),
    ("P-002", "note", HUB, "config_home_t", "dir", "add_name"),
    ("V-010", "review", USER, "rpm_var_lib_t", "file", "write"),
    ("P-003", "note", PROXY, "ephemeral_port_t", "tcp_socket", "name_bind"),
]


@pytest.mark.parametrize(("code", "level", "source", "target", "tclass", "permission"), NAMES)
def test_fedoras_name_is_caught(code: str, level: str, source: str, target: str, tclass: str, permission: str) -> None:
    findings = GUARD.judge_access(Access.of(source, target, tclass, permission), PROFILE)
    assert (code, level) in {(finding.code, finding.level) for finding in findings}


# what a hub on Fedora may be denied that one on Debian never asks for, and how a person is asked. Names alone earn no level
# "none": that takes a policy in which the access is common.
DENIED = [
    ("sssd's socket of another path", ("write", USER, "sssd_var_run_t", "sock_file"), "note"),
    ("the session's directory in /run", ("write add_name", USER, "user_tmp_t", "dir"), "note"),
    ("PAM's counter of failed logins", ("write add_name", HUB, "faillog_t", "dir"), "note"),
    ("names from resolved", ("connectto", USER, "systemd_resolved_t", "unix_stream_socket"), "note"),
    ("the container engine", ("connectto", HUB, "container_runtime_t", "unix_stream_socket"), "refuse"),
    ("a server in the service without a policy", ("transition", HUB, "unconfined_service_t", "process"), "refuse"),
    ("the package manager from a notebook", ("write", USER, "rpm_var_lib_t", "file"), "review"),
    ("a crash of node handed to abrt", ("connectto", PROXY, "abrt_t", "unix_stream_socket"), "note"),
]


@pytest.mark.parametrize(("what", "asked", "level"), DENIED, ids=[row[0] for row in DENIED])
def test_a_denial_on_fedora_gets_its_level(what: str, asked: tuple[str, str, str, str], level: str) -> None:
    item = one([line(*asked, comm="x", pid=7)], None)
    assert item.level == level, (what, item.findings)
