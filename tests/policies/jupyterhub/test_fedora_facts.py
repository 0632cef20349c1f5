"""The stand-in for Fedora's policy, or the real one of SEPOLICYD_POLICY_ROOT, says what tests/data/fedora/facts.yaml has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sepolicyd.access import Access
from sepolicyd.module.store import Store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import Ports
from tests.paths import DATA
from tests.policies import base

pytestmark = pytest.mark.toolchain

FACTS: dict[str, Any] = yaml.safe_load((DATA / "fedora/facts.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def family(request: pytest.FixtureRequest) -> PolicyIndex:
    """A policy of Fedora's family: the named one, else the stand-in."""
    if not base.REAL:
        stand_in: PolicyIndex = request.getfixturevalue("fedora_policy")
        return stand_in
    policy = PolicyIndex.load(Store(base.ROOT).policy())
    if not base.is_fedoras(policy):
        pytest.skip(f"{base.ROOT} is not of Fedora's family")
    return policy


@pytest.mark.parametrize("name", FACTS["attributes"])
def test_a_type_has_these_attributes(family: PolicyIndex, name: str) -> None:
    assert [each for each in FACTS["attributes"][name] if name not in family.types_of(each)] == []


@pytest.mark.parametrize("name", FACTS["lacks"])
def test_a_type_lacks_these_attributes(family: PolicyIndex, name: str) -> None:
    assert name in family.types
    assert [each for each in FACTS["lacks"][name] if name in family.types_of(each)] == []


@pytest.mark.parametrize("name", FACTS["booleans"])
def test_a_boolean_has_its_default(family: PolicyIndex, name: str) -> None:
    assert family.booleans[name] in FACTS["booleans"][name]


@pytest.mark.parametrize("number", FACTS["ports"])
def test_a_port_has_its_type(family: PolicyIndex, number: int) -> None:
    # the module takes 8000, 8001 and 8081 over with `init` alone, which has not run here
    assert Ports.from_policy(family).owner("tcp", number) == FACTS["ports"][number]


@pytest.mark.parametrize("row", FACTS["allowed"], ids=" ".join)
def test_it_allows(family: PolicyIndex, row: list[str]) -> None:
    source, target, tclass, permission, *boolean = row
    answer = family.allowed(Access.of(source, target, tclass, permission))
    assert not answer.unknown
    if boolean:
        assert boolean[0] in {name for condition in answer.conditions for name in condition.booleans}
    else:
        assert answer.allowed


@pytest.mark.parametrize("row", FACTS["dontaudited"], ids=" ".join)
def test_it_denies_in_silence(family: PolicyIndex, row: list[str]) -> None:
    source, target, tclass, permission = row
    answer = family.allowed(Access.of(source, target, tclass, permission))
    assert not answer.unknown
    assert answer.dontaudited


@pytest.mark.skipif(not base.REAL, reason="the stand-in is made on Debian's policy, which allows these")
@pytest.mark.parametrize("row", FACTS["denied"], ids=" ".join)
def test_it_does_not_allow(family: PolicyIndex, row: list[str]) -> None:
    source, target, tclass, permission = row
    answer = family.allowed(Access.of(source, target, tclass, permission))
    assert not answer.unknown
    assert not answer.allowed


def test_the_stand_in_gives_no_attribute_to_a_type_that_the_real_one_leaves_without() -> None:
    """What fedora.py adds to the attributes of program text is what the data names."""
    text = (Path(__file__).parent / "fedora.py").read_text(encoding="utf-8")
    with_exec = {name for name, attributes in FACTS["attributes"].items() if "exec_type" in attributes} - {"bin_t"}
    line = next(line for line in text.splitlines() if line.startswith("(typeattributeset exec_type ("))
    assert set(line.split("(")[-1].rstrip(")").split()) == with_exec
