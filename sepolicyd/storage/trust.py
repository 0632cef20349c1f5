"""Trust checks of paths: whether only root can change or replace a file.

Root runs programs, relabels trees and acts on files. A path is trusted if every component, including each symbolic link, is
owned by root and writable only by root, since write access to a directory allows renaming its entries.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from sepolicyd.errors import RefusedError

MAX_LINKS = 40  # path_resolution(7)


@dataclass(frozen=True)
class Weakness:
    """A component of a path that another user than root can change."""

    path: Path
    reason: str
    user: Optional[int] = None
    """The owner who can change it, None if ownership is not the weakness."""
    group: Optional[int] = None
    """The group whose members can change it, None if group access is not the weakness."""

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"


def weakness_of(path: Path, *, root: Path = Path("/"), creates: bool = False) -> Optional[Weakness]:
    """Return the first component that another user can change or create, None if there is none.

    :param path: absolute, as seen from inside ``root``
    :param root: the directory that counts as "/" for absolute symbolic links; its own parents are not checked
    :param creates: the caller creates missing components itself, even in a sticky directory
    """
    return next(weaknesses_along(path, root=root, creates=creates), None)


def weaknesses_along(path: Path, *, root: Path = Path("/"), creates: bool = False) -> Iterator[Weakness]:
    """Yield every component that lets another user change or create a path, from the root downwards.

    The parameters are those of :func:`weakness_of`.
    """
    todo = list(reversed(path.parts[1:]))
    place, links = root, 0
    yield from entry_weaknesses(place)
    while todo:
        name = todo.pop()
        if name == "..":
            place = place.parent if place != root else root
            continue
        parent, place = place, place / name
        try:
            yield from entry_weaknesses(place)
            if not place.is_symlink():
                continue
            links += 1
            target = place.readlink()
        except FileNotFoundError:
            yield from () if creates else _missing(place, parent)
            return
        except OSError as error:
            yield Weakness(place, f"cannot be examined: {error.strerror}")
            return
        if links > MAX_LINKS:
            yield Weakness(place, "is part of a loop of symbolic links")
            return
        place = root if target.is_absolute() else parent
        todo += reversed(target.parts[1:] if target.is_absolute() else target.parts)


def refuse_unsafe(directory: Path) -> None:
    """Refuse a state directory that another user can change, since root acts on the versions and commands stored in it.

    :raises RefusedError: another user can change the directory or one of its parents
    """
    weak = weakness_of(directory.absolute(), creates=True)
    if weak is not None:
        raise RefusedError(
            f"{weak}, so users other than root could change the records in {directory}",
            f"run: chown root {weak.path}; chmod go-w {weak.path}; or give another directory with --state",
        )


def links_below(tree: Path) -> Iterator[Weakness]:
    """Yield links that make it unsafe to relabel a tree, because the label could reach a file outside it.

    A hard link shares its label with all other names of the file, so it is yielded unless all names lie in the tree. A symbolic
    link is yielded if a user other than root can have created it: restorecon(8) does not follow it, but other tools do.
    """
    names: dict[tuple[int, int, int], list[Path]] = {}
    for directory, found in _entries(tree):
        shared = directory is None or any(entry_weaknesses(directory))
        for entry in found:
            try:
                status = entry.lstat()
            except FileNotFoundError:
                continue  # has been removed
            if stat.S_ISLNK(status.st_mode) and (shared or entry == tree or status.st_uid not in _trusted_users()):
                yield Weakness(entry, "is a symbolic link that a user other than root can have created", user=status.st_uid)
            elif stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                names.setdefault((status.st_nlink, status.st_dev, status.st_ino), []).append(entry)
    for (count, *_), paths in names.items():
        if len(paths) < count:
            owner = paths[0].lstat().st_uid
            yield Weakness(paths[0], "is a hard link to a file with another name outside the tree", user=owner)


def _entries(tree: Path) -> Iterator[tuple[Optional[Path], list[Path]]]:
    """Yield each directory with its entries, beginning with the tree itself; symbolic links are not followed."""
    yield None, [tree]
    if tree.is_symlink():
        return
    for place, directories, files in os.walk(tree):
        yield Path(place), [Path(place) / name for name in sorted((*directories, *files))]


def _trusted_users() -> frozenset[int]:
    return frozenset({0, os.geteuid()})


def entry_weaknesses(place: Path) -> Iterator[Weakness]:
    """Check owner and mode of one component. In a sticky directory, other users cannot rename files owned by root."""
    status = place.lstat()
    if status.st_uid not in _trusted_users():
        yield Weakness(place, f"is owned by user {status.st_uid}", user=status.st_uid)
    if stat.S_ISLNK(status.st_mode):
        return  # a symbolic link can only be replaced, which depends on the directory
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_mode & stat.S_IWOTH and not sticky:
        yield Weakness(place, "is writable by every user")
    elif status.st_mode & stat.S_IWGRP and status.st_gid != 0 and not sticky:
        yield Weakness(place, f"is writable by group {status.st_gid}", group=status.st_gid)


def _missing(place: Path, parent: Path) -> Iterator[Weakness]:
    if parent.lstat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Weakness(place, "does not exist, and a user other than root can create it")
