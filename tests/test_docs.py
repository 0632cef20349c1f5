"""Documentation of the command line: help texts, examples, options, man pages and links."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from sepolicyd.cli.help_page import COMMANDS
from sepolicyd.settings import KEYS
from tests.paths import ROOT
from tools.manpages import pages, tree

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
TREE = tree()
LEAVES = [(path, command, ctx) for path, command, ctx in TREE if not isinstance(command, click.Group)]


def _name(value: object) -> str:
    return "-".join(value) if isinstance(value, tuple) and value and isinstance(value[0], str) else ""


@pytest.mark.parametrize(("path", "command", "ctx"), TREE, ids=_name)
def test_every_command_says_what_it_does(path: tuple[str, ...], command: click.Command, ctx: click.Context) -> None:
    first = inspect.cleandoc(command.help or "").split("\n\n")[0]
    assert first.endswith("."), path
    assert first[0].isupper()


@pytest.mark.parametrize(("path", "command", "ctx"), LEAVES, ids=_name)
def test_every_command_has_one_example_that_names_it(path: tuple[str, ...], command: click.Command, ctx: click.Context) -> None:
    assert f"sepolicyd {' '.join(path)}" in (command.help or "").partition("Example:")[2], path


@pytest.mark.parametrize(("path", "command", "ctx"), TREE, ids=_name)
def test_every_option_is_explained(path: tuple[str, ...], command: click.Command, ctx: click.Context) -> None:
    for param in command.get_params(ctx):
        if isinstance(param, click.Option):
            assert param.help, f"{path}: {param.name}"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_short_help_of_the_group_is_the_command_s_own(name: str) -> None:
    command = next(command for path, command, _ in TREE if path == (name,))
    assert command.get_short_help_str(200) == COMMANDS[name][1]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_readme_names_every_command(name: str) -> None:
    assert f"`{name}" in README or f"sepolicyd {name}" in README


@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_configuration_key_is_documented(key: str) -> None:
    assert f"`{key}`" in CONFIGURATION


@pytest.mark.skipif(shutil.which("man") is None, reason="man-db is not installed")
@pytest.mark.parametrize("name", sorted(pages()))
def test_man_pages_render(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(pages()[name], encoding="utf-8")
    done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert not done.stderr.strip(), done.stderr
    assert "EXIT STATUS" in done.stdout


NAMED = re.compile(r"`([a-z_]+(?:/[a-z_]+)*(?:/|\.py))`")


def test_the_architecture_names_files_and_directories_that_exist() -> None:
    named = set(NAMED.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")))
    assert len(named) > 30
    assert not [name for name in sorted(named) if not (ROOT / name).exists() and not any((ROOT / "sepolicyd").rglob(name))]


LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]), ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    broken = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / target).exists()]
    assert not broken


NAMED_FILE = re.compile(r"`((?:sepolicyd|tests|policies|tools|benchmarks|systemd)/[\w./-]+)`")


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md", "README.md"])
def test_files_named_in_the_documents_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    missing = [name for name in NAMED_FILE.findall(text) if "NAME" not in name and not (ROOT / name).exists()]
    assert not missing
