"""Status files of many hosts: what needs a person comes first, and a hostile file costs itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sepolicyd.cli.host_table import show_hosts
from sepolicyd.errors import InputError
from sepolicyd.fleet.host_status import compare, parse_status, read_statuses

NOW = 1_800_000_000.0
GOOD: dict[str, Any] = {
    "host": "node1.example.org",
    "profile": "jupyterhub",
    "state": "enforced",
    "at": NOW - 60,
    "sepolicyd": "0.2.0",
    "pending": {"refuse": 0, "review": 0, "note": 0, "none": 0},
    "version": 3,
    "module_sha256": "a" * 64,
    "base_policy": "b" * 64,
    "lease": {"lease": None, "enforcing": True, "foreign_permissive_types": []},
}


def hosts(directory: Path, **changes: dict[str, Any]) -> Path:
    for name, change in changes.items():
        (directory / f"{name}.json").write_text(json.dumps({**GOOD, "host": name, **change}), encoding="utf-8")
    return directory


def attention(directory: Path) -> dict[str, tuple[str, ...]]:
    read, refused = read_statuses(directory)
    assert not refused
    return {status.host: status.attention for status in compare(read, NOW)}


def test_equal_hosts_need_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_hosts(hosts(tmp_path, a={}, b={}, c={}), as_json=False, now=NOW) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["host", "profile"]
    assert len(lines) == 4


def test_the_host_that_differs_is_first_and_named(tmp_path: Path) -> None:
    found = attention(hosts(tmp_path, a={}, b={}, z={"module_sha256": "c" * 64}))
    assert list(found) == ["z", "a", "b"]
    assert found["z"][0].startswith("drift: its module differs")
    assert found["a"] == ()


def test_two_modules_on_as_many_hosts_differ_all(tmp_path: Path) -> None:
    assert all(found for found in attention(hosts(tmp_path, a={}, b={"module_sha256": None})).values())


def test_another_base_policy_is_no_drift(tmp_path: Path) -> None:
    assert not any(attention(hosts(tmp_path, a={}, b={}, c={"base_policy": "d" * 64, "module_sha256": "e" * 64})).values())


LEASED = {"lease": {"deadline": NOW + 600}, "enforcing": True, "foreign_permissive_types": []}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"at": NOW - 7200}, "120 minutes old"),
        ({"at": NOW + 7200}, "from the future"),
        ({"lease": {"lease": {"deadline": NOW - 600}, "enforcing": True, "foreign_permissive_types": []}}, "overdue"),
        ({"lease": {"lease": None, "enforcing": False, "foreign_permissive_types": []}}, "permissive without a lease"),
        ({"lease": {"lease": None, "enforcing": True, "foreign_permissive_types": ["hub_t"]}}, "hub_t"),
        ({"lease": None}, "not written by root"),
    ],
)
def test_why_a_person_should_look(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    (texts,) = attention(hosts(tmp_path, a=change)).values()
    assert any(said in text for text in texts), texts


def test_an_open_lease_is_shown_and_is_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_hosts(hosts(tmp_path, a={"lease": LEASED, "state": "learning"}), as_json=False, now=NOW) == 0
    assert "10 min" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        {"host": "evil\x1b[2J"},
        {"host": "../../etc"},
        {"profile": "a b"},
        {"state": "of a later version"},
        {"at": "now"},
        {"at": float("nan")},
        {"at": 1e300},
        {"version": True},
        {"pending": {"refuse": -1, "review": 0, "note": 0, "none": 0}},
        {"pending": []},
        {"module_sha256": "short"},
        {"lease": "open"},
        {"lease": {"foreign_permissive_types": ["x\ny"]}},
        {"lease": {"lease": {"deadline": None}}},
    ],
)
def test_a_hostile_value_costs_the_file(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_status(json.dumps({**GOOD, **change}))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "[" * 100_000, '"x"'])
def test_what_is_no_status_is_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text(text)
    assert show_hosts(hosts(tmp_path, a={}), as_json=False, now=NOW) == 1
    shown = capsys.readouterr()
    assert "x.json is not shown" in shown.err
    assert "a  " in shown.out


def test_two_files_of_one_host(tmp_path: Path) -> None:
    hosts(tmp_path, a={}, b={"host": "a", "module_sha256": "f" * 64})
    read, refused = read_statuses(tmp_path)
    assert [status.module for status in read] == ["a" * 64]
    assert "a.json has the status" in refused[0].why


def test_a_directory_without_files(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError):
            read_statuses(place)
