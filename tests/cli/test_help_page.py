"""The program's help page, made without click, is click's own; and it does not import click."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from sepolicyd.cli.help_page import help_page, terminal_columns
from sepolicyd.cli.main import cli


@pytest.mark.parametrize("columns", [20, 51, 60, 72, 80, 99, 110, 111, 200])
def test_it_is_what_click_prints(columns: int) -> None:
    context = click.Context(cli, info_name="sepolicyd", terminal_width=max(min(columns, 110) - 2, 50), max_content_width=110)
    context.help_option_names = ["-h", "--help"]
    assert help_page(columns) == cli.get_help(context) + "\n"


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_the_program_prints_it(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "91")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sepolicyd", word], capture_output=True, text=True, check=True
    )
    assert done.stdout == help_page(91)
    assert "click" not in done.stderr


def test_a_width_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "wide")
    assert terminal_columns() > 0


def test_a_reader_that_has_gone() -> None:
    command = f"{sys.executable} -m sepolicyd --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
