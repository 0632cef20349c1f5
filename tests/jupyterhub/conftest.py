"""A machine with a hub on which init has been run, once for all tests that only look at the result."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from sepolicyd import profiles
from sepolicyd.module.store import Store, create_store
from sepolicyd.policy.oracle import Oracle
from sepolicyd.profiles import Profile
from sepolicyd.rollout import init_build
from sepolicyd.rollout.init import InitDone, InitPlan, plan_init, run_init
from sepolicyd.settings import SOURCE_TREE, Settings
from tests.jupyterhub import fedora
from tests.jupyterhub.machines import put, put_hub

POLICIES = SOURCE_TREE / "policies"


class Inited(NamedTuple):
    settings: Settings
    plan: InitPlan
    done: InitDone


@pytest.fixture(scope="session")
def profile() -> Profile:
    return profiles.load("jupyterhub", [POLICIES])


def need_toolchain() -> None:
    if not Path("/var/lib/selinux/default/active/modules").is_dir() or init_build.headers_here() is None:
        pytest.skip("needs the distribution's policy and its headers")


@pytest.fixture(scope="session")
def inited(tmp_path_factory: pytest.TempPathFactory, profile: Profile) -> Inited:
    need_toolchain()
    root = tmp_path_factory.mktemp("inited")
    create_store(root)
    put_hub(root, config="c = get_config()\nc.JupyterHub.ssl_key = '/etc/jupyterhub/keys/hub.key'\n")
    put(root, "/srv/jupyterhub/jupyterhub.sqlite")
    put(root, "/etc/jupyterhub/keys/hub.key", mode=0o600)
    settings = Settings(root=root, state=root / "state")
    plan = plan_init(settings, profile)
    return Inited(settings, plan, run_init(settings, profile, plan))


@pytest.fixture(scope="session")
def policy(inited: Inited) -> Oracle:
    """The kernel policy after init."""
    return Oracle.load(Store(inited.settings.root).policy())


@pytest.fixture(scope="session")
def fedora_policy(tmp_path_factory: pytest.TempPathFactory, profile: Profile) -> Oracle:
    """The base module built with headers as Fedora's differ, linked where Fedora's types are."""
    need_toolchain()
    place = tmp_path_factory.mktemp("fedora")
    headers = fedora.make_headers(place / "devel")
    package = init_build.build_base(profile, (), place, headers=headers)
    store = create_store(place / "root")
    types = put(place, "fedora_types.cil", fedora.TYPES_CIL)
    store.install([types, package], 360)
    return Oracle.load(store.policy())
