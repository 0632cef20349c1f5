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
    """The changes of one `init`, with the previous state."""

    profile: str
    module: str
    priority: int
    ports: tuple[PortChange, ...] = ()
    paths: tuple[str, ...] = ()
    """Trees that were relabelled."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The previous context of each path, "" for none."""
    booleans: tuple[str, ...] = ()
    """Booleans of the module. `init --undo` removes their local values, so that the next init starts without them."""


def path_of(settings: Settings, profile: str) -> Path:
    """Return the path of a profile's record."""
    return settings.rollout_dir / f"init-{profile}.json"


def read(settings: Settings, profile: str) -> Optional[SetupJournal]:
    """Return the record of a profile, None if init has not been run.

    :raises StateError: the record cannot be read or is damaged
    """
    path = path_of(settings, profile)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION:
            raise StateError(f"{path} has format version {data['version']!r}", "use the version of sepolicyd that wrote it")
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
        hint = "undo by hand; see: semodule -lfull; semanage port -l -C; restorecon -R"
        raise StateError(f"the journal {path} cannot be read: {error}", hint) from error


def write(settings: Settings, journal: SetupJournal) -> None:
    """Write the record; the first change may be made only after this call has returned.

    :raises StateError: the record cannot be written
    """
    text = json.dumps({"version": VERSION, **asdict(journal)}, indent=1, sort_keys=True)
    write_whole(path_of(settings, journal.profile), text.encode())


def remove(settings: Settings, profile: str) -> None:
    """Remove the record; a missing record is not an error."""
    path_of(settings, profile).unlink(missing_ok=True)
