"""A hostile user's notebook on the real machine (tests/data/vm): the candidates shown to the administrator.

sudo, su, mount, dmesg, raw sockets, a port scan, the hub's ports, secrets and code, forged names, under a lease.
"""

from __future__ import annotations

import pytest

from sepolicyd.audit.scan.scan_files import scan_files
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.profiles import Profile
from sepolicyd.rules import candidate
from sepolicyd.rules.assess.assess import CLOSED, Assessed, assess
from sepolicyd.rules.attribution.gather_evidence import attribute
from sepolicyd.rules.attribution.matcher import Matcher
from sepolicyd.rules.guard.guard import load_guard
from tests.paths import DATA
from tests.policies.jupyterhub.conftest import POLICIES  # type: ignore[attr-defined]

pytestmark = pytest.mark.toolchain

LOG = DATA / "vm/hostile-lease.log.gz"
USER = "jupyterhub_user_t"


@pytest.fixture(scope="module")
def asked(policy: PolicyIndex, profile: Profile) -> list[Assessed]:
    guard = load_guard([POLICIES])
    evidence = attribute(scan_files([LOG]), Matcher(profile)).evidence
    candidates = candidate.group(evidence, guard.facets(evidence, profile))
    return assess(candidates, profile=profile, guard=guard, policy_index=policy)


def test_nothing_that_students_caused_opens_anything_unread(asked: list[Assessed]) -> None:
    """What a person who answers only the harmless questions loads: nothing."""
    students = [one for one in asked if USER in (one.candidate.source, one.candidate.target)]
    assert len(students) > 30
    unread = [one for one in students if one.level in ("none", "note") and one.fix.kind not in CLOSED]
    assert not unread, [one.candidate.id for one in unread]


def test_it_is_told_as_an_attack_and_freezes_its_role(asked: list[Assessed]) -> None:
    attacked = [one for one in asked if any(finding.code == "W-003" for finding in one.findings)]
    assert attacked
    frozen = [one for one in asked if one.frozen]
    assert frozen
    assert not [one for one in frozen if one.approvable]
    assert {role for one in frozen for role in one.roles} >= {"kernel"}


@pytest.mark.parametrize(
    ("target", "tclass"),
    [
        ("shadow_t", "file"),
        ("self", "packet_socket"),
        ("self", "rawip_socket"),
        ("jupyterhub_port_t", "tcp_socket"),
    ],
)
def test_refused(asked: list[Assessed], target: str, tclass: str) -> None:
    found = [
        one for one in asked if (one.candidate.source, one.candidate.target, one.candidate.tclass) == (USER, target, tclass)
    ]
    assert found
    assert {one.level for one in found if "name_connect" not in one.candidate.permissions} == {"refuse"}
    assert not any(one.approvable for one in found if one.level == "refuse")
