"""sepolicyd-scan: exit codes of the shell and of OpenSCAP's script engine, with the real command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

SCRIPT = ROOT / "packaging/sepolicyd-scan"
ENGINE = {"PASS": "101", "FAIL": "102", "ERROR": "103", "UNKNOWN": "104"}


def scan(
    tmp_path: Path, *checks: str, engine: bool = False, command: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the script with a PATH of its own, whose `sepolicyd` is this tree's or a command that only ends."""
    real = f'cd {ROOT} && exec {sys.executable} -m sepolicyd "$@" --state {tmp_path}/state'
    (tmp_path / "sepolicyd").write_text(f"#!/bin/sh\n{command or real}\n")
    (tmp_path / "sepolicyd").chmod(0o755)
    script = tmp_path / "scan"
    text = SCRIPT.read_text(encoding="utf-8")
    assert "\nPATH=/usr/sbin:" in text
    script.write_text(text.replace("\nPATH=", f"\nPATH={tmp_path}:"), encoding="utf-8")
    codes = {f"XCCDF_RESULT_{name}": code for name, code in ENGINE.items()} if engine else {}
    env = {"PATH": os.environ["PATH"], **codes, **more}
    return subprocess.run(["sh", str(script), *checks], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("code", "shell", "engine"), [(0, 0, 101), (1, 1, 102), (2, 2, 103), (3, 3, 104), (139, 2, 103)])
def test_exit_codes(tmp_path: Path, code: int, shell: int, engine: int) -> None:
    assert scan(tmp_path, command=f"exit {code}").returncode == shell
    assert scan(tmp_path, command=f"exit {code}", engine=True).returncode == engine


def test_the_real_command_answers(tmp_path: Path) -> None:
    done = scan(tmp_path, "auditd", "enforcing")
    assert done.returncode in (0, 1, 3), done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [line.split()[1] for line in lines] == ["enforcing:", "auditd:"]


def test_the_engine_names_the_check_by_a_value(tmp_path: Path) -> None:
    done = scan(tmp_path, engine=True, XCCDF_VALUE_sepolicyd_check="auditd")
    assert done.returncode in (101, 102, 104), done.stderr
    assert "enforcing:" not in done.stdout


@pytest.mark.parametrize("name", ["-x", "--root", "a;b", "a b", "$(x)", "", "AUDITD"])
def test_only_names_of_checks_reach_the_command(tmp_path: Path, name: str) -> None:
    done = scan(tmp_path, name, command="echo reached; exit 0")
    assert (done.returncode, done.stdout) == (2, "")
    assert scan(tmp_path, name, command="echo reached; exit 0", engine=True).returncode == 103


def test_an_unknown_check_is_an_error_and_no_pass(tmp_path: Path) -> None:
    assert scan(tmp_path, "nonsense").returncode == 2
