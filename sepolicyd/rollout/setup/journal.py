"""What init is about to change in, a journal that undoes it out: written and synced before the first change."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Optional

from sepolicyd.errors import StateError
from sepolicyd.rollout.setup.port_labels import PortChange
from sepolicyd.settings import Settings

VERSION = 1


@dataclass(frozen=True)
class SetupJournal:
    """``paths`` are what was relabelled, ``labels`` the context that each of them and all below it had before ("" none).

    ``booleans`` are those that the module brings: a local value of one would outlive it, and count again after the next init.
    """

    profile: str
    module: str
    priority: int
    ports: tuple[PortChange, ...] = ()
    paths: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    booleans: tuple[str, ...] = ()


def path_of(settings: Settings, profile: str) -> Path:
    return settings.rollout_dir / f"init-{profile}.json"


def read(settings: Settings, profile: str) -> Optional[SetupJournal]:
    """The journal of this profile, None where init has not been done.

    :raises StateError: it cannot be read or is damaged
    """
    path = path_of(settings, profile)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION:
            raise StateError(f"{path} is of version {data['version']!r}", "use the sepolicyd that wrote it")
        changes = tuple(PortChange(**change) for change in data["ports"])
        return SetupJournal(
            data["profile"],
            data["module"],
            int(data["priority"]),
            changes,
            tuple(data["paths"]),
            dict(data["labels"]),
            tuple(data.get("booleans", ())),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "undo by hand: semodule -lfull, semanage port -l -C, restorecon -R"
        raise StateError(f"the journal {path} cannot be read: {error}", hint) from error


def write(settings: Settings, journal: SetupJournal) -> None:
    """:raises StateError: it cannot be written; nothing may be changed then"""
    path = path_of(settings, journal.profile)
    fresh = path.with_name(f".{path.name}.new")
    text = json.dumps({"version": VERSION, **asdict(journal)}, indent=1, sort_keys=True)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with fresh.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StateError(
            f"the journal {path} cannot be written: {error.strerror}", "free space there; nothing was changed"
        ) from error


def remove(settings: Settings, profile: str) -> None:
    """Harmless when it is not there."""
    path_of(settings, profile).unlink(missing_ok=True)
