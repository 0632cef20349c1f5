"""A machine with an initialized broker, built once for all read-only tests."""

from __future__ import annotations

import pytest

from sepolicyd import profiles
from sepolicyd.module.store import Store, create_store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.profiles import Profile
from sepolicyd.rollout.setup.install import run_init
from sepolicyd.rollout.setup.plan import plan_init
from sepolicyd.settings import Settings
from tests.paths import POLICIES
from tests.policies import base
from tests.policies.jupyterhub.conftest import Inited, need_toolchain
from tests.services.mosquitto.machines import put_broker, shipped


@pytest.fixture(scope="session")
def profile() -> Profile:
    return profiles.load("mosquitto", [POLICIES])


@pytest.fixture(scope="session")
def inited(tmp_path_factory: pytest.TempPathFactory, profile: Profile) -> Inited:
    need_toolchain()
    root = tmp_path_factory.mktemp("broker")
    create_store(root, base.ROOT)
    put_broker(root, shipped("traced.conf"))
    where = Settings(root=root, state=root / "state")
    plan = plan_init(where, profile)
    return Inited(where, plan, run_init(where, profile, plan, ["mosquitto_connect_brokers"]))


@pytest.fixture(scope="session")
def policy(inited: Inited) -> PolicyIndex:
    """The kernel policy after init, on Debian's base policy or the one that SEPOLICYD_POLICY_ROOT names."""
    return PolicyIndex.load(Store(inited.settings.root).policy())
