"""The known denials of JupyterHub, one case per row, with an expert's answer."""

from __future__ import annotations

import pytest

from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import Labels
from sepolicyd.rules.fixes.detail import OwnType
from sepolicyd.rules.guard.rule import About
from tests.rules.lines import GUARD, PROFILE, line, one

# row, denials, fix proposed, level, words that the proposed fix must hold
ROWS = [
    (
        "1 entry point on PAM's helper",
        line(
            "entrypoint", "unconfined_t", "chkpwd_exec_t", "file", pid=30519, comm="jupyterhub", path="/usr/sbin/unix_chkpwd",
            scontext="unconfined_u:unconfined_r:unconfined_t:s0",
        ),
        "application", "refuse", "open_sessions = False",
    ),
    (
        "1 the same from a domain of its own",
        line("entrypoint", "jupyterhub_user_t", "chkpwd_exec_t", "file", pid=3, comm="x", path="/usr/sbin/unix_chkpwd"),
        "application", "refuse", "open_sessions = False",
    ),
    (
        "2 transition to unconfined_t",
        line("transition", "jupyterhub_t", "unconfined_t", "process", pid=3, comm="python3.4", path="/usr/bin/bash"),
        "refuse", "refuse", "domain of their own",
    ),
    (
        "3 entry point on sudo",
        line("entrypoint", "unconfined_t", "sudo_exec_t", "file", pid=3, comm="jupyterhub", path="/usr/bin/sudo"),
        "refuse", "refuse", "Disable PAM sessions",
    ),
    (
        "4 a web server in front",
        line("name_connect", "httpd_t", "transproxy_port_t", "tcp_socket", pid=3, comm="nginx", dest=8081),
        "port", "refuse", "semanage port -m -t http_port_t",
    ),
    (
        "5 a run directory without a label",
        line("write", "init_t", "var_run_t", "dir", pid=1, comm="(ngleuser)", path="/run/jupyter-al-singleuser"),
        "relabel", "refuse", "jupyterhub_runtime_t",
    ),
    (
        "6 execmem as init_t",
        line("execmem", "init_t", "init_t", "process", pid=3, comm="kaleido"),
        "relabel", "refuse", "sepolicyd init jupyterhub",
    ),
    (
        "7 systemd may not start it",
        line("execute", "init_t", "user_home_t", "file", pid=3, comm="(pyterhub)", path="/home/hub/bin/jupyterhub"),
        "relabel", "refuse", "semanage fcontext -a -t bin_t",
    ),
    (
        "7 the same, unlabelled",
        line("execute", "init_t", "unlabeled_t", "file", pid=3, comm="(python)", path="/srv/hub/bin/python"),
        "relabel", "refuse", "restorecon -v /srv/hub/bin/python",
    ),
    (
        "10 machine code in a memory file",
        line("execute", "jupyterhub_user_t", "tmpfs_t", "file", pid=3, comm="python3", path="/memfd:libffi (deleted)"),
        None, "review", "",
    ),
    (
        "shadow, which PAM tries first",
        line("read", "jupyterhub_t", "shadow_t", "file", pid=3, comm="jupyterhub", path="/etc/shadow"),
        "refuse", "refuse", "PAM's helper",
    ),
    (
        "8000 belongs to soundd_port_t",
        line("name_bind", "jupyterhub_proxy_t", "soundd_port_t", "tcp_socket", pid=3, comm="node", src=8000),
        "port", "none", "semanage port -m -t jupyterhub_port_t -p tcp 8000",
    ),
    (
        "8081 belongs to transproxy_port_t",
        line("name_bind", "jupyterhub_t", "transproxy_port_t", "tcp_socket", pid=3, comm="jupyterhub", src=8081),
        "port", "none", "semanage port -m -t jupyterhub_hub_port_t -p tcp 8081",
    ),
    (
        "the cookie secret under /etc",
        line("read", "jupyterhub_t", "etc_t", "file", pid=3, comm="x", path="/etc/jupyterhub/jupyterhub_cookie_secret"),
        "own-type", "none", "jupyterhub_secret_t",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("row", "text", "fix", "level", "words"), ROWS, ids=[row[0] for row in ROWS])
def test_a_known_denial_gets_its_answer(row, text, fix, level, words, policy_index: PolicyIndex, labels: Labels) -> None:
    item = one([text], policy_index, labels)
    assert item.level == level, item.findings
    if fix is not None:
        assert item.fix.kind == fix, (item.fix, item.alternatives)
        assert words in " ".join((item.fix.text, *item.fix.commands)), item.fix
    if level == "refuse":
        assert not item.approvable


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_no_known_denial_is_answered_by_a_plain_rule_first(row, policy_index: PolicyIndex, labels: Labels) -> None:
    assert one([row[1]], policy_index, labels).fix.kind != "allow" or row[3] == "review"


def test_row_8_the_container_runtimes_socket_is_root(policy_index: PolicyIndex) -> None:
    """Debian's policy calls the runtime dockerd_t; with names of another distribution it is refused all the same."""
    item = one(
        [line("connectto", "jupyterhub_t", "container_runtime_t", "unix_stream_socket", pid=3, comm="python3")], policy_index
    )
    assert item.level == "refuse"
    assert item.fix.kind == "refuse"
    assert not item.approvable
    assert any(":z" in fix.text or "rootless" in fix.text for fix in (item.fix, *item.alternatives))
    assert {"V-008", "D-002"} <= {finding.code for finding in item.findings}


def test_row_9_volumes_want_a_containers_label() -> None:
    item = one([line("write", "container_t", "user_home_t", "file", pid=3, comm="jupyter", path="/home/x/data")], None)
    assert item.fix.kind == "application"
    assert ":Z" in item.fix.text


def test_row_10_the_path_of_a_memory_file_is_decoded(policy_index: PolicyIndex) -> None:
    text = line("execute", "jupyterhub_user_t", "tmpfs_t", "file", pid=3, comm="python3")
    item = one([text.replace("for  ", "for  path=2F6D656D66643A6C69626666692028" + "64656C6574656429 ")], policy_index)
    assert item.candidate.merged.paths == ("/memfd:libffi (deleted)",)
    assert item.level == "review"
    assert not any("restorecon" in command for fix in (item.fix, *item.alternatives) for command in fix.commands)


# The public over-permissive module, rebuilt from its description: what a root hub with PAM asks for, granted wholesale.
PUBLIC_MODULE = """
policy_module(jupyterhubd, 1.0.0)
type jupyterhubd_t;
type jupyterhubd_exec_t;
init_daemon_domain(jupyterhubd_t, jupyterhubd_exec_t)

typeattribute jupyterhubd_t unconfined_login_domain;
typeattribute jupyterhubd_t can_change_object_identity;
typeattribute jupyterhubd_t can_change_process_identity;
typeattribute jupyterhubd_t can_change_process_role;
typeattribute jupyterhubd_t privfd;
typeattribute jupyterhubd_t polydomain;
allow jupyterhubd_t shadow_t:file { getattr open read };
allow jupyterhubd_t self:capability { setuid setgid audit_write audit_control dac_override dac_read_search };
allow jupyterhubd_t self:process { setexec setsched };
allow jupyterhubd_t usr_t:file { write unlink };
allow jupyterhubd_t tmp_t:file { create write execute };
allow jupyterhubd_t tmpfs_t:file { create write execute };
allow jupyterhubd_t exec_type:file { execute execute_no_trans };
allow jupyterhubd_t application_exec_type:file execute_no_trans;
allow jupyterhubd_t container_runtime_exec_t:file entrypoint;
allow unconfined_t jupyterhubd_t:process { siginh noatsecure };
allow jupyterhubd_t self:unix_stream_socket { connectto create };
allow jupyterhubd_t lastlog_t:file { open read write };
allow jupyterhubd_t mysqld_port_t:tcp_socket name_connect;
allow jupyterhubd_t ephemeral_port_t:tcp_socket name_connect;
"""
HARMLESS = ("self:unix_stream_socket", "lastlog_t", "mysqld_port_t")


def test_the_public_module_is_flagged_line_by_line() -> None:
    from dataclasses import replace

    role = replace(PROFILE.roles[0], domains=("jupyterhubd_t",))
    profile = replace(PROFILE, roles=(role,), own_types=frozenset({"jupyterhubd_t", "jupyterhubd_exec_t"}))
    lines = [text for text in PUBLIC_MODULE.splitlines() if text.startswith(("allow", "typeattribute"))]
    # names alone: without a policy nothing is known to be harmless, and that doubt is no flag
    flagged = {text: {f.level for f in GUARD.judge_statement(text, profile) if f.about is not About.DOUBT} for text in lines}
    heavy = [text for text, levels in flagged.items() if levels & {"refuse", "review"}]
    assert len(heavy) >= 10, flagged
    for text, levels in flagged.items():
        assert bool(levels) != any(word in text for word in HARMLESS), (text, levels)
    assert sum("refuse" in levels for levels in flagged.values()) >= 8


def test_row_4_a_switch_of_the_web_server_is_shown_with_its_side_effect(policy_index: PolicyIndex, labels: Labels) -> None:
    """The narrow switch before the one of another day, which turns on thousands of rules."""
    item = one(
        [line("name_connect", "httpd_t", "unreserved_port_t", "tcp_socket", pid=3, comm="nginx", dest=8001)],
        policy_index,
        labels,
    )
    shown = [fix.text for fix in item.alternatives if fix.kind == "boolean" and "rules for" in fix.text]
    assert shown and "httpd_can_network_connect" in shown[0]
    assert "2,964 rules for 400 domains" in next(text for text in shown if "allow_ypbind" in text)
    assert item.fix.kind == "port" and not item.approvable


@pytest.mark.parametrize(
    ("asked", "kind", "words"),
    [
        (("transition", "jupyterhub_t", "unconfined_t", "process"), "transition", "jupyterhub_user_t"),
        (("entrypoint", "unconfined_t", "sudo_exec_t", "file"), "application", "open_sessions = False"),
        (("read", "jupyterhub_t", "shadow_t", "file"), "transition", "chkpwd_t"),
    ],
)
def test_what_is_refused_comes_with_what_mends_it(asked, kind, words, policy_index: PolicyIndex) -> None:
    item = one([line(*asked, pid=3, comm="jupyterhub")], policy_index)
    (mend,) = [fix for fix in item.alternatives if fix.kind == kind]
    assert words in " ".join(mend.commands)


def test_a_name_in_a_shared_directory_is_allowed_with_the_type_of_what_is_made_there(
    policy_index: PolicyIndex, labels: Labels
) -> None:
    """The transition labels the file; its name is written into /tmp all the same, and that would be denied again."""
    item = one(
        [line("add_name search write", "jupyterhub_t", "tmp_t", "dir", pid=3, comm="x", path="/tmp/")], policy_index, labels
    )
    assert item.fix.kind == "own-type"
    assert isinstance(item.fix.detail, OwnType) and item.fix.detail.allowed == ("add_name", "search", "write")
    assert "allow jupyterhub_t tmp_t:dir { add_name search write };" in item.fix.commands


def test_a_level_that_the_policy_cannot_read_is_no_answer(policy_index: PolicyIndex) -> None:
    """A translated range (mcstrans): whether a constraint denies cannot be told, so it is not called allowed by now."""
    text = line(
        "read", "user_t", "user_home_t", "file", pid=3, comm="cat", path="/home/x/y",
        scontext="system_u:system_r:user_t:SystemLow", tcontext="system_u:object_r:user_home_t:CompanyConfidential",
    )  # fmt: skip
    item = one([text], policy_index)
    codes = {finding.code for finding in item.findings}
    assert "U-005" not in codes and "U-003" in codes
    assert not item.approvable


def test_a_home_on_nfs_is_not_relabelled(policy_index: PolicyIndex, labels: Labels) -> None:
    item = one([line("read", "user_t", "nfs_t", "file", pid=3, comm="cat", path="/home/alice/x")], policy_index, labels)
    assert "relabel" not in {fix.kind for fix in (item.fix, *item.alternatives)}
    assert any("mount -o context=" in command for fix in (item.fix, *item.alternatives) for command in fix.commands)


def test_another_services_files_get_no_type_of_ours(policy_index: PolicyIndex, labels: Labels) -> None:
    item = one(
        [line("create write", "crond_t", "var_lib_t", "file", pid=3, comm="cron", path="/var/lib/x")], policy_index, labels
    )
    assert not any("jupyterhub" in " ".join(fix.commands) for fix in (item.fix, *item.alternatives))
