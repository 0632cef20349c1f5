"""Size of files and functions, unique class names, and docstrings that start with what the code does."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.paths import ROOT

FILES = sorted((ROOT / "sepolicyd").rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40  # docstring not counted

# "Bytes in, records out." says nothing that the signature does not say
IN_OUT = re.compile(r"\bin\b[^.]*\bout\b", re.IGNORECASE)


# A summary that begins with a pronoun, and idioms that a second reading is needed for
RIDDLE = re.compile(r"^(It|They|Those of|Gather it|Collect them|Say)\b|another's hand|foreign hand|\baloud\b|\bin spite of\b")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _documented(tree: ast.Module) -> list[tuple[str, str]]:
    """(name, first line) of every docstring in a file."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node)
            if text:
                found.append((getattr(node, "name", "module"), text.split("\n")[0]))
    return found


def _lines(function: ast.FunctionDef) -> int:
    first = function.body[0]
    docstring = 0
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        docstring = (first.end_lineno or first.lineno) - first.lineno + 1
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_functions_are_short(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    long = {node.name: _lines(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not {name: lines for name, lines in long.items() if lines > MAX_FUNCTION_LINES}


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_docstrings_do_not_say_what_goes_in_and_out(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [(name, line) for name, line in _documented(tree) if IN_OUT.search(line)]


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_summaries_begin_with_their_subject_and_use_plain_words(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [(name, line) for name, line in _documented(tree) if RIDDLE.search(line)]


def test_no_class_name_exists_twice() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(_name(path))
    assert not {name: where for name, where in places.items() if len(where) > 1}
