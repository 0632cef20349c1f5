"""Resolve paths and symbolic links inside another root directory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sepolicyd.errors import RefusedError

MAX_LINKS = 40


def inside(root: Path, path: str) -> Path:
    """Return the location of a path below the root directory ``root``."""
    return root / path.lstrip("/")


def which(root: Path, program: str, folders: Iterable[str]) -> str:
    """Return the program's absolute path without following links, "" if it is not found.

    :param folders: directories to search, in this order; not used for an absolute path
    :raises RefusedError: a loop of symbolic links
    """
    places = (program,) if program.startswith("/") else (f"{folder}/{program}" for folder in folders if folder)
    return next((place for place in places if inside(root, resolve(root, place)).is_file()), "")


def resolve(root: Path, path: str) -> str:
    """Return the path with all symbolic links resolved inside the root directory.

    :raises RefusedError: a loop of symbolic links
    """
    done = "/"
    todo = [part for part in path.split("/") if part not in ("", ".")]
    links = 0
    while todo:
        part = todo.pop(0)
        if part == "..":
            done = os.path.dirname(done)  # noqa: PTH120 a text, not a path of this machine
            continue
        place = f"{done.rstrip('/')}/{part}"
        here = inside(root, place)
        if not here.is_symlink():
            done = place
            continue
        links += 1
        if links > MAX_LINKS:
            raise RefusedError(f"{path} is part of a loop of symbolic links", "correct the link")
        target = os.fspath(here.readlink())
        if target.startswith("/"):
            done = "/"
        todo = [piece for piece in target.split("/") if piece not in ("", ".")] + todo
    return done
