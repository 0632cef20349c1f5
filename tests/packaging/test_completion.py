"""Completion, in the real shells: a beginning and the tab key, and the command that the shell then runs."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT

SECONDS = 60.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Completion scripts as the packages install them, and a `sepolicyd` that completes and otherwise shows its words."""
    directory = tmp_path_factory.mktemp("completion")
    env = {**os.environ, "PYTHON": sys.executable}
    words = ["sh", "packaging/completion/generate", str(directory)]
    subprocess.run(words, cwd=ROOT, env=env, check=True, capture_output=True)
    command = directory / "sepolicyd"
    command.write_text(
        f'#!/bin/sh\n[ "$_SEPOLICYD_COMPLETE" ] || {{ echo "ran: $*."; exit; }}\nexec {sys.executable} -I -m sepolicyd "$@"\n'
    )
    command.chmod(0o755)
    return directory


class Terminal:
    """An interactive shell on a terminal."""

    def __init__(self, place: Path, *words: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            env = {"PATH": f"{place}:/usr/bin:/bin", "TERM": "vt100", "HOME": str(place), "LC_ALL": "C.UTF-8"}
            os.execvpe(words[0], list(words), env)  # noqa: S606 a shell on a terminal is what is tested
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + SECONDS
        while text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} never came: {self.seen[-1000:]!r}"
            self.seen += os.read(self.fd, 4096).decode(errors="replace")

    def close(self) -> None:
        os.close(self.fd)
        os.waitpid(self.pid, 0)


@pytest.fixture(params=["bash", "zsh"])
def terminal(request: pytest.FixtureRequest, place: Path) -> Iterator[Terminal]:
    shell = str(request.param)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    shown = Terminal(place, *(["bash", "--norc", "-i"] if shell == "bash" else ["zsh", "-f", "-i"]))
    if shell == "zsh":  # as in fpath, where compinit finds it by its first line
        (place / "_sepolicyd").write_bytes((place / "sepolicyd.zsh").read_bytes())
        shown.type(f"fpath=({place} $fpath); autoload -U compinit; compinit -u -D; PS1='prom''pt> '\n")
    else:
        shown.type(f"source {place}/sepolicyd.bash; PS1='prom''pt> '\n")
    shown.wait_for("prompt> ")  # what is typed before the line editor runs is not completed
    yield shown
    shown.close()


@pytest.mark.parametrize(
    ("beginning", "rest", "command"),
    [
        ("sepolicyd doc", "tor ", "doctor"),
        ("sepolicyd doctor --base", "line ", "doctor --baseline"),
        ("sepolicyd doctor --check unconf", "ined-services ", "doctor --check unconfined-services"),
    ],
)
def test_the_tab_key_completes(terminal: Terminal, beginning: str, rest: str, command: str) -> None:
    terminal.type(f"{beginning}\t")
    terminal.wait_for(rest.strip())
    terminal.type("\n")
    terminal.wait_for(f"ran: {command}.")


@pytest.mark.parametrize(
    ("line", "words"), [("sepolicyd doc", "doctor"), ("sepolicyd learn st", "start"), ("sepolicyd doctor --ba", "--baseline")]
)
def test_fish(place: Path, line: str, words: str) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    script = f"source {place}/sepolicyd.fish; complete -C '{line}'"
    env = {"PATH": f"{place}:/usr/bin:/bin", "HOME": str(place), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["fish", "--no-config", "-c", script], env=env, capture_output=True, text=True, check=False)
    assert words in [shown.split("\t")[0] for shown in done.stdout.splitlines()], done.stdout + done.stderr
