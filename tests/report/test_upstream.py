"""Reports to policy maintainers: net of what the newest given policy allows, with the least rule that really gives it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sepolicyd.access import Access
from sepolicyd.errors import InputError
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.report.upstream import Upstream, UpstreamReport, newest_policy, text_of, upstream_reports
from sepolicyd.rules.evidence import Evidence
from sepolicyd.state.decisions import AnswerKind
from sepolicyd.state.evidence_store import Batch, EvidenceStore
from tests.policy.stores import link, package_with_interfaces
from tests.policy.test_interfaces import SUPPORT
from tests.policy.toys import DEVEL, DISTRIBUTION, needs_distribution
from tests.report.test_collect import decide, load, observe, session_of
from tests.rollout.apply.world import EXECMEM, OPEN, PORT, READ, WRITE, World, world

pytestmark = pytest.mark.toolchain
INTERFACES = """
interface(`svc_read_data',` gen_require(` type svc_data_t; ') allow $1 svc_data_t:file { read open getattr }; ')
interface(`svc_manage_data',`
    gen_require(` type svc_data_t; ') allow $1 svc_data_t:file { read open getattr write append create unlink };
')
"""
MISSING = Access.of("svc_t", "missing_t", "file", "read")
SWITCHED = Access.of("svc_t", "var_t", "file", "read")


@pytest.fixture
def here(tmp_path: Path) -> World:
    made = world(tmp_path)
    observe(made, [READ, OPEN, EXECMEM, MISSING, SWITCHED])
    decide(made, AnswerKind.ALLOW, READ, OPEN, reason="its own data")
    decide(made, AnswerKind.ALLOW, EXECMEM)
    return made


@pytest.fixture
def newer(here: World, tmp_path: Path) -> Path:
    """A root with the base policy, an older one beside it, and headers."""
    root = tmp_path / "newer"
    folder = root / "etc/selinux/default/policy"
    folder.mkdir(parents=True)
    (folder / "policy.33").write_bytes(here.policy())
    (folder / "policy.30").write_bytes(b"an older one, not to be read")
    include = root / "usr/share/selinux/devel/include"
    (include / "support").mkdir(parents=True)
    (include / "support/all.spt").write_text(SUPPORT)
    (include / "services").mkdir()
    (include / "services/svc.if").write_text(INTERFACES)
    return root


def reports(here: World, against: Path | None) -> Upstream:
    return upstream_reports(session_of(here), against)


def by_target(found: Upstream) -> dict[str, UpstreamReport]:
    return {one.target: one for one in found.reports}


@pytest.mark.skipif(shutil.which("m4") is None, reason="m4 is not installed")
def test_a_rule_is_an_interface_where_one_covers_it(here: World, newer: Path) -> None:
    found = reports(here, newer)
    data = by_target(found)["svc_data_t"]
    assert data.title == "Allow svc_t read svc_data_t files"
    (rule,) = data.rules
    assert str(rule.offer) == "svc_read_data(svc_t)"
    text = text_of(found)
    assert "svc_read_data(svc_t)" in text
    assert "The interface also allows:\n    allow svc_t svc_data_t:file getattr;" in text
    assert "Reason for allowing it: its own data" in text


def test_without_an_interface_the_rule_is_plain(here: World, newer: Path) -> None:
    own = by_target(reports(here, newer))["self"]
    assert own.title == "Allow svc_t execmem on its own process"
    assert own.rules[0].offer is None
    assert "    allow svc_t self:process execmem;" in text_of(reports(here, newer))


def test_what_the_newest_policy_allows_is_left_out(here: World, newer: Path) -> None:
    load(here)
    (newer / "etc/selinux/default/policy/policy.34").write_bytes(here.policy())
    found = reports(here, newer)
    assert found.reports == ()
    assert set(found.allowed) == {READ, OPEN, EXECMEM}
    assert text_of(found).startswith("Nothing to report")


def test_by_default_the_module_s_own_accesses_count_as_denied(here: World) -> None:
    load(here)
    assert set(by_target(reports(here, None))) == {"svc_data_t", "self"}
    assert "without sepolicyd_svc" in text_of(reports(here, None))


def test_what_is_no_report_is_named_with_its_reason(here: World, newer: Path) -> None:
    decide(here, AnswerKind.ALLOW, MISSING)
    decide(here, AnswerKind.ALLOW, SWITCHED)
    decide(here, AnswerKind.ALLOW, WRITE)
    decide(here, AnswerKind.DENY, PORT)
    found = reports(here, newer)
    assert found.unknown == {MISSING: "type missing_t"}
    assert found.by_boolean == {SWITCHED: "svc_may_read"}
    assert found.without_record == (WRITE,)
    text = text_of(found)
    for words in ("type missing_t", "with the boolean svc_may_read", "without a denial in the evidence"):
        assert words in text
    assert PORT not in {access for one in found.reports for access in one.accesses}


def test_records_are_those_of_the_log_without_what_auditd_added(here: World, newer: Path) -> None:
    raw = 'type=AVC msg=audit(1.1:1): avc:  denied  { write } for comm="a\\b" tcontext=x\x1dUID="root"\ntype=CWD x\x1b[31m'
    seen = Evidence(count=3, enforced=2, first=1.7e9, last=1.7e9 + 60, comms=("a<b>",), samples=(raw,))
    batch = Batch()
    batch.add(WRITE, "main", seen)
    store = EvidenceStore(here.settings.evidence_db, "svc")
    store.save(batch, {})
    store.close()
    decide(here, AnswerKind.ALLOW, WRITE)
    text = text_of(reports(here, newer))
    assert '    type=AVC msg=audit(1.1:1): avc:  denied  { write } for comm="a\\b" tcontext=x\n' in text
    assert "UID=" not in text
    assert "\x1b" not in text
    assert "2 of them in enforcing mode" in text


def test_the_newest_policy_of_a_directory_is_found(tmp_path: Path) -> None:
    for name, age in (("a/policy/policy.31", 9), ("b/policy/policy.33", 5), ("c/policy/policy.33", 7), ("policy.32", 9)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        os.utime(path, (age, age))
    assert newest_policy(tmp_path) == tmp_path / "c/policy/policy.33"
    assert newest_policy(tmp_path / "policy.32") == tmp_path / "policy.32"
    with pytest.raises(InputError, match=r"no policy\.N"):
        newest_policy(tmp_path / "a" / "policy" / "nothing")


@needs_distribution
@pytest.mark.slow
@pytest.mark.skipif(not DEVEL.is_dir(), reason="the policy headers are not installed")
def test_the_rule_gives_the_accesses_in_the_distribution_s_policy(tmp_path: Path) -> None:
    """The interface that a report names, built by the headers' own Makefile and linked: what was denied is allowed."""
    made = world(tmp_path)
    asked = [
        Access.of("chronyd_t", "httpd_config_t", tclass, permission)
        for tclass, permission in (("file", "read"), ("file", "open"))
    ]
    policy = PolicyIndex.load(DISTRIBUTION)
    if any(policy.missing_names(access) or policy.allowed(access).allowed for access in asked):
        pytest.skip("this policy has other names")
    observe(made, asked)
    decide(made, AnswerKind.ALLOW, *asked)
    session = session_of(made)
    session = replace(session, settings=replace(session.settings, headers=DEVEL.parent))
    (one,) = upstream_reports(session, DISTRIBUTION).reports
    offers = [str(rule.offer) for rule in one.rules if rule.offer is not None]
    assert offers
    te = "policy_module(proof, 1.0)\nrequire { type chronyd_t; }\n" + "".join(f"{offer}\n" for offer in offers)
    linked = PolicyIndex.load(link(tmp_path / "linked", package_with_interfaces(tmp_path, "proof", te)))
    assert all(linked.allowed(access).allowed for access in asked)
    sesearch = shutil.which("sesearch")
    if sesearch:
        words = [sesearch, "-A", "-s", "chronyd_t", "-t", "httpd_config_t", "-c", "file", "-p", "read", str(linked.path)]
        assert "httpd_config_t" in subprocess.run(words, capture_output=True, text=True, check=True).stdout
