"""Fixtures that run the command line in this process, with separate stdout and stderr."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

import pytest
import structlog

from sepolicyd.cli.main import run_cli
from tests.paths import DATA as DATA_ROOT

DATA = DATA_ROOT / "jupyterhub"


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Runner = Callable[..., Ran]


@pytest.fixture
def sepolicyd(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Runner]:
    """Run one command with a state directory of its own."""
    monkeypatch.setenv("SEPOLICYD_STATE", str(tmp_path / "state"))

    def run(*argv: object) -> Ran:
        capsys.readouterr()
        code = run_cli([str(word) for word in argv])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    mask = os.umask(0o022)
    os.umask(mask)
    yield run
    os.umask(mask)  # `run` sets its own for the whole process
    structlog.reset_defaults()  # `run` has bound its logger to this test's stderr, which is closed now


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Hub and user code in two domains, a whole class (a captured log)."""
    path = tmp_path / "audit.log"
    path.write_bytes(gzip.decompress(next(DATA.glob("04-*")).read_bytes()))
    return path


@pytest.fixture
def learned(sepolicyd: Runner, log: Path) -> Runner:
    """The same, after the daemon has read that log."""
    assert sepolicyd("run", "--once", "--log", log).code == 0
    return sepolicyd


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the distribution's policy with JupyterHub's domains in it."""
    from sepolicyd import profiles, settings
    from sepolicyd.module.build import workdir
    from sepolicyd.module.store import create_store
    from sepolicyd.rollout.apply.session_draft import base_package
    from sepolicyd.rollout.session import Session

    root = tmp_path_factory.mktemp("store") / "root"
    configured = settings.load(root=root)
    session = Session(configured, profiles.load("jupyterhub", configured.policy_dirs))
    store = create_store(root)
    with workdir("test") as place:
        store.install([base_package(session, place)], configured.priority)
    return root
