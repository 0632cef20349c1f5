"""Comparison with audit2why on the same denials: booleans and constraints are never presented as a plain allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from sepolicyd.audit.model import Context, Sighting
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rules.assess.assess import Assessed, assess
from sepolicyd.rules.candidate import group
from tests.rules.conftest import POLICY
from tests.rules.lines import GUARD, PROFILE, captured, denials_of_log, evidence_of, fold

pytestmark = pytest.mark.toolchain
BOOLEAN, CONSTRAINT, RBAC, BOUNDS = 3, 4, 5, 6
# Debian's policy has no JupyterHub: domains of its own stand in, those that booleans and constraints are written for.
STAND_INS = [
    ("04", "httpd_t", "httpd_sys_script_t"),
    ("02", "sshd_t", "user_t"),
    ("02", "svirt_t", "httpd_user_script_t"),
    ("04", "cupsd_t", "staff_t"),
]


@pytest.fixture(scope="module")
def audit2why() -> Iterator[object]:
    module = pytest.importorskip("selinux.audit2why")
    if not POLICY.exists():
        pytest.skip("the distribution's policy is not installed")
    module.init(str(POLICY))
    yield module
    module.finish()


def judged(log: str, hub: str, user: str, policy_index: PolicyIndex) -> list[Assessed]:
    stand_in = {"jupyterhub_t": hub, "jupyterhub_user_t": user}
    profile = replace(
        PROFILE,
        roles=(
            replace(PROFILE.roles[0], domains=(hub,)),
            *(replace(role, domains=(user, hub)) for role in PROFILE.roles[1:]),
        ),
        own_types=frozenset(),
    )
    evidence: dict = {}
    for found in denials_of_log(captured(log)):
        changed = replace(found, scontext=_as(found.scontext, stand_in), tcontext=_as(found.tcontext, stand_in))
        if changed.scontext.type in (hub, user):
            fold(evidence, changed.accesses(), evidence_of(Sighting(changed, 1), role="hub"))
    return assess(group(evidence, GUARD.facets(evidence, profile)), profile=profile, guard=GUARD, policy_index=policy_index)


def _as(context: Context, stand_in: dict[str, str]) -> Context:
    return replace(context, type=stand_in.get(context.type, context.type))


@pytest.mark.parametrize(("log", "hub", "user"), STAND_INS, ids=[case[1] for case in STAND_INS])
def test_a_boolean_or_a_constraint_is_no_plain_allow(
    log: str, hub: str, user: str, policy_index: PolicyIndex, audit2why
) -> None:
    asked = 0
    for item in judged(log, hub, user, policy_index):
        for access, seen in item.candidate.evidence.items():
            for scontext, tcontext in seen.contexts:
                try:
                    code, _ = audit2why.analyze(scontext, tcontext, access.tclass, [access.permission])
                except (RuntimeError, TypeError):
                    continue
                asked += 1
                found = {finding.code for finding in item.findings}
                if code == BOOLEAN:
                    assert item.fix.kind != "allow" or found & {"U-004", "P-004"}, (access, item.fix, found)
                elif code in (CONSTRAINT, RBAC, BOUNDS):
                    assert "U-003" in found or item.fix.kind != "allow", (access, item.fix, found)
    assert asked > 100
