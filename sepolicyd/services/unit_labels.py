"""Labels for the directories and log files that systemd creates for a unit (systemd.exec(5))."""

from __future__ import annotations

from typing import Optional

from sepolicyd.services.discovery import Label
from sepolicyd.services.unit_file import MOUNTS, Unit

DIRECTORIES = (
    ("RuntimeDirectory", "/run", "runtime"),
    ("StateDirectory", "/var/lib", "var_lib"),
    ("LogsDirectory", "/var/log", "log"),
    ("ConfigurationDirectory", "/etc", "etc"),
)
OUTPUTS = ("StandardOutput", "StandardError")


def unit_labels(unit: Optional[Unit], prefix: str) -> list[Label]:
    """Return the labels of a unit's own directories and logs.

    :param prefix: the prefix of the service's type names, such as "jupyterhub"
    """
    if unit is None:
        return []
    labels = []
    for key, parent, kind in DIRECTORIES:
        labels += [Label(f"{parent}/{name}", f"{prefix}_{kind}_t", tree=True, what=key) for name in _names(unit, key)]
    labels += [Label(path, f"{prefix}_log_t", what=f"the unit's {key}") for key, _, path in output_files(unit)]
    return labels


def output_files(unit: Unit) -> list[tuple[str, str, str]]:
    """Return (setting, way, path) of each file that systemd opens for the unit; way is append, file or truncate."""
    found = []
    for key in OUTPUTS:
        way, colon, path = unit.get(key).partition(":")
        if colon and way in ("append", "file", "truncate") and path.startswith("/"):
            found.append((key, way, path))
    return found


def mount_points(unit: Unit) -> list[tuple[str, str]]:
    """Return (setting, path) of each path over which systemd mounts something before it starts the service.

    Settings are those of "Sandboxing" in systemd.exec(5). "SOURCE:DESTINATION:OPTIONS" of BindPaths= is the destination,
    "PATH:OPTIONS" of TemporaryFileSystem= the path. Paths with specifiers (%i) are known to systemd alone.
    """
    found = []
    for key in MOUNTS:
        for word in unit.words(key):
            parts = word.lstrip("-+").split(":")
            path = parts[1] if key.startswith("Bind") and len(parts) > 1 and parts[1] else parts[0]
            if path.startswith("/") and "%" not in path:
                found.append((key, path.rstrip("/") or "/"))
    return found


def _names(unit: Unit, key: str) -> list[str]:
    """Return the directories of a setting, without those that contain specifiers (%i). "NAME:LINK" counts as NAME."""
    return [name.partition(":")[0] for name in unit.words(key) if "%" not in name]
