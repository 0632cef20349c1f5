"""The direction of imports between rooms, who may import which foreign library, and the size of files."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator

import pytest

from tests.paths import ROOT

PACKAGE = ROOT / "sepolicyd"
MAX_LINES = 420

# room -> the rooms it may import (design.md, "Direction of imports")
BASE = {"errors", "access", "process", "settings", "__init__"}
ALLOWED = {
    "errors": set(),
    "access": set(),
    "process": {"errors"},
    "document": {"errors", "access"},
    "settings": {"errors", "process"},
    "__init__": set(),
    "audit": {"errors", "access"},
    "policy": {"errors", "access", "process", "settings", "audit"},
    "rules": {"errors", "access", "audit", "document", "policy", "profiles", "settings"},
    "profiles": {"errors", "settings", "access", "document"},
    "module": {"errors", "access", "process", "settings", "policy", "profiles", "rules"},
    "state": {"errors", "access", "audit", "rules", "settings"},
    "rollout": BASE | {"audit", "policy", "rules", "module", "profiles", "state"},
    "daemon": BASE | {"audit", "policy", "rules", "rollout", "profiles", "state"},
    "cli": BASE | {"audit", "policy", "rules", "module", "rollout", "profiles", "state", "daemon"},
    "__main__": {"cli"},
}

# foreign library -> files that may import it
FOREIGN = {
    "setools": {"policy/oracle.py", "policy/setools_view.py"},
    "selinux": {"policy/labels.py", "policy/why.py"},
    "watchdog": {"audit/follow.py", "audit/doorbell.py"},
    "structlog": {"daemon.py", "cli/main.py", "cli/run.py", "rollout/endlease.py"},
    "click": {"cli"},
    "yaml": {"settings.py", "document.py", "rollout", "cli"},
    "subprocess": {"process.py"},
}


def _files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "sepolicyd":
                yield from (f"sepolicyd.{alias.name}" for alias in node.names)
            else:
                yield node.module


def _room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first[:-3] if first.endswith(".py") else first


def _relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", _files(), ids=_relative)
def test_a_room_imports_only_the_rooms_below_it(path: Path) -> None:
    room = _room(path)
    wrong = []
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] != "sepolicyd" or len(parts) < 2 or parts[1].startswith("__"):
            continue
        if parts[1] != room and parts[1] not in ALLOWED[room]:
            wrong.append(name)
    assert not wrong, f"{room} may not import {wrong}"


@pytest.mark.parametrize("path", _files(), ids=_relative)
def test_foreign_libraries_have_one_place(path: Path) -> None:
    relative = _relative(path)
    for name in _imports(path):
        places = FOREIGN.get(name.split(".")[0])
        if places is not None:
            assert any(relative == place or relative.startswith(place + "/") for place in places), (
                f"{relative} imports {name}; only {sorted(places)} may"
            )


@pytest.mark.parametrize("path", _files(), ids=_relative)
def test_files_stay_small_enough_to_hold_in_the_head(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines: cut it where its sentence needs an «and»"


@pytest.mark.parametrize("path", _files(), ids=_relative)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if tree.body:
        assert ast.get_docstring(tree), "the module docstring is missing"


@pytest.mark.parametrize("path", _files(), ids=_relative)
def test_nothing_but_the_end_of_the_command_line_exits(path: Path) -> None:
    # audit/halves.py: the child of a fork must leave by _exit, for buffers and exit handlers are its parent's
    if _relative(path) in {"__main__.py", "rollout/endlease.py", "audit/halves.py"}:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert not (
                node.func.attr in {"exit", "_exit"}
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in {"sys", "os"}
            ), f"line {node.lineno} exits"
