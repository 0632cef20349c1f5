"""The distribution's policy, loaded once."""

from __future__ import annotations

import pytest

from sepolicyd.policy.index import PolicyIndex
from tests.policy.toys import DISTRIBUTION


@pytest.fixture(scope="session")
def distribution() -> PolicyIndex:
    if not DISTRIBUTION.exists():
        pytest.skip("the distribution's policy is not installed")
    return PolicyIndex.load(DISTRIBUTION)
