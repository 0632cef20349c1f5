"""Exercises keep their order, can be read by another user, and have printable names."""

from __future__ import annotations

from pathlib import Path

import pytest

from sepolicyd.errors import RefusedError
from sepolicyd.rollout.lease.exercises import ExerciseMark, append, check_name, path, read

LOG_IN, TERMINAL = ExerciseMark("log in", 100.0, "hub", "x"), ExerciseMark("terminal", 200.5, "hub", "x")


def test_they_are_kept_in_time_order_and_survive_a_torn_line(tmp_path: Path) -> None:
    file = path(tmp_path / "state")
    assert read(file) == []
    append(file, TERMINAL)
    append(file, LOG_IN)
    with file.open("a") as torn:
        torn.write('{"name": "x", "ep')
    assert read(file) == [LOG_IN, TERMINAL]
    append(file, ExerciseMark("stop", 300.0, "hub", "x"))
    assert [mark.name for mark in read(file)] == ["log in", "terminal", "stop"]
    # the daemon is not root and must be able to read it
    assert file.stat().st_mode & 0o777 == 0o644


def test_the_file_is_not_followed_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("")
    path(tmp_path).symlink_to(tmp_path / "shadow")
    with pytest.raises(Exception, match="cannot be written"):
        append(path(tmp_path), LOG_IN)
    assert (tmp_path / "shadow").read_text() == ""


@pytest.mark.parametrize("name", ["", " x", "a\nb", "a\x1b[2J", "x" * 65, 'a"b', "ä", "-rf"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(RefusedError):
        check_name(name)


@pytest.mark.parametrize("name", ["log in", "2nd lesson", "upload_1.5+x-y"])
def test_names_that_are_taken(name: str) -> None:
    check_name(name)
