"""The distribution's policy and labels, loaded once."""

from __future__ import annotations

from pathlib import Path

import pytest

from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import Labels, open_labels
from sepolicyd.settings import Settings

POLICY = Path("/etc/selinux/default/policy/policy.33")


@pytest.fixture(scope="session")
def policy_index() -> PolicyIndex:
    if not POLICY.exists():
        pytest.skip("the distribution's policy is not installed")
    return PolicyIndex.load(POLICY)


@pytest.fixture(scope="session")
def labels(policy_index: PolicyIndex) -> Labels:
    return open_labels(Settings(), policy_index)
