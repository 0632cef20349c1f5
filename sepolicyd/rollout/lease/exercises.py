"""Exercises of a lease, by name and start time (exercises.jsonl). Root writes the file; the daemon also reads it."""

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
    """The start of an exercise. The field names are the keys in the file."""

    name: str
    epoch: float
    """Epoch seconds."""
    profile: str
    lease: str
    """The id of the lease."""


def path(state: Path) -> Path:
    """Return the path of the file. The daemon can read it, because it assigns denials to exercises."""
    return state / "exercises.jsonl"


def check_name(name: str) -> None:
    """Check the name of an exercise.

    :raises RefusedError: the name holds other characters than letters, digits, blanks and ``. _ + -``
    """
    if not NAME.match(name):
        raise RefusedError(f"{name!r} is not a valid exercise name", "use up to 64 letters, digits, blanks, and . _ + -")


def append(file: Path, mark: ExerciseMark) -> None:
    """Append one exercise.

    :raises StateError: the line could not be written
    """
    append_json(file, asdict(mark))
    try:
        file.chmod(0o644)
    except OSError as error:
        raise StateError(f"{file} cannot be made readable: {error.strerror}", "run this as root") from error


def read(file: Path) -> list[ExerciseMark]:
    """Return all exercises sorted by time; unreadable lines are skipped, and a missing file gives []."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    marks = []
    for line in lines:
        with suppress(ValueError, TypeError):
            marks.append(ExerciseMark(**json.loads(line)))
    return sorted(marks, key=lambda mark: mark.epoch)
