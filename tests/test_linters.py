"""ruff, mypy and shellcheck as tests; a missing linter is a failure, because make setup installs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

SHELL_SCRIPTS = [
    *sorted((ROOT / ".ci").iterdir()),
    *sorted((ROOT / "tests").rglob("*.sh")),
    *(ROOT / "systemd" / name for name in ("activate", "own-policy")),
    *sorted(
        path
        for path in (ROOT / "packaging").rglob("*")
        if path.is_file() and path.name != "rules" and path.read_bytes().startswith(b"#!/")
    ),
]


def _run(*argv: str) -> None:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff() -> None:
    _run(sys.executable, "-m", "ruff", "check", "sepolicyd", "tests", "benchmarks", "tools")


def test_ruff_format() -> None:
    _run(sys.executable, "-m", "ruff", "format", "--check", "sepolicyd", "tests", "benchmarks", "tools")


def test_mypy() -> None:
    _run(sys.executable, "-m", "mypy")


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_shellcheck(script: Path) -> None:
    _run("shellcheck", str(script))


def test_nothing_names_a_python_newer_than_the_floor() -> None:
    """compileall with the oldest interpreter that is here; the floor itself (3.9) where it is."""
    candidates = sorted(Path.home().glob(".pyenv/versions/3.9.*/bin/python"))
    python = str(candidates[0]) if candidates else sys.executable
    parse = "import ast, sys; [ast.parse(open(p).read(), p, feature_version=(3, 9)) for p in sys.argv[1:]]"
    _run(python, "-c", parse, *(str(path) for path in (ROOT / "sepolicyd").rglob("*.py")))
