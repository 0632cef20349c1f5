"""Settings for all tests: hypothesis deadlines are disabled because the machine may be busy."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from tests.policies import base

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Stop before the first test where SEPOLICYD_POLICY_ROOT names a directory that cannot serve as a base policy."""
    if not base.REAL:
        return
    with tempfile.TemporaryDirectory(prefix="sepolicyd-tests-") as place:
        reason = base.why_unusable(base.ROOT, Path(place) / "store")
    if reason:
        pytest.exit(reason, returncode=4)


def pytest_report_header() -> list[str]:
    """Say which base policy the tests run on, and what is customised in it."""
    if not base.REAL:
        return []
    told = base.customisations(base.ROOT) if (base.ROOT / "var/lib/selinux").is_dir() else ""
    return [f"base policy: {base.ROOT}", *([told] if told else [])]
