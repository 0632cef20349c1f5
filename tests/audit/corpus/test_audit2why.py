"""Comparison with audit2why on every denial of every log: its booleans and constraints must not become plain allow rules.

audit2why runs in a process of its own. Ours are judged against the distribution's policy, without the profile's filter.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from sepolicyd import profiles
from sepolicyd.audit.dialects.preprocess import Front
from sepolicyd.audit.scan.scan_files import scan_files
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rules.assess.assess import Assessed, assess
from sepolicyd.rules.attribution.gather_evidence import attribute
from sepolicyd.rules.candidate import group
from sepolicyd.rules.fixes.detail import OnlyPermissions
from sepolicyd.rules.guard.guard import load_guard
from tests.audit.corpus.test_corpus import FLOORS, JUPYTERHUB
from tests.cli.asking import audit2why
from tests.paths import POLICIES, ROOT
from tests.rules.conftest import POLICY

pytestmark = [
    pytest.mark.toolchain,
    pytest.mark.skipif(not POLICY.exists(), reason="the distribution's policy is not installed"),
]
PUBLIC = [floor.with_suffix("") for floor in FLOORS]
CAPTURED = [*sorted(JUPYTERHUB.glob("*.log.gz")), *sorted((ROOT / "tests/data/vm").glob("*.log.gz"))]
# denials that audit2why calls a boolean, and a missing rule: fewer would show nothing. Our own logs alone hold less.
LEAST = {"BOOLEAN": 6, "TERULE": 501} if PUBLIC else {"BOOLEAN": 1, "TERULE": 20}
HELD_BACK = ("CONSTRAINT", "RBAC", "BOUNDS")


@pytest.fixture(scope="module")
def judged() -> list[Assessed]:
    """All candidates of all logs, of a profile whose domains are all their sources: none is refused only as another's."""
    policy_index = PolicyIndex.load(POLICY)
    profile = profiles.load("jupyterhub", [POLICIES])
    guard = load_guard([POLICIES])
    found = [path for path in (*CAPTURED, *PUBLIC) if path.is_file()]
    # what this policy has no name for cannot be judged, by either of us
    evidence = {
        access: seen
        for access, seen in attribute(scan_files(found, front=Front()), None).evidence.items()
        if not policy_index.missing_names(access)
    }
    sources = tuple(sorted({access.source for access in evidence}))
    profile = replace(profile, roles=(replace(profile.roles[0], domains=sources),), own_types=frozenset())
    candidates = group(evidence, guard.facets(evidence, profile))
    return assess(candidates, profile=profile, guard=guard, policy_index=policy_index, labels=None)


def asked_of(items: list[Assessed]) -> dict[tuple[str, str, str, str], tuple[Assessed, object]]:
    return {
        (scontext, tcontext, access.tclass, access.permission): (item, access)
        for item in items
        for access, seen in item.candidate.evidence.items()
        for scontext, tcontext in seen.contexts
    }


def test_what_audit2why_calls_a_boolean_or_a_constraint_is_no_plain_allow(judged: list[Assessed]) -> None:
    asked = asked_of(judged)
    said = audit2why(POLICY, list(asked))
    counts: dict[str, int] = {}
    wrong = []
    for one, answer in said.items():
        item, access = asked[one]
        codes = {finding.code for finding in item.findings}
        counts[answer] = counts.get(answer, 0) + 1
        plain = item.fix.kind == "allow" and item.approvable and item.fix.text.startswith("allow exactly")
        if answer == "BOOLEAN" and plain and not codes & {"U-004", "P-004"}:
            wrong.append((answer, str(access), item.fix, codes))
        if answer in HELD_BACK and plain and "U-003" not in codes:
            wrong.append((answer, str(access), item.fix, codes))
    assert not wrong, wrong[:5]
    assert all(counts.get(answer, 0) >= least for answer, least in LEAST.items()), counts
    if FLOORS:
        assert counts.get("CONSTRAINT", 0) > 5, counts


def test_what_is_held_back_in_part_says_which_part(judged: list[Assessed]) -> None:
    for item in judged:
        for fix in (item.fix, *item.alternatives):
            if isinstance(fix.detail, OnlyPermissions):
                assert 0 < len(fix.detail.permissions) < len(item.candidate.permissions)
                if all(finding.code != "U-003" for finding in item.findings):
                    # not held back: of both DAC capabilities the smaller one suffices for a read
                    assert {"dac_override", *fix.detail.permissions} == set(item.candidate.permissions)
                    continue
                told = next(finding for finding in item.findings if finding.code == "U-003")
                assert f"it is effective for {' '.join(fix.detail.permissions)}, but not for " in told.text
