"""Stores for the tests of apply, built once and copied for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rollout.apply.world import World, world


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def machine(pristine: World, tmp_path: Path) -> World:
    return pristine.again(tmp_path)
