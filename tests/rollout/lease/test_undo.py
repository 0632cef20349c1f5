"""Lease records and history on a real disk: intact, damaged, of another user, and without space."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from sepolicyd.errors import RefusedError, StateError
from sepolicyd.rollout.lease.lease import CorruptLease, parse_lease, render_lease
from sepolicyd.rollout.lease.lease_records import LeaseBook, LeaseEvent
from tests.rollout.lease.test_machine import LEASE, NOW


def test_an_undo_file_comes_back_as_it_was(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path / "rollout")
    book.write(LEASE)
    book.write(LEASE)
    assert book.all() == [LEASE]
    assert book.of("hub") == LEASE
    assert parse_lease(render_lease(LEASE)) == LEASE
    assert (tmp_path / "rollout").stat().st_mode & 0o777 == 0o700
    assert book.path_of("hub").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in book.undo_dir.iterdir()] == ["hub.json"]
    book.remove("hub")
    book.remove("hub")
    assert book.all() == []


def _with(key: str, text: str) -> str:
    """The record with another value of a key."""
    values = {**json.loads(render_lease(LEASE)), key: "@"}
    return json.dumps(values).replace('"@"', text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"schema": 2}', "\x00" * 300, "[" * 100_000),
        *(render_lease(LEASE)[:-40], render_lease(LEASE).replace('"id"', '"di"')),
        *(_with("deadline_wall", text) for text in ("NaN", "Infinity", "1e300", "1" + "0" * 400, '"1"', "true", "-1")),
        *(_with("deadline_boottime", "NaN"), _with("priority", '"360"'), _with("module", "[]")),
    ],
    ids=range(18),
)
def test_a_damaged_undo_file_is_never_passed_over(tmp_path: Path, text: str) -> None:
    book = LeaseBook(tmp_path)
    book.write(LEASE)
    book.path_of("hub").write_text(text)
    (found,) = book.all()
    assert isinstance(found, CorruptLease)


def test_a_full_disk_leaves_the_old_undo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = LeaseBook(tmp_path)
    book.write(LEASE)
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 100:
            return real(fd, bytes(data[:100]))  # the rest does not fit
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StateError, match="cannot be written"):
        book.write(replace(LEASE, attempts=9, by="x" * 100))
    monkeypatch.undo()
    assert book.all() == [LEASE]
    assert list(book.directory.glob(".*.new")) == []


@pytest.mark.parametrize("what", ["pipe", "link", "directory", "another's", "written by all"])
def test_an_undo_that_another_could_have_written_is_not_obeyed(tmp_path: Path, what: str) -> None:
    """It names commands and units; and a pipe would keep the one-shot waiting for ever."""
    book = LeaseBook(tmp_path)
    book.write(LEASE)
    path = book.path_of("hub")
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    if what == "pipe":
        os.mkfifo(path)
    elif what == "link":
        path.symlink_to(elsewhere)
    elif what == "directory":
        path.mkdir()
    else:
        elsewhere.rename(path)
        path.chmod(0o666 if what == "written by all" else 0o600)
        if what == "another's":
            if os.geteuid() != 0:
                pytest.skip("only root can give a file away")
            os.chown(path, 65534, 65534)
    (found,) = book.all()
    assert isinstance(found, CorruptLease)


def test_a_directory_that_cannot_be_listed_is_a_broken_undo(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    book.undo_dir.write_text("")
    (found,) = book.all()
    assert isinstance(found, CorruptLease)


def test_two_commands_at_once(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    with book.lock(0), pytest.raises(RefusedError, match="another sepolicyd command"), LeaseBook(tmp_path).lock(0.2):
        pass
    with book.lock(0):
        pass


def test_the_history_outlives_a_torn_line(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    book.record(LeaseEvent.OPENED, NOW, id="x", deadline_wall=1600.0)
    with book.history_path.open("a") as file:
        file.write('{"what": "end')
    book.record(LeaseEvent.ENDED, replace(NOW, wall=1100.0), id="x")
    assert [entry["what"] for entry in book.history()] == ["opened", "ended"]
