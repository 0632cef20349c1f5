"""Candidates assessed together: user code, signs of an attack, consequences, and effects of a rule."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest

from sepolicyd.access import Access
from sepolicyd.audit.model import Sighting
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import Labels
from sepolicyd.rules.assess.assess import Assessed, assess
from sepolicyd.rules.candidate import group
from sepolicyd.rules.fixes.detail import DomainTransition, LabelledPorts, OwnType, labels_of
from sepolicyd.rules.guard.override import Override, parse_overrides
from tests.rules.lines import (
    GUARD,
    PROFILE,
    candidates_from,
    captured,
    denial,
    evidence_from,
    evidence_of,
    evidence_of_log,
    fold,
    judge,
    line,
    one,
)

OPENING = {"allow", "boolean", "interface"}
LOGS = ["01", "02", "03", "04"]


@lru_cache(maxsize=16)
def assessed_log(number: str, policy_index: PolicyIndex | None, labels: Labels | None) -> list[Assessed]:
    return assessed_anew(number, policy_index, labels)


def assessed_anew(number: str, policy_index: PolicyIndex | None, labels: Labels | None) -> list[Assessed]:
    evidence = evidence_of_log(captured(number))
    candidates = group(evidence, GUARD.facets(evidence, PROFILE))
    return assess(candidates, profile=PROFILE, guard=GUARD, policy_index=policy_index, labels=labels)


def codes(item: Assessed) -> set[str]:
    return {finding.code for finding in item.findings}


@pytest.mark.parametrize("log", LOGS)
def test_no_refused_candidate_of_the_captured_logs_is_approvable(log: str, policy_index: PolicyIndex, labels: Labels) -> None:
    items = assessed_log(log, policy_index, labels)
    assert items
    for item in items:
        fixes = (item.fix, *item.alternatives)
        if item.level == "refuse":
            assert not item.approvable and "refuses" in item.why_not
            assert not OPENING & {fix.kind for fix in fixes}
        assert item.approvable != bool(item.why_not)
        assert item.level == "none" or item.findings


@pytest.mark.parametrize("log", LOGS)
def test_every_access_of_a_log_is_in_exactly_one_candidate(log: str, policy_index: PolicyIndex, labels: Labels) -> None:
    asked = [access for item in assessed_log(log, policy_index, labels) for access in item.candidate.accesses]
    assert len(asked) == len(set(asked))
    assert set(asked) == set(evidence_of_log(captured(log)))


@pytest.mark.parametrize("log", LOGS)
def test_the_queue_is_ordered_refuse_review_then_rarity(log: str, policy_index: PolicyIndex, labels: Labels) -> None:
    items = assessed_log(log, policy_index, labels)
    levels = ["refuse", "review", "note", "none"]
    keys = [(levels.index(item.level), item.rarity) for item in items]
    assert keys == sorted(keys)


def test_the_same_log_gives_the_same_answers(policy_index: PolicyIndex, labels: Labels) -> None:
    assert assessed_anew("03", policy_index, labels) == assessed_log("03", policy_index, labels)


def test_the_hubs_domain_gets_nothing_that_only_users_code_asked(policy_index: PolicyIndex, labels: Labels) -> None:
    asked = [item for item in assessed_log("02", policy_index, labels) if item.candidate.source == "jupyterhub_t"]
    users = [item for item in asked if set(item.roles) <= {"kernel", "singleuser"}]
    assert len(users) > 50
    for item in users:
        assert "W-001" in codes(item)
        assert not item.approvable
        assert item.fix.kind == "transition", (item.candidate, item.fix)
        assert item.level in ("review", "refuse")
        assert not OPENING & {fix.kind for fix in item.alternatives}
    sudo = [item for item in users if item.candidate.target in ("sudo_exec_t", "su_exec_t", "dmesg_exec_t", "mount_exec_t")]
    assert len(sudo) >= 4
    for item in asked:
        if item not in users:
            assert "W-001" not in codes(item)


def test_in_a_domain_of_its_own_users_code_may_be_answered(policy_index: PolicyIndex, labels: Labels) -> None:
    items = [item for item in assessed_log("04", policy_index, labels) if item.candidate.source == "jupyterhub_user_t"]
    assert items and all("W-002" in codes(item) and "W-001" not in codes(item) for item in items)
    assert all(item.approvable for item in items if item.level != "refuse")
    ps = [item for item in items if item.candidate.target == "auditd_t"]
    assert ps and {item.fix.kind for item in ps} == {"dontaudit"}


def test_a_permission_that_only_users_code_wants_is_a_question_of_its_own(policy_index: PolicyIndex) -> None:
    shared = evidence_of_log(captured("02"))
    parts = group(shared, GUARD.facets(shared, PROFILE))
    shell = [part for part in parts if part.target == "shell_exec_t"]
    assert {part.permissions for part in shell if part.facet == ":user"} == {("getattr",)}


@pytest.mark.parametrize("log", LOGS)
def test_without_a_policy_all_is_shown_and_nothing_can_be_approved(log: str) -> None:
    items = assessed_log(log, None, None)
    assert len(items) == len({item.candidate.id for item in items})
    for item in items:
        assert not item.approvable and item.why_not
        assert "U-002" in codes(item)
        assert item.opens == ()


# -- attack ------------------------------------------------------------------------------------------------------------


def burst(pid: int = 666) -> list[str]:
    return [
        line("read", "jupyterhub_user_t", "shadow_t", "file", pid=pid, comm="x", serial=1, time=1000.0),
        line("open", "jupyterhub_user_t", "memory_device_t", "chr_file", pid=pid, comm="x", serial=2, time=1001.0),
        line("setenforce", "jupyterhub_user_t", "security_t", "security", pid=pid, comm="x", serial=3, time=1002.0),
        line("sys_module", "jupyterhub_user_t", "jupyterhub_user_t", "capability", pid=pid, comm="x", serial=4, time=1003.0),
        line("relabelto", "jupyterhub_user_t", "bin_t", "file", pid=pid, comm="x", serial=5, time=1004.0),
    ]


def test_a_burst_of_refused_targets_is_an_attack_and_freezes_the_roles_queue(policy_index: PolicyIndex) -> None:
    harmless = line("search", "jupyterhub_user_t", "var_log_t", "dir", pid=5, comm="python3", serial=9, time=5000.0)
    items = judge([*burst(), harmless], policy_index, role="kernel")
    attacked = [item for item in items if "W-003" in codes(item)]
    assert len(attacked) == 5
    text = next(finding.text for finding in attacked[0].findings if finding.code == "W-003")
    assert "attack" in text and "666" in text and "shadow_t" in text
    (quiet,) = [item for item in items if item.candidate.target == "var_log_t"]
    assert not quiet.approvable and "burst" in quiet.why_not and quiet.frozen[0].pid == 666


def test_the_freeze_ends_when_a_person_has_answered_the_refused_ones(policy_index: PolicyIndex) -> None:
    harmless = line("search", "jupyterhub_user_t", "var_log_t", "dir", pid=5, comm="python3")
    (quiet,) = judge([harmless], policy_index, role="kernel")
    assert quiet.approvable and not quiet.frozen


def test_another_roles_queue_goes_on(policy_index: PolicyIndex) -> None:
    evidence = evidence_from(burst(), role="kernel")
    evidence.update(evidence_from([line("search", "jupyterhub_t", "var_log_t", "dir", pid=5, comm="jupyterhub")], role="hub"))
    items = assess(group(evidence, GUARD.facets(evidence, PROFILE)), profile=PROFILE, guard=GUARD, policy_index=policy_index)
    (hub,) = [item for item in items if item.roles == ("hub",)]
    assert hub.approvable


@pytest.mark.parametrize("spoil", ["pids", "time", "few"])
def test_no_burst_without_one_process_short_time_and_several_targets(spoil: str, policy_index: PolicyIndex) -> None:
    lines = burst()
    if spoil == "pids":
        lines = [text.replace("pid=666", f"pid={700 + index}") for index, text in enumerate(lines)]
    elif spoil == "time":
        lines = [text.replace(f"audit(100{index}.", f"audit({1000 + 1000 * index}.") for index, text in enumerate(lines)]
    else:
        lines = lines[:2]
    lines = [text for text in lines if "setenforce" not in text]
    assert not any("W-003" in codes(item) for item in judge(lines, policy_index, role="kernel"))


@pytest.mark.parametrize("permission", ["setenforce", "load_policy"])
def test_one_attempt_to_switch_selinux_off_is_enough(permission: str, policy_index: PolicyIndex) -> None:
    item = one([line(permission, "jupyterhub_user_t", "security_t", "security", pid=6, comm="x")], policy_index, role="kernel")
    assert "W-003" in codes(item) and item.frozen
    assert "security_t:security" in next(finding.text for finding in item.findings if finding.code == "W-003")


@pytest.mark.parametrize("log", LOGS)
def test_the_captured_logs_hold_no_attack(log: str, policy_index: PolicyIndex, labels: Labels) -> None:
    assert not any(item.frozen for item in assessed_log(log, policy_index, labels))


# -- cascades ----------------------------------------------------------------------------------------------------------


def walk(**more: int) -> list[str]:
    return [
        line("search", "jupyterhub_t", "cron_spool_t", "dir", pid=9, comm="x", path="/var/spool/cron", serial=10, **more),
        line(
            "read",
            "jupyterhub_t",
            "print_spool_t",
            "file",
            pid=9,
            comm="x",
            path="/var/spool/cron/crontabs/root",
            serial=11,
            **more,
        ),
    ]


def cascades_of(lines: list[str], policy_index: PolicyIndex) -> dict[str, str]:
    items = judge(lines, policy_index)
    by_id = {item.candidate.id: item.candidate.target for item in items}
    return {item.candidate.target: by_id[item.cascade_of] for item in items if item.cascade_of}


def test_what_permissive_let_it_reach_is_marked_as_a_consequence(policy_index: PolicyIndex) -> None:
    assert cascades_of(walk(), policy_index) == {"print_spool_t": "cron_spool_t"}
    item = next(item for item in judge(walk(), policy_index) if item.cascade_of)
    assert "W-004" in codes(item)


def test_no_consequence_before_its_cause_of_another_process_or_when_enforced(policy_index: PolicyIndex) -> None:
    first, second = walk()
    assert cascades_of([first.replace(":10)", ":12)"), second], policy_index) == {}
    assert cascades_of([first, second.replace("pid=9", "pid=10")], policy_index) == {}
    assert cascades_of(walk(permissive=0), policy_index) == {}


def test_a_program_that_should_not_have_run_explains_what_it_did(policy_index: PolicyIndex) -> None:
    run = line("execute", "jupyterhub_t", "dmesg_exec_t", "file", pid=9, comm="sh", path="/usr/bin/dmesg", serial=10)
    did = line("read", "jupyterhub_t", "kmsg_device_t", "chr_file", pid=9, comm="dmesg", serial=11)
    evidence: dict = {}
    for text, exe in ((run, "/usr/bin/dash"), (did, "/usr/bin/dmesg")):
        found = replace(denial(text), exe=exe)
        fold(evidence, found.accesses(), evidence_of(Sighting(found, 1)))
    items = assess(group(evidence, {}), profile=PROFILE, guard=GUARD, policy_index=policy_index)
    (kmsg,) = [item for item in items if item.candidate.target == "kmsg_device_t"]
    assert kmsg.cascade_of


# -- what the policy says ----------------------------------------------------------------------------------------------


def test_rarity_is_counted_in_the_installed_policy(policy_index: PolicyIndex) -> None:
    item = one([line("append", "jupyterhub_t", "lastlog_t", "file", pid=3, comm="x")], policy_index)
    holders = policy_index.holders("file", "append", "lastlog_t")
    assert item.rarity == len(holders)
    confined = len(policy_index.domains - policy_index.unconfined)
    assert any(text.startswith(f"{len(holders)} of {confined} confined domains may do this") for text in item.opens)


def test_how_far_a_type_reaches(policy_index: PolicyIndex, labels: Labels) -> None:
    item = one([line("read", "jupyterhub_t", "var_lib_t", "file", pid=3, comm="x")], policy_index, labels)
    assert any("var_lib_t covers" in text and "whole tree" in text for text in item.opens)


def test_write_and_run_count_together_with_what_is_held_already(policy_index: PolicyIndex) -> None:
    target = next(
        target
        for target in sorted(policy_index.types_of("exec_type"))
        if "execute" in policy_index.pair("sshd_t", target, "file").permissions and target.endswith("_exec_t")
    )
    profile = replace(PROFILE, roles=(replace(PROFILE.roles[0], domains=("sshd_t",)),))
    lines = [line("write", "sshd_t", target, "file", pid=3, comm="x")]
    (item,) = assess(candidates_from(lines), profile=profile, guard=GUARD, policy_index=policy_index)
    assert "V-002" in codes(item)
    assert "already allowed" in next(finding.text for finding in item.findings if finding.code == "V-002")


def test_a_constraint_is_told_before_anyone_approves(policy_index: PolicyIndex) -> None:
    text = line(
        "read", "svirt_t", "svirt_image_t", "file", pid=3, comm="qemu",
        scontext="system_u:system_r:svirt_t:s0:c1", tcontext="system_u:object_r:svirt_image_t:s0:c9",
    )  # fmt: skip
    if "svirt_t" not in policy_index.types:
        pytest.skip("the policy has no svirt_t")
    profile = replace(PROFILE, roles=(replace(PROFILE.roles[0], domains=("svirt_t",)),))
    (item,) = assess(candidates_from([text]), profile=profile, guard=GUARD, policy_index=policy_index)
    assert "U-003" in codes(item), item.findings
    assert item.fix.kind != "allow"
    assert not item.approvable and "constraint" in item.why_not


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (line("read", "jupyterhub_t", "nosuch_t", "file", pid=3, comm="x"), "type nosuch_t"),
        (line("read", "jupyterhub_t", "etc_t", "nosuchclass", pid=3, comm="x"), "class nosuchclass"),
        (line("frobnicate", "jupyterhub_t", "etc_t", "file", pid=3, comm="x"), "permission frobnicate"),
    ],
)
def test_what_the_policy_does_not_know_is_shown_not_judged_and_the_rest_goes_on(
    text: str, name: str, policy_index: PolicyIndex
) -> None:
    good = line("append", "jupyterhub_t", "lastlog_t", "file", pid=3, comm="x")
    items = {item.candidate.target + item.candidate.tclass: item for item in judge([text, good], policy_index)}
    assert items["lastlog_tfile"].approvable
    (bad,) = [item for key, item in items.items() if key != "lastlog_tfile"]
    assert bad.fix.kind == "unknown" and name in bad.why_not and not bad.approvable
    assert "U-001" in codes(bad)


def test_a_type_of_the_services_own_base_module_is_known(policy_index: PolicyIndex) -> None:
    item = one([line("read", "jupyterhub_t", "jupyterhub_var_lib_t", "file", pid=3, comm="x")], policy_index)
    assert item.fix.kind == "allow" and item.approvable


def test_secrets_are_a_second_look_for_anyone_but_the_hub(policy_index: PolicyIndex) -> None:
    text = line("read", "jupyterhub_proxy_t", "jupyterhub_secret_t", "file", pid=3, comm="node")
    assert "W-005" in codes(one([text], policy_index))
    assert "W-005" not in codes(one([text.replace("jupyterhub_proxy_t", "jupyterhub_t")], policy_index))


def test_a_wrong_label_is_mended_by_restorecon_of_exactly_that_path(policy_index: PolicyIndex, labels: Labels) -> None:
    text = line("read", "jupyterhub_t", "user_home_t", "file", pid=3, comm="x", path="/etc/ssl/certs/mine's.pem")
    item = one([text], policy_index, labels)
    assert item.fix.kind == "relabel"
    assert labels_of(item.fix.detail).paths == ("/etc/ssl/certs/mine's.pem",)
    assert item.fix.commands == ("restorecon -v '/etc/ssl/certs/mine'\"'\"'s.pem'",)


@pytest.mark.parametrize("path", ["/proc/1/environ", "/memfd:x (deleted)", "/tmp/a\\x0ab/../x", "relative", "/dev/pts/3", "/"])
def test_what_has_no_label_of_its_own_is_never_relabelled(path: str, policy_index: PolicyIndex, labels: Labels) -> None:
    text = line("read", "jupyterhub_t", "user_home_t", "file", pid=3, comm="x", path=path)
    item = one([text], policy_index, labels)
    assert not any(labels_of(fix.detail).paths for fix in (item.fix, *item.alternatives))


def test_a_candidate_that_is_allowed_by_now_says_so(policy_index: PolicyIndex) -> None:
    profile = replace(PROFILE, roles=(replace(PROFILE.roles[0], domains=("sshd_t",)),))
    candidates = candidates_from([line("read", "sshd_t", "etc_t", "file", pid=3, comm="x")])
    (item,) = assess(candidates, profile=profile, guard=GUARD, policy_index=policy_index)
    assert "U-005" in codes(item)
    assert not item.fix.commands


def test_an_override_needs_access_reason_and_name_and_is_shown(policy_index: PolicyIndex) -> None:
    lines = [line("sys_module", "jupyterhub_t", "jupyterhub_t", "capability", pid=3, comm="x")]
    found, wrong = parse_overrides([
        {"access": "jupyterhub_t self:capability sys_module", "reason": "a test rig", "by": "root"},
        {"access": "jupyterhub_t self:capability sys_module"},
        {"access": "a b", "reason": "x", "by": "y"},
    ])  # fmt: skip
    assert found == [Override(Access.of("jupyterhub_t", "self", "capability", "sys_module"), "a test rig", "root")]
    assert len(wrong) == 2
    (item,) = judge(lines, policy_index, overrides=found)
    assert item.level == "refuse" and item.approvable
    assert any("overridden by root: a test rig" in text for text in item.opens)
    assert "allow" in {fix.kind for fix in (item.fix, *item.alternatives)}
    (other,) = judge([lines[0].replace("sys_module", "mac_admin")], policy_index, overrides=found)
    assert not other.approvable


def test_the_sentence_says_who_what_and_whether_it_was_denied(policy_index: PolicyIndex) -> None:
    text = line("read open", "jupyterhub_t", "var_log_t", "file", pid=3, comm="jupyterhub", path="/var/log/x", permissive=0)
    item = one([text], policy_index, role="hub")
    assert item.sentence == "The hub (jupyterhub) asked to open, read /var/log/x, a file labelled var_log_t; it was denied."


def test_nothing_of_the_log_reaches_a_finding(policy_index: PolicyIndex) -> None:
    text = line("write", "jupyterhub_t", "bin_t", "file", pid=3, comm="EVIL", path="/usr/bin/EVIL", name="EVIL")
    item = one([text], policy_index)
    assert not any("EVIL" in finding.text for finding in item.findings)


def test_without_known_denials_of_its_own_a_profile_has_the_general_ones(tmp_path: Path) -> None:
    profile = replace(PROFILE, directory=tmp_path)
    candidates = group(evidence_of_log(captured("01")), {})
    (item,) = assess(candidates, profile=profile, guard=GUARD)
    (known,) = [finding.text for finding in item.findings if finding.code == "D-001"]
    assert known.startswith("runs-without-a-domain: ") and "jupyterhub" not in known


def test_the_users_domain_is_entered_by_its_own_program(policy_index: PolicyIndex) -> None:
    """The hub's own entry point must never start the users' domain."""
    item = one([line("search", "jupyterhub_t", "mnt_t", "dir", pid=3, comm="ls")], policy_index, role="kernel")
    assert item.fix.commands[0] == "type_transition jupyterhub_t jupyterhub_user_exec_t:process jupyterhub_user_t;"


def test_the_proxys_machine_code_belongs_into_the_proxys_domain(policy_index: PolicyIndex) -> None:
    item = one([line("execmem", "jupyterhub_t", "jupyterhub_t", "process", pid=3, comm="node")], policy_index, role="proxy")
    assert (
        item.fix.kind == "transition"
        and isinstance(item.fix.detail, DomainTransition)
        and item.fix.detail.domain == "jupyterhub_proxy_t"
    )
    assert "never for the hub" in next(finding.text for finding in item.findings if finding.code == "V-001")


@pytest.mark.parametrize("path", ["/etc/x", "/etc/cron.d/x", "/var/lib/x"])
def test_a_path_of_the_logs_choosing_takes_no_tree_along(path: str, policy_index: PolicyIndex) -> None:
    item = one([line("write", "jupyterhub_t", "etc_t", "file", pid=3, comm="x", path=path)], policy_index)
    assert item.fix.kind == "own-type"
    assert [one.pattern.replace("\\", "") for one in labels_of(item.fix.detail).contexts] == [path]
    assert labels_of(item.fix.detail).paths == (path,)


def test_a_type_that_is_not_there_yet_is_left_to_a_person(policy_index: PolicyIndex) -> None:
    profile = replace(PROFILE, own_types=frozenset({"jupyterhub_t"}))
    candidates = candidates_from([line("create", "jupyterhub_t", "tmp_t", "file", pid=3, comm="x")])
    (item,) = assess(candidates, profile=profile, guard=GUARD, policy_index=policy_index)
    assert item.fix.kind == "own-type" and "a new type" in item.fix.text
    assert item.fix.detail == OwnType()


def test_a_port_that_is_not_the_services_gets_no_type_of_its_friends(policy_index: PolicyIndex) -> None:
    item = one(
        [line("name_connect", "jupyterhub_t", "unreserved_port_t", "tcp_socket", pid=3, comm="x", dest=5000)], policy_index
    )
    assert item.fix.kind == "port" and item.fix.detail == LabelledPorts()
    assert "allow" in {fix.kind for fix in item.alternatives}


def test_one_candidate_alone_is_assessed_as_among_all(policy_index: PolicyIndex) -> None:
    lines = [*burst(), line("search", "jupyterhub_user_t", "var_log_t", "dir", pid=666, comm="x", serial=9, time=1005.0)]
    candidates = candidates_from(lines, role="kernel")
    every = {item.candidate.id: item for item in judge(lines, policy_index, role="kernel")}
    for candidate in candidates:
        (alone,) = assess(candidates, profile=PROFILE, guard=GUARD, policy_index=policy_index, ids=[candidate.id[:8]])
        assert alone == every[candidate.id]
    assert any(item.frozen for item in every.values())
