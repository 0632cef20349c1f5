"""Size of files and functions, unique class names, and plain English in docstrings, comments, messages and data files."""

from __future__ import annotations

import ast
import re
import tokenize
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from tests.paths import ROOT

FILES = sorted((ROOT / "sepolicyd").rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40  # docstring not counted

# "Bytes in, records out." says nothing that the signature does not say
IN_OUT = re.compile(r"\bin\b[^.]*\bout\b", re.IGNORECASE)


# A module docstring begins with a noun or an imperative, not with a question word or a pronoun
QUESTION = re.compile(
    r"^(What|How|Why|Who|Whose|Whether|Which|Where|When|Everything|All that|It|They|Those|This|These|None|Say)\b"
)
# The summary of a function begins with a verb in the imperative
NOUN = re.compile(
    r"^(The|A|An|All|As|Any|Both|Each|Every|Everything|For|From|If|In|It|None|Number|One|Only|Say|Some|That|Their|They|This|Those|True|"
    r"False|To|What|When|Where|Whether|Which|Who|Whose|Why|How|Names|Returns|Tells|Gives|Yields|Takes|Reads|Writes|Checks|Makes)\b"
)
# Idioms that need a second reading; standard words exist for all of them. "there is no X" is plain, "it is no X" is not.
RIDDLE = re.compile(
    r"\b(of ours|another's hand|foreign hand|by another hand|all the same|as it stands|as they stand|nobody|told|aloud|shouts?|"
    r"in spite of|whoever|riddles?|mended|stands? twice|learnt|(?<!there )(is|are) no (?!longer\b|more\b)[a-z]+)\b",
    re.IGNORECASE,
)
TEXTS = sorted(
    path
    for folder, patterns in {
        "policies": ("*.yaml", "*.in", "*.te", "*.if"),
        "systemd": ("*.service", "*.timer", "*.catalog"),
    }.items()
    for pattern in patterns
    for path in (ROOT / folder).rglob(pattern)
)
SCRIPTS = sorted(path for folder in ("tests", "benchmarks", "tools") for path in (ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _is_property(function: ast.FunctionDef) -> bool:
    names = [ast.unparse(one) for one in function.decorator_list]
    return any("property" in name or name.endswith(".setter") for name in names)


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


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=_name)
def test_module_docstrings_begin_with_a_noun_or_an_imperative(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert not QUESTION.search(text)


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_summaries_of_functions_are_imperative(path: Path) -> None:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("__") and not _is_property(node):
            summary = (ast.get_docstring(node) or "").split("\n")[0]
            if NOUN.search(summary):
                found.append((node.name, summary))
    assert not found


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_texts_use_plain_words(path: Path) -> None:
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type in (tokenize.COMMENT, tokenize.STRING)]
    assert not [(token.start[0], found[0]) for token in tokens for found in RIDDLE.finditer(token.string)]


@pytest.mark.parametrize("path", TEXTS, ids=_name)
def test_policy_files_and_units_use_plain_words(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not [(text.count("\n", 0, found.start()) + 1, found[0]) for found in RIDDLE.finditer(text)]


def test_reasons_of_the_guard_are_sentences() -> None:
    rules = yaml.safe_load((ROOT / "policies" / "guard.yaml").read_text(encoding="utf-8"))["rules"]
    assert not [rule["code"] for rule in rules if rule["title"].endswith(".")]
    assert not [rule["code"] for rule in rules if not rule["reason"].rstrip().endswith(".")]


def test_no_class_name_exists_twice() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(_name(path))
    assert not {name: where for name, where in places.items() if len(where) > 1}
