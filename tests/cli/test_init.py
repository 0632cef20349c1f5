"""The `init` command: its plan, its questions, and manual steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from sepolicyd.module.store import Store, create_store
from sepolicyd.policy.index import PolicyIndex
from tests.cli.conftest import Runner
from tests.policies.jupyterhub.conftest import need_toolchain
from tests.services.jupyterhub.machines import put_hub

pytestmark = pytest.mark.toolchain
CONFIG = "c.JupyterHub.db_url = 'mysql://db/hub'\nc.JupyterHub.authenticator_class = 'oauthenticator.GitHubOAuthenticator'\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    need_toolchain()
    place = tmp_path / "root"
    create_store(place)
    put_hub(place, config=CONFIG)
    return place


def test_a_boolean_that_the_configuration_asks_for_is_switched_only_by_a_person(sepolicyd: Runner, root: Path) -> None:
    done = sepolicyd("init", "jupyterhub", "--root", root, "--yes", "--boolean", "jupyterhub_connect_db")
    assert done.code == 0, done.err
    for name in ("jupyterhub_connect_web", "jupyterhub_connect_db"):
        assert f"{name}, needed for: " in done.out
    assert "switched on: jupyterhub_connect_db" in done.out
    assert "setsebool -P jupyterhub_connect_web on" in done.err
    booleans = PolicyIndex.load(Store(root).policy()).booleans
    assert (booleans["jupyterhub_connect_db"], booleans["jupyterhub_connect_web"]) == (True, False)
    undone = sepolicyd("init", "jupyterhub", "--root", root, "--undo")
    assert "values forgotten: jupyterhub_connect_db" in undone.out


def test_a_boolean_of_another_module_is_refused_before_anything_is_changed(sepolicyd: Runner, root: Path) -> None:
    before = Store(root).policy().read_bytes()
    ran = sepolicyd("init", "jupyterhub", "--root", root, "--yes", "--boolean", "allow_ypbind")
    assert ran.code == 2
    assert "not a boolean of the module jupyterhub" in ran.err
    assert Store(root).policy().read_bytes() == before


def test_what_stops_it_is_told_and_nothing_is_asked(sepolicyd: Runner, root: Path) -> None:
    (root / "opt/jupyterhub/bin/jupyterhub-singleuser").unlink()
    (root / "opt/jupyterhub/bin/jupyter-labhub").unlink()
    ran = sepolicyd("init", "jupyterhub", "--root", root)
    assert ran.code == 1
    assert "STOP" in ran.out
    assert "I-singleuser" in ran.out
    assert "Do this?" not in ran.err
