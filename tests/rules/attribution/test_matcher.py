"""Attribution of denials to the service, with role and reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from sepolicyd.audit.model import Denial, EventId
from sepolicyd.audit.parse.denial import denials_of_line
from sepolicyd.rules.attribution.matcher import Matcher
from tests.rules.lines import PROFILE, captured, denial, evidence_of_log, line, matched

HUB_EXE = "/usr/bin/python3.11"


def process(
    pid: int, ppid: int, comm: str, exe: str = HUB_EXE, source: str = "jupyterhub_t", *, uid: str = "0", **more
) -> Denial:
    keys = {key: more.pop(key) for key in ("serial", "time") if key in more}
    found = denial(line("read", source, more.pop("target", "etc_t"), "file", pid=pid, comm=comm, **keys))
    return replace(found, ppid=ppid, exe=exe, uid=uid, **more)


def role(matcher: Matcher, one: Denial) -> str:
    match = matcher.match(one)
    return match.role if match else ""


def test_log_01_node_without_a_policy_is_the_proxy() -> None:
    pairs = [(found, match) for found, match in matched(captured("01")) if match is not None]
    assert len(pairs) == 52
    assert {(found.scontext.type, found.comm, match.role) for found, match in pairs} == {("initrc_t", "node", "proxy")}
    assert "weak hint" in pairs[0][1].reason  # later ones belong because their process is known


def test_log_02_one_domain_for_everything_is_told_apart_by_role() -> None:
    roles: dict[str, Counter[str]] = {}
    for found, match in matched(captured("02")):
        if match is not None and found.scontext.type == "jupyterhub_t" and found.comm:
            roles.setdefault(found.comm, Counter())[match.role] += 1
    assert set(roles["jupyterhub"]) == {"hub"}
    assert set(roles["configurable-ht"]) == {"proxy"}
    assert set(roles["jupyterhub-sing"]) == {"singleuser"}
    for comm in ("python3", "ps", "sudo", "su", "ss", "mount", "bash", "df", "systemctl", "mytool", "dmesg", "hostname"):
        assert set(roles[comm]) == {"kernel"}, comm
    assert roles["node"]["proxy"] == 31  # JupyterLab starts a node of its own, which is not the proxy
    assert set(roles["node"]) == {"proxy", "kernel"}
    assert set(roles["sh"]) == {"hub", "kernel"}  # the hub's own, as root, and those of notebooks
    assert set(roles["ZMQbg/IO/0"]) == {"singleuser", "kernel"}  # a thread's name: the process decides


def test_log_02_holds_its_396_accesses_and_the_services_are_390() -> None:
    every = {access for found, _ in matched(captured("02")) for access in found.accesses()}
    assert len(every) == 396
    assert len(evidence_of_log(captured("02"))) == 390


def test_log_04_two_domains() -> None:
    found = Counter(
        (one.scontext.type, match.role)
        for one, match in matched(captured("04"))
        if match and one.scontext.type in PROFILE.domains
    )
    assert set(found) == {
        ("jupyterhub_t", "hub"), ("jupyterhub_t", "proxy"),
        ("jupyterhub_user_t", "singleuser"), ("jupyterhub_user_t", "kernel"),
    }  # fmt: skip


@pytest.mark.parametrize("log", ["02", "03", "04"])
def test_the_policy_tools_noise_is_nobodys_and_the_answering_domains_are_the_services(log: str) -> None:
    taken = {found.scontext.type for found, match in matched(captured(log)) if match is not None}
    left = {found.scontext.type for found, match in matched(captured(log)) if match is None}
    assert "systemd_logind_t" in taken and "systemd_logind_t" not in left
    assert not taken & {"load_policy_t", "setfiles_t", "semanage_t", "udev_t", "systemd_tmpfiles_t", "getty_t", "unconfined_t"}


def test_every_match_says_why() -> None:
    for found, match in matched(captured("02")):
        if match is not None:
            kind = "source domain" if found.scontext.type in PROFILE.domains else "target domain"
            assert match.reason.startswith(f"{kind} jupyterhub_t; "), match.reason


def test_a_reason_names_comm_and_parent() -> None:
    matcher = Matcher(PROFILE)
    matcher.match(process(345, 1, "jupyterhub"))
    match = matcher.match(process(400, 345, "node", "/usr/bin/node"))
    assert match is not None
    assert match.reason == "source domain jupyterhub_t; comm node, child of 345"


def test_another_confined_domain_that_calls_itself_jupyterhub_is_not_taken() -> None:
    assert Matcher(PROFILE).match(process(9, 8, "jupyterhub", "/usr/sbin/apache2", "httpd_t")) is None


@pytest.mark.parametrize("source", ["unconfined_service_t", "initrc_t", "unconfined_t"])
def test_where_no_policy_says_what_it_is_the_claim_counts(source: str) -> None:
    assert role(Matcher(PROFILE), process(9, 8, "jupyterhub", source=source)) == "hub"
    assert role(Matcher(PROFILE), process(9, 8, "jupyterhub-sing", source=source)) == "singleuser"
    assert role(Matcher(PROFILE), process(9, 8, "python3", source=source)) == ""


def test_user_code_stays_user_code_whatever_it_calls_itself() -> None:
    matcher = Matcher(PROFILE)
    matcher.match(process(1000, 345, "jupyterhub-sing", uid="1000"))
    assert role(matcher, process(1001, 1000, "jupyterhub", uid="1000")) in ("singleuser", "kernel")
    assert role(matcher, process(1002, 1001, "node", "/usr/bin/node", uid="0")) in ("singleuser", "kernel")
    assert role(Matcher(PROFILE), process(7, 6, "jupyterhub", source="jupyterhub_user_t")) in ("singleuser", "kernel")


def test_a_users_process_of_unknown_descent_is_not_the_hub_by_its_name() -> None:
    assert role(Matcher(PROFILE), process(7, 6, "jupyterhub", uid="1000")) == "kernel"
    assert role(Matcher(PROFILE), process(7, 6, "jupyterhub", uid="0")) == "hub"


def test_a_process_changes_its_role_at_exec() -> None:
    matcher = Matcher(PROFILE)
    assert role(matcher, process(345, 1, "jupyterhub")) == "hub"
    assert role(matcher, process(554, 345, "jupyterhub", uid="1000")) == "hub"
    assert role(matcher, process(554, 345, "jupyterhub-sing", uid="1000")) == "singleuser"
    assert role(matcher, process(554, 345, "ZMQbg/IO/0", uid="1000")) == "singleuser"


def test_a_pid_used_again_is_another_process() -> None:
    matcher = Matcher(PROFILE)
    matcher.match(process(500, 345, "jupyterhub-sing", uid="1000"))
    assert role(matcher, process(500, 77, "jupyterhub", uid="0")) == "hub"


@pytest.mark.parametrize("comm", ["evil", "jupyterhub", "node", "ZMQbg/IO/0", ""])
@pytest.mark.parametrize("ppid", [None, 1, 345])
def test_a_remembered_pid_never_lifts_the_protection_of_a_students_domain(comm: str, ppid: int | None) -> None:
    """The hub's process is known; then the same pid, often without SYSCALL, is in a student's domain."""
    matcher = Matcher(PROFILE)
    assert role(matcher, process(3000, 345, "jupyterhub", "")) == "hub"
    student = process(3000, 1, comm, "", "jupyterhub_user_t", uid="")
    assert role(matcher, replace(student, ppid=ppid)) in ("singleuser", "kernel")
    # and the student's role does not stick to the pid when the hub has it again
    assert role(matcher, replace(process(3000, 1, "jupyterhub", ""), ppid=None)) == "hub"


def test_whoever_acts_on_a_students_process_does_not_borrow_the_hubs_role() -> None:
    matcher = Matcher(PROFILE)
    matcher.match(process(3000, 345, "jupyterhub"))
    one = process(77, 1, "dbus-daemon", source="system_dbusd_t", target="jupyterhub_user_t", extra=(("tpid", "3000"),))
    assert role(matcher, one) == "singleuser"


def test_the_memory_of_an_older_version_is_taken_up_without_processes() -> None:
    matcher = Matcher(PROFILE)
    matcher.recall([500, 1795373100.0, [[345, "hub", 1, "jupyterhub", HUB_EXE, 1795373100.0]]])
    assert len(matcher.processes) == 0


def test_descent_is_forgotten_after_a_day_and_at_a_reboot() -> None:
    matcher = Matcher(PROFILE)
    matcher.match(process(500, 345, "jupyterhub-sing", uid="1000", serial=5000, time=1000.0))
    assert role(matcher, process(501, 500, "jupyterhub", uid="0", serial=5001, time=1000.0 + 90_000)) == "hub"
    matcher = Matcher(PROFILE)
    matcher.match(process(500, 345, "jupyterhub-sing", uid="1000", serial=5000, time=1000.0))
    assert role(matcher, process(501, 500, "jupyterhub", uid="0", serial=20, time=1100.0)) == "hub"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sepolicyd.rules.attribution.processes.MAX_PROCESSES", 50)
    matcher, one = Matcher(PROFILE), process(2, 1, "jupyterhub")
    for pid in range(2, 600):
        matcher.match(replace(one, pid=pid))
    assert len(matcher.processes) == 50
    assert role(matcher, replace(one, pid=600, ppid=599, comm="x")) == "hub"


def test_a_helper_in_a_domain_of_its_own_belongs_by_descent() -> None:
    matcher = Matcher(PROFILE)
    assert matcher.match(process(900, 345, "unix_chkpwd", "/usr/sbin/unix_chkpwd", "chkpwd_t")) is None
    matcher.match(process(345, 1, "jupyterhub"))
    match = matcher.match(process(901, 345, "unix_chkpwd", "/usr/sbin/unix_chkpwd", "chkpwd_t"))
    assert match is not None and match.role == "login"


def test_the_unit_tells_where_the_domain_does_not() -> None:
    one = process(9, 8, "x", "/usr/bin/x", "foo_t", cgroup="/system.slice/jupyter-alice-singleuser.service")
    match = Matcher(PROFILE).match(one)
    assert match is not None and match.role == "singleuser"
    assert "unit jupyter-*-singleuser.service" in match.reason
    assert Matcher(PROFILE).match(replace(one, cgroup="/system.slice/apache2.service")) is None


@pytest.mark.parametrize(
    ("comm", "expected"),
    [
        ("(pyterhub)", "hub"),
        ("(ngleuser)", "singleuser"),
        ("(jupyterhub)", "hub"),
        ("(apache2)", ""),
        ("(x)", ""),
        ("pyterhub", ""),
    ],
)
def test_systemds_child_before_its_exec(comm: str, expected: str) -> None:
    text = line("execute", "init_t", "user_home_t", "file", pid=9, comm=comm, name="x")
    assert role(Matcher(PROFILE), denial(text)) == expected


def test_systemd_on_what_the_unit_names() -> None:
    text = line("write", "init_t", "var_run_t", "dir", pid=1, comm="systemd", name="jupyter-alice-singleuser")
    assert role(Matcher(PROFILE), denial(text)) == "singleuser"
    assert role(Matcher(PROFILE), denial(text.replace("jupyter-alice-singleuser", "apache2"))) == ""


def test_a_web_server_in_front() -> None:
    text = line("name_connect", "httpd_t", "transproxy_port_t", "tcp_socket", pid=9, comm="nginx", dest=8081)
    match = Matcher(PROFILE).match(denial(text))
    assert match is not None and "port 8081" in match.reason
    assert Matcher(PROFILE).match(denial(text.replace("8081", "3128"))) is None


def test_the_bus_daemon_is_not_the_source_of_what_it_reports() -> None:
    text = (
        "type=USER_AVC msg=audit(1795373145.804:173): pid=283 uid=100 auid=4294967295 ses=4294967295 subj=system_u:system_r:"
        "system_dbusd_t:s0 msg='avc:  denied  { send_msg } for msgtype=method_call interface=org.freedesktop.login1.Manager "
        "member=CreateSession dest=org.freedesktop.login1 spid=349 tpid=287 scontext=system_u:system_r:jupyterhub_t:s0 "
        'tcontext=system_u:system_r:systemd_logind_t:s0 tclass=dbus permissive=1  exe="/usr/bin/dbus-daemon" sauid=100\''
    )
    (found,) = denials_of_line(text).denials
    matcher = Matcher(PROFILE)
    matcher.match(process(349, 1, "jupyterhub"))
    match = matcher.match(found)
    assert match is not None and match.role == "hub" and "349" in match.reason


def test_no_text_of_the_log_raises() -> None:
    matcher = Matcher(PROFILE)
    base = process(9, 8, "x", source="initrc_t")
    for text in ("", "\x1b[2J", "é" * 20, "(" * 9, "a/b/c", "\udcff", "0" * 400):
        for one in (
            replace(base, comm=text, exe=text, path=text, name=text, cgroup=text, proctitle=text, uid=text),
            replace(base, event=EventId(time=text), pid=None, ppid=None, extra=(("spid", text), ("tpid", text))),
        ):
            matcher.match(one)
