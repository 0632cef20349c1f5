"""The distribution's policy and labels, loaded once."""

from __future__ import annotations

from pathlib import Path

import pytest

from sepolicyd.policy.index import Oracle
from sepolicyd.policy.labels import Labels, open_labels
from sepolicyd.settings import Settings

POLICY = Path("/etc/selinux/default/policy/policy.33")


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    if not POLICY.exists():
        pytest.skip("the distribution's policy is not installed")
    return Oracle.load(POLICY)


@pytest.fixture(scope="session")
def labels(oracle: Oracle) -> Labels:
    return open_labels(Settings(), oracle)
