"""Known-denials files: permitted content, and all errors of a file reported at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sepolicyd.errors import InputError
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.interfaces import INCLUDE, Interfaces
from sepolicyd.rules.assess.assess import assess
from sepolicyd.rules.fixes import known_denials
from sepolicyd.rules.fixes.detail import NO_DETAIL
from sepolicyd.rules.fixes.fix import FixKind
from tests.rules.lines import GUARD, POLICIES, PROFILE, candidates_from, judge, line


def write(directory: Path, text: str) -> Path:
    file = directory / "known_denials.yaml"
    file.write_text(text)
    return file


def test_the_shipped_known_denials_are_whole_and_say_where_they_are_from() -> None:
    found = known_denials.load(POLICIES / "jupyterhub")
    assert len({one.name for one in found}) == len(found) > 8
    for one in found:
        assert one.patterns and len(one.why) > 30
        assert {fix.kind for fix in one.fixes} <= set(FixKind)
        # a transition under NoNewPrivileges is the one thing that only a rule mends
        assert one.name == "nothing-new-privileges" or not any(fix.kind == "allow" for fix in one.fixes)


def test_a_profile_without_known_denials_has_those_of_services_in_general(tmp_path: Path) -> None:
    general = known_denials.load(tmp_path)
    assert {one.name for one in general} >= {"program-label", "container-socket", "runs-without-a-domain"}
    assert known_denials.load(POLICIES / "jupyterhub")[-len(general) :] == general
    assert not any("jupyter" in str((one.patterns, one.fixes, one.why)).lower() for one in general)


def test_a_users_own_known_denials_comes_first(tmp_path: Path, policy_index: PolicyIndex) -> None:
    write(
        tmp_path,
        """known_denials:
  - name: spool
    match: [{class: [dir], target: [mail_spool_t]}]
    comms: [python*]
    why: numpy looks for mail
    fixes: [{kind: application, text: tell it not to, file: x.conf, line: mail=off}]
""",
    )
    profile = replace(PROFILE, directory=tmp_path)
    for comm, kind in (("python3", "application"), ("bash", "dontaudit")):
        text = line("getattr", "jupyterhub_user_t", "mail_spool_t", "dir", pid=1, comm=comm)
        (item,) = assess(candidates_from([text]), profile=profile, guard=GUARD, policy_index=policy_index)
        assert item.fix.kind == kind
        assert "dontaudit" in {fix.kind for fix in (item.fix, *item.alternatives)}
        assert kind == "application" or item.fix.detail == NO_DETAIL


def test_all_mistakes_of_a_file_at_once(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """known_denials:
  - name: a
    match: [{class: [file], colour: red}]
    fixes: [{kind: magic, text: x}, {kind: boolean, text: y, boolean: "a b"}]
  - match: []
    why: z
    level: awful
""",
    )
    with pytest.raises(InputError) as error:
        known_denials.load(tmp_path)
    for mistake in (
        f"{file}:2: known_denials[0].why: is missing",
        f"{file}:3: known_denials[0].match[0].colour: unknown key",
        f"{file}:4: known_denials[0].fixes[0].kind: is 'magic'",
        f"{file}:4: known_denials[0].fixes[1].boolean: 'a b' is not a valid name in a policy",
        f"{file}:5: known_denials[1].name: is missing",
        f"{file}:7: known_denials[1].level: is 'awful'",
    ):
        assert mistake in str(error.value), error.value


@pytest.mark.toolchain
@pytest.mark.skipif(not INCLUDE.is_dir(), reason="the reference policy's headers are not installed")
def test_interfaces_are_offered_with_what_they_add_and_never_with_what_is_refused(
    policy_index: PolicyIndex, tmp_path: Path
) -> None:
    interfaces = Interfaces.load(tmp_path)
    lines = [
        line("watch", "jupyterhub_t", "etc_t", "dir", pid=1, comm="x"),
        line("read open", "jupyterhub_t", "lastlog_t", "file", pid=1, comm="x"),
        line("read", "jupyterhub_t", "shadow_t", "file", pid=1, comm="x"),
    ]
    items = {item.candidate.target: item for item in judge(lines, policy_index, interfaces=interfaces)}
    assert items["etc_t"].fix.kind == "interface" and "adds nothing" in items["etc_t"].fix.text
    wider = [fix for fix in items["lastlog_t"].alternatives if fix.kind == "interface"]
    assert items["lastlog_t"].fix.kind == "allow"
    assert wider and all("it adds" in fix.text and "lastlog_t" in fix.text for fix in wider)
    assert not any(fix.kind == "interface" for fix in (items["shadow_t"].fix, *items["shadow_t"].alternatives))
