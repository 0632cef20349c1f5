"""Logs that were written under the present policy, and logs written under another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sepolicyd.access import Access
from sepolicyd.audit.model import Context
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.log_origin import LoggedDenial, log_origin
from tests.policy.toys import compile_cil, needs_secilc, types

pytestmark = [pytest.mark.toolchain, needs_secilc]

BODY = (
    types("app_t", "data_t")
    + "(typealias old_t)(typealiasactual old_t app_t)"
    + "(allow app_t data_t (file (read write)))(mlsconstrain (file (write)) (dom h1 h2))"
)


@pytest.fixture
def policy_index(tmp_path: Path) -> PolicyIndex:
    return PolicyIndex.load(compile_cil(BODY, tmp_path / "policy"))


def denial(source: str, target: str, permission: str, *, enforced: bool = True, level: str = "s0") -> LoggedDenial:
    contexts = Context.parse(f"u:r:{source}:s0"), Context.parse(f"u:r:{target}:{level}")
    return LoggedDenial(Access.of(source, target, "file", permission), *contexts, enforced)


def test_its_own_log(policy_index: PolicyIndex) -> None:
    denials = [
        denial("app_t", "data_t", "execute"),
        denial("app_t", "data_t", "read", enforced=False),  # permissive: logged although allowed by now
        denial("app_t", "data_t", "write", level="s0:c1"),  # a rule is there, a constraint denies
        denial("old_t", "data_t", "open"),  # an alias is a known name
    ]
    found = log_origin(policy_index, denials)
    assert (found.unknown_share, found.allowed_share) == (0.0, 0.0)
    assert len(found.enforced) == 3


def test_another_machines_log(policy_index: PolicyIndex) -> None:
    denials = [denial("app_t", "data_t", "read"), denial("app_t", "data_t", "open"), denial("container_t", "fedora_t", "read")]
    found = log_origin(policy_index, denials)
    assert found.unknown_types == {"container_t", "fedora_t"}
    assert found.unknown_share == 0.5
    assert found.allowed == {Access("app_t", "data_t", "file", "read")}
    assert found.allowed_share == pytest.approx(1 / 3)


def test_a_profiles_own_types_say_nothing(policy_index: PolicyIndex) -> None:
    found = log_origin(policy_index, [denial("hub_t", "data_t", "read"), denial("app_t", "hub_t", "read")], ignore=["hub_t"])
    assert (found.types, found.unknown_types, found.enforced) == (frozenset(("data_t", "app_t")), frozenset(), frozenset())


def test_the_same_access_denied_in_one_context_is_not_allowed(policy_index: PolicyIndex) -> None:
    denials = [denial("app_t", "data_t", "write"), denial("app_t", "data_t", "write", level="s0:c1")]
    assert log_origin(policy_index, denials).allowed == frozenset()


def test_an_empty_log(policy_index: PolicyIndex) -> None:
    found = log_origin(policy_index, [])
    assert (found.unknown_share, found.allowed_share) == (0.0, 0.0)
