"""An sdist builds, and what is installed from it in an environment of its own finds its policies and carries the units."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.paths import ROOT

SYSTEM_PYTHON = "/usr/bin/python3"
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"

pytestmark = pytest.mark.slow


def run(*words: str, cwd: Path) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SEPOLICYD", "VIRTUAL_ENV"))}
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what is tracked, so that nothing of this checkout helps."""
    tree = tmp_path_factory.mktemp("tree") / "sepolicyd"
    listed = subprocess.run(["git", "ls-files", "-z", "--cached"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    run(sys.executable, "-c", BUILD, str(tree), cwd=tree)
    return next(tree.glob("*.tar.gz"))


def test_it_has_what_a_packager_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert not {"Makefile", "LICENSE", "tools/manpages.py", "docs/install.md", "systemd/sepolicyd.service"} - names
    assert not {"packaging/debian/rules", "packaging/rpm/sepolicyd.spec", "packaging/sepolicyd-scan"} - names
    assert "policies/jupyterhub/jupyterhub.te" in names
    assert not [name for name in names if name.startswith(("root/", "state/", "build/", ".venv"))]


@pytest.mark.skipif(not Path(SYSTEM_PYTHON).exists(), reason="no interpreter of the distribution")
def test_what_is_installed_from_it_works(sdist: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", str(environment), cwd=tmp_path)
    python = environment / "bin/python"
    # the packages of the environment that runs this test, by a path file: nothing is fetched
    site = Path(run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    others = [path for path in sys.path if path.endswith("site-packages") and not path.startswith(str(ROOT / "sepolicyd"))]
    (site / "others.pth").write_text("\n".join(others) + "\n")
    run(
        str(python),
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--ignore-installed",
        str(sdist),
        cwd=tmp_path,
    )
    command = str(environment / "bin/sepolicyd")
    where = run(str(python), "-I", "-c", "import sepolicyd; print(sepolicyd.__file__)", cwd=tmp_path)
    assert where.startswith(str(environment)), where
    assert "version" in run(command, "--version", cwd=tmp_path)
    assert "R-003" in run(command, "explain", "R-003", cwd=tmp_path)
    assert (environment / "share/sepolicyd/systemd/sepolicyd-boot.service").is_file()
    assert (environment / "share/sepolicyd/policies/schema/doctor.schema.json").is_file()
    log = tmp_path / "audit.log"
    log.write_text(
        'type=AVC msg=audit(1795377192.920:241): avc:  denied  { read } for  pid=465 comm="jupyterhub" name="shadow" '
        "scontext=system_u:system_r:jupyterhub_t:s0 tcontext=system_u:object_r:shadow_t:s0 tclass=file permissive=1\n"
    )
    done = subprocess.run([command, "analyze", str(log)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "shadow_t" in done.stdout, done.stderr
