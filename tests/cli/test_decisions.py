"""The commands from evidence to stored decisions: list, show, approve, deny, reset, review."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Runner
from tests.rules.lines import line


def pending(sepolicyd: Runner) -> list[dict[str, Any]]:
    return list(json.loads(sepolicyd("list", "--json").out)["candidates"])


def first(sepolicyd: Runner, **wanted: object) -> dict[str, Any]:
    return next(one for one in pending(sepolicyd) if all(one[key] == value for key, value in wanted.items()))


def test_nothing_is_there_before_the_daemon_ran(sepolicyd: Runner) -> None:
    ran = sepolicyd("list")
    assert (ran.code, ran.out) == (0, "")
    assert "check that the daemon is running" in ran.err


def test_refused_come_first_and_cannot_be_approved(learned: Runner) -> None:
    levels = [one["level"] for one in pending(learned)]
    assert levels == sorted(levels, key=["refuse", "review", "note", "none"].index)
    for one in pending(learned):
        if one["level"] == "refuse":
            ran = learned("approve", one["id"], "--reason", "please")
            assert ran.code == 1
            assert "override" in ran.err
    assert not json.loads(learned("history", "--json").out)


def test_an_approval_covers_what_was_shown(learned: Runner) -> None:
    one = first(learned, level="none", approvable=True)
    assert learned("approve", f"{one['id']}@{one['revision']}").code == 0
    assert one["id"] not in {other["id"] for other in pending(learned)}
    shown = json.loads(learned("show", "--json", one["id"]).out)[0]
    assert [decision["answer"] for decision in shown["decisions"]] == ["allow"]
    assert learned("reset", one["id"]).code == 0
    assert one["id"] in {other["id"] for other in pending(learned)}


def test_another_revision_is_refused(learned: Runner) -> None:
    one = first(learned, level="none", approvable=True)
    ran = learned("approve", f"{one['id']}@0000")
    assert ran.code == 2
    assert "has changed" in ran.err


def test_a_second_look_wants_a_reason(learned: Runner) -> None:
    one = first(learned, level="review", approvable=True)
    assert learned("approve", one["id"]).code == 1
    assert learned("approve", one["id"], "--reason", "known and small").code == 0


def test_an_unknown_id(learned: Runner) -> None:
    ran = learned("deny", "zzzz")
    assert ran.code == 2
    assert "sepolicyd list" in ran.err


def test_review_stores_each_answer_and_undo_takes_one_back(learned: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pending(learned)
    monkeypatch.setattr("sys.stdin", io.StringIO("d\nno\nd\n\nu\n?\nq\n"))
    ran = learned("review")
    assert ran.code == 0
    assert len(pending(learned)) == len(before) - 1
    what = [entry["what"] for entry in json.loads(learned("history", "--json").out)]
    assert what == ["deny", "deny (undone)"]


def test_a_lost_terminal_loses_no_answer(learned: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pending(learned)
    monkeypatch.setattr("sys.stdin", io.StringIO("d\nno\n"))
    assert learned("review").code == 0
    assert len(pending(learned)) == len(before) - 1


def test_the_whole_is_verified(learned: Runner) -> None:
    assert learned("history", "--verify").code == 0


@pytest.mark.parametrize("code", ["R-003", "r-001"])
def test_a_code_is_explained_with_its_source(sepolicyd: Runner, code: str) -> None:
    ran = sepolicyd("explain", code)
    assert ran.code == 0
    assert "Source:" in ran.out


def test_an_unknown_code(sepolicyd: Runner) -> None:
    assert sepolicyd("explain", "X-999").code == 2


def test_an_approval_by_id_covers_what_was_shown_to_this_user_and_no_more(
    sepolicyd: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "grows.log"
    log.write_text(line("map", "jupyterhub_t", "usr_t", "file", pid=9, comm="jupyterhub", path="/usr/share/x") + "\n")
    assert sepolicyd("run", "--once", "--log", log).code == 0
    [one] = pending(sepolicyd)
    with log.open("a") as file:
        file.write(line("execute", "jupyterhub_t", "usr_t", "file", pid=9, comm="jupyterhub", path="/usr/share/x") + "\n")
    assert sepolicyd("run", "--once", "--log", log).code == 0
    ran = sepolicyd("approve", one["id"], "--reason", "seen")
    assert ran.code != 0
    assert not json.loads(sepolicyd("history", "--json").out)
    [two] = [other for other in pending(sepolicyd) if other["id"] == one["id"]]
    assert set(two["permissions"]) > set(one["permissions"]), "it grew in the same group"
    assert "has changed since it was shown" in ran.err and "execute" in ran.err
    monkeypatch.setenv("SUDO_USER", "mallory")
    ran = sepolicyd("dontaudit", one["id"])
    assert ran.code == 1 and "has not been shown to mallory yet" in ran.err
    assert "not been shown" not in sepolicyd("approve", f"{one['id']}@{two['revision']}", "--reason", "named").err
