"""The `history` command shows leases, and --verify detects a modified line in either chain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sepolicyd.rollout.clock import Moment
from sepolicyd.rollout.history import Entry, History, HistoryEvent
from sepolicyd.rollout.lease.lease_records import LeaseBook, LeaseEvent
from tests.cli.conftest import Runner

OPENED = {"id": "ab", "profile": "jupyterhub", "domains": ["jupyterhub_t"], "hidden": True, "deadline_wall": 8.2e3, "by": "me"}


def at(wall: float) -> Moment:
    return Moment(wall, 5.0, "boot")


@pytest.fixture
def rollout(tmp_path: Path) -> Path:
    directory = tmp_path / "state" / "rollout"
    book = LeaseBook(directory)
    book.record(LeaseEvent.PLANNED, at(1000.0), **OPENED)
    book.record(LeaseEvent.OPENED, at(1040.0), **OPENED)
    book.record(LeaseEvent.MARKED, at(1100.0), id="ab", profile="jupyterhub", name="log in", by="ada")
    book.record(LeaseEvent.RENEWED, at(1200.0), **{**OPENED, "deadline_wall": 9000.0})
    book.record(
        LeaseEvent.END_FAILED, at(9001.0), id="ab", profile="jupyterhub", why="deadline", closed=False, errors=["no semodule"]
    )
    book.record(LeaseEvent.ENDED, at(9060.0), id="ab", profile="jupyterhub", why="deadline", closed=True, errors=[])
    History(directory).add(Entry(HistoryEvent.APPLY, "ada", 9100.0, "sepolicyd_jupyterhub", 1, "op"))
    return directory


def test_a_lease_is_told_from_its_beginning_to_its_end(sepolicyd: Runner, rollout: Path) -> None:
    told = json.loads(sepolicyd("history", "--json").out)
    assert [one["what"] for one in told] == [
        *("lease planned", "lease opened", "lease marked", "lease renewed", "lease end failed", "lease ended", "apply"),
    ]
    assert [one["who"] for one in told][:4] == ["me", "me", "ada", "me"]
    texts = [one["text"] for one in told]
    assert texts[1].startswith("jupyterhub_t, hidden denials logged, until 1970-01-01")
    assert texts[2] == "log in"
    assert texts[4] == "deadline; NOT ENFORCING; no semodule"
    assert texts[5] == "deadline; the kernel enforces"


def test_both_chains_are_verified_by_one_command(sepolicyd: Runner, rollout: Path) -> None:
    ran = sepolicyd("history", "--verify")
    assert (ran.code, ran.out) == (0, "")
    assert "1 entry of applies and 6 of leases" in ran.err


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("how", ["changed", "removed"])
def test_one_touched_line_of_a_lease_is_found(sepolicyd: Runner, rollout: Path, place: int, how: str) -> None:
    path = rollout / "leases.jsonl"
    found = path.read_text().splitlines()
    values = json.loads(found[place])
    found[place : place + 1] = [json.dumps({**values, "wall": values["wall"] + 1})] if how == "changed" else []
    path.write_text("".join(line + "\n" for line in found))
    ran = sepolicyd("history", "--verify")
    assert ran.code == 1
    assert ran.out.startswith("leases.jsonl: ")
