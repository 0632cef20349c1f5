"""Names and times of exercises in, all of them by time out; written by root, read by the daemon too."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sepolicyd.errors import RefusedError, StateError
from sepolicyd.storage.files import append_json

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}\Z")


@dataclass(frozen=True)
class ExerciseMark:
    """An exercise began: ``epoch`` in seconds of the wall clock, ``lease`` the id of the lease in which it was done."""

    name: str
    epoch: float
    profile: str
    lease: str


def path(state: Path) -> Path:
    """The file of marks: in root's directory, but readable by the daemon, which must know in which exercise a denial falls."""
    return state / "exercises.jsonl"


def check_name(name: str) -> None:
    """:raises RefusedError: a name that could not stand in a terminal or a file as it is"""
    if not NAME.match(name):
        raise RefusedError(f"{name!r} cannot be the name of an exercise", "use up to 64 letters, digits, blanks, and . _ + -")


def append(file: Path, mark: ExerciseMark) -> None:
    """:raises StateError: the line could not be written"""
    append_json(file, asdict(mark))
    try:
        file.chmod(0o644)
    except OSError as error:
        raise StateError(f"{file} cannot be made readable: {error.strerror}", "run this as root") from error


def read(file: Path) -> list[ExerciseMark]:
    """All marks by time; a line cut short by a crash is left out, a missing file is none."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    marks = []
    for line in lines:
        with suppress(ValueError, TypeError):
            marks.append(ExerciseMark(**json.loads(line)))
    return sorted(marks, key=lambda mark: mark.epoch)
