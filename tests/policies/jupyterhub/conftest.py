"""A machine with an initialized hub, built once for all read-only tests."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from sepolicyd import profiles, settings
from sepolicyd.module import base_module
from sepolicyd.module.store import Store, create_store
from sepolicyd.policy import delta
from sepolicyd.policy.delta import Delta
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.profiles import Profile
from sepolicyd.rollout.setup.install import InitDone, run_init
from sepolicyd.rollout.setup.plan import InitPlan, plan_init
from sepolicyd.settings import Settings
from tests.paths import POLICIES
from tests.policies import base
from tests.policies.jupyterhub import fedora
from tests.services.jupyterhub.machines import put, put_hub


class Inited(NamedTuple):
    settings: Settings
    plan: InitPlan
    done: InitDone


@pytest.fixture(scope="session")
def profile() -> Profile:
    return profiles.load("jupyterhub", [POLICIES])


def need_toolchain() -> None:
    if not (Store(base.ROOT).active / "modules").is_dir() or base_module.headers_here(base.ROOT / settings.HEADERS) is None:
        pytest.skip("needs the distribution's policy and its headers")


@pytest.fixture(scope="session")
def inited(tmp_path_factory: pytest.TempPathFactory, profile: Profile) -> Inited:
    need_toolchain()
    root = tmp_path_factory.mktemp("inited")
    create_store(root, base.ROOT)
    put_hub(root, config="c = get_config()\nc.JupyterHub.ssl_key = '/etc/jupyterhub/keys/hub.key'\n")
    put(root, "/srv/jupyterhub/jupyterhub.sqlite")
    put(root, "/etc/jupyterhub/keys/hub.key", mode=0o600)
    where = Settings(root=root, state=root / "state")
    plan = plan_init(where, profile)
    return Inited(where, plan, run_init(where, profile, plan))


@pytest.fixture(scope="session")
def policy(inited: Inited) -> PolicyIndex:
    """The kernel policy after init."""
    return PolicyIndex.load(Store(inited.settings.root).policy())


@pytest.fixture(scope="session")
def fedora_package(tmp_path_factory: pytest.TempPathFactory, profile: Profile) -> Path:
    """The base module built with headers as Fedora's differ."""
    need_toolchain()
    place = tmp_path_factory.mktemp("fedora")
    return base_module.build_base(profile, (), place, headers=fedora.make_headers(place / "devel"))


@pytest.fixture(scope="session")
def limits(tmp_path_factory: pytest.TempPathFactory, profile: Profile) -> Path:
    """The constraints on the students' domain."""
    found = base_module.limits_of(profile, "jupyterhub", tmp_path_factory.mktemp("limits"))
    assert found is not None
    return found


@pytest.fixture(scope="session")
def fedora_names(tmp_path_factory: pytest.TempPathFactory, fedora_package: Path) -> PolicyIndex:
    """Fedora's names, and only they."""
    place = tmp_path_factory.mktemp("fedora_names")
    store = create_store(place)
    store.install([put(place, "fedora_base.cil", fedora.NAMES_CIL), fedora_package], 360)
    return PolicyIndex.load(store.policy())


@pytest.fixture(scope="session")
def fedora_delta(tmp_path_factory: pytest.TempPathFactory, fedora_package: Path, limits: Path) -> Delta:
    """What the module brings to Fedora's names and the rules that it has for every domain, application and daemon.

    Neverallow is checked as it links, which no policy's own semanage.conf asks for.
    """
    place = tmp_path_factory.mktemp("fedora_policy")
    store = create_store(place)
    store.install([put(place, "fedora_base.cil", fedora.NAMES_CIL + fedora.RULES)], 200)
    shutil.copy(store.policy(), place / "before")
    config = store.etc / "semanage.conf"
    text = config.read_text(encoding="utf-8")
    assert "expand-check=0" in text
    config.write_text(text.replace("expand-check=0", "expand-check=1"), encoding="utf-8")
    store.install([fedora_package, limits], 360)
    return delta.difference(place / "before", store.policy())


@pytest.fixture(scope="session")
def fedora_policy(fedora_delta: Delta) -> PolicyIndex:
    return fedora_delta.after


@pytest.fixture(scope="session", params=["named"] if base.REAL else ["debian", "fedora"])
def either(request: pytest.FixtureRequest) -> PolicyIndex:
    """The kernel policy of both families, or of the root that SEPOLICYD_POLICY_ROOT names."""
    found: PolicyIndex = request.getfixturevalue("fedora_policy" if request.param == "fedora" else "policy")
    return found
