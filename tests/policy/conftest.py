"""The distribution's policy, loaded once."""

from __future__ import annotations

import pytest

from sepolicyd.policy.index import Oracle
from tests.policy.toys import DISTRIBUTION


@pytest.fixture(scope="session")
def distribution() -> Oracle:
    if not DISTRIBUTION.exists():
        pytest.skip("the distribution's policy is not installed")
    return Oracle.load(DISTRIBUTION)
