"""Resolve paths and symbolic links inside another root directory."""

from __future__ import annotations

import os
from pathlib import Path

from sepolicyd.errors import RefusedError

MAX_LINKS = 40


def inside(root: Path, path: str) -> Path:
    """Where a path of the machine lies when the machine's root is ``root``."""
    return root / path.lstrip("/")


def resolve(root: Path, path: str) -> str:
    """The path with every link followed, links being the machine's own and never leading out of its root.

    :raises RefusedError: links that never end
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
            raise RefusedError(f"{path} is a link that never ends", "mend the link")
        target = os.fspath(here.readlink())
        if target.startswith("/"):
            done = "/"
        todo = [piece for piece in target.split("/") if piece not in ("", ".")] + todo
    return done
