"""The `explain` command knows every code that other commands print."""

from __future__ import annotations

import re

import pytest

from sepolicyd.cli.main import run_cli
from tests.paths import ROOT

LITERAL = re.compile(r"""["']((?:[DIT]-[A-Za-z]{3,}))["']""")


def explained(capsys: pytest.CaptureFixture[str], *codes: str) -> str:
    assert run_cli(["explain", *codes]) == 0
    return capsys.readouterr().out


def test_a_code_of_each_kind(capsys: pytest.CaptureFixture[str]) -> None:
    said = explained(capsys, "D-AUDITD", "i-port", "T-SWITCH", "R-003")
    for words in ("D-AUDITD: Without auditd", "I-port: A port", "T-SWITCH: Another program", "R-003"):
        assert words in said
    assert said.count("Source: ") == 4


def test_every_code_in_the_source_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    used = {code for path in (ROOT / "sepolicyd").rglob("*.py") for code in LITERAL.findall(path.read_text(encoding="utf-8"))}
    assert {"D-AUDITD", "I-port", "T-LOST"} <= used
    said = explained(capsys)
    assert sorted(code for code in used if f"\n{code}: " not in said) == []


def test_an_unknown_code_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["explain", "D-NONE"]) == 2
    assert "unknown code D-NONE" in capsys.readouterr().err
