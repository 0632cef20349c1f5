"""Public reports through the real `analyze`: the answer of each thread on the screen, in JSON, in --te and as exit code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cli.conftest import Runner
from tests.paths import DATA

REPORTS = DATA / "reports"
NONE = ""


@dataclass(frozen=True)
class Answer:
    """The right answer to one access of a report."""

    access: str
    """Source, target and class."""
    kind: str
    """Of the proposed fix; several kinds apart by blanks where the policy decides between them."""
    say: str
    """Text that one of the fixes, their commands, the findings or the facts must hold."""
    rule: bool = False
    """Whether --te gives a rule for it."""
    never: str = NONE
    """Text that no fix may hold."""


ANSWERS: dict[str, tuple[Answer, ...]] = {
    "01": (Answer("init_t admin_home_t file", "relabel", "bin_t", never="allow init_t"),),
    "03": (Answer("ood_pun_t nfs_t file", "unknown", "setsebool -P use_nfs_home_dirs on"),),
    "05": (
        Answer("zabbix_agent_t var_log_t sock_file", "own-type", "var_log_t is a generic label"),
        Answer("zabbix_agent_t system_dbusd_t unix_stream_socket", "application", "take sudo out of the service"),
    ),
    "07": (
        Answer("getty_t getty_exec_t file", "refuse", "R-018"),
        Answer("systemd_hostnamed_t systemd_hostnamed_exec_t file", "refuse", "R-018"),
    ),
    "08": (Answer("sshd_t httpd_sys_content_t file", "relabel", "restorecon -Rv ~USER/.ssh"),),
    "09": (
        Answer(
            "container_device_plugin_init_t container_file_t file", "context", "s0:c178,c513", never="mount -o context=system"
        ),
    ),
    "11": (
        Answer("su_.process container_t key", "context", "--append-rules", never="allow su_"),
        Answer("su_.process self netlink_audit_socket", "unknown", "--append-rules", never="allow su_"),
    ),
    "12": (Answer("httpd_t self process", "application", "pcre_jit off;"),),
    "13": (Answer("init_t redis_t process2", "allow", "another policy was loaded then"),),
    "15": (Answer("init_t user_home_t lnk_file", "relabel", "/opt"),),
    "17": (Answer("chronyd_t self capability", "allow", "dac_read_search"),),
    "18": (Answer("tlp_t self capability", "dontaudit", "skip those that they may not read"),),
    "20": (
        Answer("syslogd_t cgroup_t file", "allow", "", rule=True),
        Answer("systemd_sysctl_t tmpfs_t dir", "allow", "", rule=True),
    ),
    "21": (Answer("unlabeled_t local_t filesystem", "relabel", "not a domain", never="R-017"),),
    "23": (Answer("init_t antivirus_t process", "transition", "NoNewPrivileges"),),
    "25": (
        Answer("pcp_pmproxy_t self capability", "unknown", "pcp_pmproxy_t"),
        Answer("pcp_pmproxy_t sysctl_net_t file", "unknown", "pcp_pmproxy_t"),
    ),
    "26": (Answer("udev_t self capability", "owner", "mode 0444"),),
    "28": (Answer("apt_helper_t proc_t filesystem", "unknown", "apt_helper_t"),),
    "30": (Answer("httpd_t unlabeled_t file", "relabel", "httpd_sys_content_t"),),
    "33": (Answer("local_login_t gkeyringd_exec_t file", "transition", "gkeyringd"),),
    "35": (
        Answer("systemd_fstab_generator_t unlabeled_t dir", "relabel", "semanage fcontext -a -t", never="-> default_t"),
        Answer("systemd_fstab_generator_t tmpfs_t file", "unknown", "systemd_fstab_generator_t", never="restorecon"),
        Answer("systemd_debug_generator_t self process", "unknown", ""),
    ),
    "36": (
        Answer("httpd_t samba_share_t file", "relabel", "restorecon -v /var/www/html/file1"),
        Answer("httpd_t nfs_t dir", "boolean", "httpd_use_nfs", never="git_system_use_nfs"),
    ),
    "37": (Answer("httpd_t unreserved_port_t tcp_socket", "port", "semanage port -a -t http_port_t -p tcp 8888"),),
    "40": (Answer("systemd_homed_t var_t dir", "own-type", "systemd_homed"),),
    "41": (Answer("system_dbusd_t systemd_unit_t service", "allow", "", rule=True),),
    "42": (
        Answer("sysadm_t systemd_hostnamed_t dbus", "refuse allow context", "", never="dbusd_exec_t"),
        Answer("systemd_hostnamed_t sysadm_t dbus", "refuse allow context", "", never="dbusd_exec_t"),
    ),
}


def candidates(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in document["candidates"]:
        found.setdefault(f"{one['source']} {one['target']} {one['class']}", []).append(one)
    return found


def rules(te: str) -> list[str]:
    return [line.strip() for line in te.splitlines() if line.lstrip().startswith(("allow ", "dontaudit "))]


@pytest.mark.parametrize("number", ANSWERS)
def test_the_answer_of_the_thread(number: str, sepolicyd: Runner) -> None:
    (path,) = REPORTS.glob(f"{number}-*")
    ran = sepolicyd("analyze", "--all", "--json", path)
    document = json.loads(ran.out)
    assert ran.code == 0
    assert document["unparsed"] == []
    found = candidates(document)
    assert found.keys() == {answer.access for answer in ANSWERS[number]}
    for answer in ANSWERS[number]:
        for one in found[answer.access]:
            assert one["fix"]["kind"] in answer.kind.split(), one["fix"]
            every = json.dumps([one["fix"], one["alternatives"]])
            assert answer.say in json.dumps(one), answer.say
            assert not answer.never or answer.never not in every, every


@pytest.mark.parametrize("number", ANSWERS)
def test_the_same_verdict_in_te_and_on_the_screen(number: str, sepolicyd: Runner) -> None:
    """No rule where the fix is none; a comment with the kind of the fix instead, and the same kind on the screen."""
    (path,) = REPORTS.glob(f"{number}-*")
    te = sepolicyd("analyze", "--all", "--te", path)
    screen = sepolicyd("analyze", "--all", "--details", path)
    assert te.code == screen.code == 0
    document = json.loads(sepolicyd("analyze", "--all", "--json", path).out)
    for answer in ANSWERS[number]:
        source, target, tclass = answer.access.split()
        ruled = any(rule.startswith(f"allow {source} {target}:{tclass} ") for rule in rules(te.out))
        assert ruled is answer.rule, te.out
        for one in candidates(document)[answer.access]:
            kind = one["fix"]["kind"]
            assert f"1. {kind}: " in screen.out
            if not answer.rule:
                assert f"#   {kind}: " in te.out
                assert f"{source} {target}:{tclass}" in te.err


def test_companion_records_alone_are_no_denial(sepolicyd: Runner) -> None:
    """24: SYSCALL, PATH and PROCTITLE of ausearch -i, wrapped by a mail program, without an AVC."""
    (path,) = REPORTS.glob("24-*")
    ran = sepolicyd("analyze", "--all", "--json", path)
    document = json.loads(ran.out)
    assert (ran.code, document["denials"], document["candidates"]) == (0, 0, [])
    assert document["input_notes"]


def test_another_machines_log_is_recognised_before_anything_is_called_allowed(sepolicyd: Runner) -> None:
    (path,) = REPORTS.glob("13-*")
    ran = sepolicyd("analyze", "--all", "--details", path)
    assert "another machine's log?" in ran.err
    document = json.loads(sepolicyd("analyze", "--all", "--json", path).out)
    assert any("another machine's log?" in note for note in document["input_notes"])
