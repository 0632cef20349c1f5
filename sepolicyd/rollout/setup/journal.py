"""The undo record of `init`, written durably before its first change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Optional

from sepolicyd.errors import StateError
from sepolicyd.rollout.setup.port_labels import PortChange
from sepolicyd.settings import Settings
from sepolicyd.storage.files import write_whole

VERSION = 1


@dataclass(frozen=True)
class SetupJournal:
    """What one `init` changes."""

    profile: str
    module: str
    priority: int
    ports: tuple[PortChange, ...] = ()
    paths: tuple[str, ...] = ()
    """Trees that were relabelled."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The context that each tree had before, "" for none."""
    booleans: tuple[str, ...] = ()
    """Booleans of the module. `init --undo` removes their local values, so that the next init starts without them."""


def path_of(settings: Settings, profile: str) -> Path:
    """Return the path of a profile's record."""
    return settings.rollout_dir / f"init-{profile}.json"


def read(settings: Settings, profile: str) -> Optional[SetupJournal]:
    """Return the record of a profile, None where init has not been run.

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
    """Write the record; nothing may be changed before this returns.

    :raises StateError: it cannot be written
    """
    text = json.dumps({"version": VERSION, **asdict(journal)}, indent=1, sort_keys=True)
    write_whole(path_of(settings, journal.profile), text.encode())


def remove(settings: Settings, profile: str) -> None:
    """Remove the record; a missing one is fine."""
    path_of(settings, profile).unlink(missing_ok=True)
