"""Denials with the base module loaded: if a boolean of the module allows one, that boolean is proposed."""

from __future__ import annotations

import re

import pytest

from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import Labels, open_labels
from sepolicyd.rules.assess.assess import Assessed
from sepolicyd.rules.fixes.detail import BooleanSetting, OnlyPermissions
from tests.policies.jupyterhub.conftest import Inited
from tests.policies.jupyterhub.test_replay import HUB, PROXY, USER
from tests.rules.lines import line, one

pytestmark = pytest.mark.toolchain
SHELL = {"scontext": "unconfined_u:unconfined_r:unconfined_t:s0", "tcontext": f"unconfined_u:unconfined_r:{HUB}:s0"}
# the switch, a denial that it answers, level: what else it opens is judged with it
SWITCHES = [
    ("jupyterhub_connect_web", ("name_connect", HUB, "http_port_t", "tcp_socket", {"dest": 443}), "note"),
    ("jupyterhub_connect_db", ("name_connect", HUB, "postgresql_port_t", "tcp_socket", {"dest": 5432}), "note"),
    ("jupyterhub_connect_ldap", ("name_connect", HUB, "ldap_port_t", "tcp_socket", {"dest": 636}), "note"),
    ("jupyterhub_behind_httpd", ("name_connect", "httpd_t", "jupyterhub_port_t", "tcp_socket", {"dest": 8000}), "review"),
    ("jupyterhub_start_from_shell", ("transition", "unconfined_t", HUB, "process", SHELL), "review"),
    ("jupyterhub_proxy_bind_http", ("name_bind", PROXY, "http_port_t", "tcp_socket", {"src": 443}), "note"),
    ("jupyterhub_create_users", ("execute", HUB, "useradd_exec_t", "file", {"path": "/usr/sbin/useradd"}), "note"),
    ("jupyterhub_hub_write_homes", ("add_name write", HUB, "user_home_t", "dir", {"path": "/home/alice/course"}), "review"),
    ("jupyterhub_hub_write_homes", ("chown", HUB, HUB, "capability", {}), "review"),
    ("jupyterhub_use_sudospawner", ("execute", HUB, "sudo_exec_t", "file", {"path": "/usr/bin/sudo"}), "review"),
    ("jupyterhub_use_systemdspawner", ("start", HUB, "init_t", "system", {}), "review"),
    ("jupyterhub_use_slurm", ("write", HUB, "var_run_t", "sock_file", {"path": "/run/munge/munge.socket.2"}), "note"),
    ("jupyterhub_use_user_units", ("start", HUB, "jupyterhub_user_unit_file_t", "service", {}), "review"),
    ("jupyterhub_create_homes", ("add_name write", HUB, "home_root_t", "dir", {"path": "/home"}), "note"),
    ("jupyterhub_user_use_gpu", ("read write", USER, "xserver_misc_device_t", "chr_file", {"path": "/dev/nvidia0"}), "note"),
    ("jupyterhub_user_write_courses", ("create", USER, "jupyterhub_course_t", "file", {"path": "/srv/courses/in/x"}), "review"),
    ("jupyterhub_user_execmem", ("execmem", USER, USER, "process", {}), "review"),
    ("jupyterhub_user_exec_content", ("execute", USER, "user_home_t", "file", {"path": "/home/alice/a.out"}), "review"),
    ("jupyterhub_user_connect_web", ("name_connect", USER, "http_port_t", "tcp_socket", {"dest": 443}), "note"),
    ("jupyterhub_user_connect_db", ("name_connect", USER, "mysqld_port_t", "tcp_socket", {"dest": 3306}), "note"),
    ("use_nfs_home_dirs", ("open read", USER, "nfs_t", "file", {"path": "/home/alice/x.ipynb"}), "note"),
    ("use_samba_home_dirs", ("search", HUB, "cifs_t", "dir", {"path": "/home"}), "note"),
]  # fmt: skip


@pytest.fixture(scope="module")
def labels(inited: Inited, policy: PolicyIndex) -> Labels:
    return open_labels(inited.settings, policy)


def judged(asked: tuple, policy: PolicyIndex, labels: Labels) -> Assessed:
    permissions, source, target, tclass, more = asked
    return one([line(permissions, source, target, tclass, comm="x", pid=7, **more)], policy, labels)


@pytest.mark.parametrize(("name", "asked", "level"), SWITCHES, ids=[f"{case[0]}-{case[1][0]}" for case in SWITCHES])
def test_the_switch_is_proposed_with_its_side_effect(name, asked, level, policy: PolicyIndex, labels: Labels) -> None:
    item = judged(asked, policy, labels)
    assert (item.fix.kind, item.fix.detail) == ("boolean", BooleanSetting(name, True)), (item.fix, item.alternatives)
    assert re.search(r"it (also allows: allow |allows nothing else|also allows [0-9,]+ other accesses)", item.fix.text), (
        item.fix.text
    )
    assert item.level == level, item.findings
    assert item.approvable, item.why_not


def test_every_switch_of_the_base_module_is_among_them(policy: PolicyIndex) -> None:
    assert {name for name in policy.booleans if name.startswith("jupyterhub_")} <= {case[0] for case in SWITCHES}


def test_a_program_with_its_own_domain_is_switched_into_it(policy: PolicyIndex, labels: Labels) -> None:
    """execute_no_trans is what a missing transition looks like: the switch allows the transition instead."""
    item = judged(("execute execute_no_trans", HUB, "useradd_exec_t", "file", {"path": "/usr/sbin/useradd"}), policy, labels)
    assert item.fix.detail == BooleanSetting("jupyterhub_create_users", True)
    assert "the program then runs in useradd_t" in item.fix.text


def test_what_the_base_denies_in_silence_is_not_switched_on(policy: PolicyIndex, labels: Labels) -> None:
    """jupyterhub_hub_write_homes would give dac_override, and 48 other accesses with it."""
    item = judged(("dac_override", HUB, HUB, "capability", {}), policy, labels)
    assert item.fix.kind == "dontaudit" and "has a dontaudit rule for this domain" in item.fix.text


def test_a_switch_that_answers_one_part_is_not_proposed_for_all(policy: PolicyIndex, labels: Labels) -> None:
    item = judged(("chown sys_admin", HUB, HUB, "capability", {}), policy, labels)
    assert item.fix.kind == "allow"
    assert any(f.code == "U-004" and "chown by jupyterhub_hub_write_homes=on" in f.text for f in item.findings)


def test_the_web_server_is_pointed_away_from_the_hubs_own_api(policy: PolicyIndex, labels: Labels) -> None:
    item = judged(("name_connect", "httpd_t", "jupyterhub_hub_port_t", "tcp_socket", {"dest": 8081}), policy, labels)
    assert item.fix.kind == "application" and not item.approvable
    assert "proxy_pass http://127.0.0.1:8000;" in item.fix.commands


def test_a_constraint_on_a_part_is_told_before_approval(policy: PolicyIndex, labels: Labels) -> None:
    """The students' domain is held to its categories: of another student's directory a rule would help only what no
    constraint is for."""
    text = line(
        "audit_access search", USER, "var_t", "dir", comm="x", pid=7, path="/srv/x",
        scontext=f"system_u:system_r:{USER}:s0:c1", tcontext="system_u:object_r:var_t:s0:c2",
    )  # fmt: skip
    item = one([text], policy, labels)
    told = [finding for finding in item.findings if finding.code == "U-003"]
    assert told and "it is effective for audit_access, but not for search" in told[0].text, item.findings
    for fix in (item.fix, *item.alternatives):
        if fix.kind == "allow":
            assert fix.detail == OnlyPermissions(("audit_access",)) and "search" not in fix.commands[0], fix
