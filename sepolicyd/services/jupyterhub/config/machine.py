"""Read-only access of an evaluated configuration to the machine: environment, paths, YAML and JSON files, modules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Optional

from sepolicyd.errors import RefusedError
from sepolicyd.services.jupyterhub.config.values import MAX_FILE_BYTES, MAX_ITEMS, UNKNOWN
from sepolicyd.services.programs import SEARCH_PATH
from sepolicyd.services.rootfs import inside, resolve, which

SITE_PACKAGES = ("lib/python3*/site-packages", "lib/python3/dist-packages", "local/lib/python3*/dist-packages")


@dataclass(frozen=True)
class Machine:
    """Read-only view of the machine below a root. Paths are those of the running hub."""

    root: Path = Path("/")
    prefix: str = ""
    """sys.prefix of the Python that runs the hub."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the hub: those of its unit."""
    workdir: str = "/"

    def absolute(self, path: str) -> str:
        """Return the absolute path, relative to the working directory of the hub."""
        return str(PurePosixPath(self.workdir or "/") / path)

    def place(self, path: str) -> Optional[Path]:
        """Return the path below the root, with links resolved inside the root; None for a link loop."""
        try:
            return inside(self.root, resolve(self.root, self.absolute(path)))
        except RefusedError:
            return None

    def is_file(self, path: str) -> bool:
        """Tell whether the path is a regular file."""
        place = self.place(path)
        return place is not None and place.is_file()

    def is_dir(self, path: str) -> bool:
        """Tell whether the path is a directory."""
        place = self.place(path)
        return place is not None and place.is_dir()

    def read(self, path: str) -> Optional[str]:
        """Return the text of a file, None if it is unreadable or too large."""
        place = self.place(path)
        try:
            if place is None or not place.is_file() or place.stat().st_size > MAX_FILE_BYTES:
                return None
            return place.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that match, sorted, at most MAX_ITEMS."""
        relative = self.absolute(pattern).lstrip("/")
        if not relative or ".." in PurePosixPath(relative).parts:
            return []
        found = []
        for place in self.root.glob(relative):
            found.append("/" + place.relative_to(self.root).as_posix())
            if len(found) >= MAX_ITEMS:
                break
        return sorted(found)

    def which(self, program: str) -> object:
        """Return the path of a program like shutil.which(), or None."""
        path = self.environment.get("PATH", "")
        try:
            return which(self.root, program, path.split(":") if path else SEARCH_PATH) or None
        except RefusedError:
            return None

    def site_packages(self) -> list[str]:
        """Return the directories with the packages of the hub's Python."""
        return [path for pattern in SITE_PACKAGES for path in self.glob(f"{self.prefix}/{pattern}")] if self.prefix else []

    def load(self, path: str, kind: str) -> object:
        """Return the content of a YAML or JSON file, UNKNOWN if it cannot be read.

        :param kind: "yaml" or "json"
        """
        import yaml  # loaded only for a configuration that reads a file

        text = self.read(path)
        if text is None:
            return UNKNOWN
        try:
            return json.loads(text) if kind == "json" else yaml.safe_load(text)
        except (ValueError, yaml.YAMLError, RecursionError):
            return UNKNOWN

    def module(self, dotted: str, folders: tuple[str, ...]) -> Optional[tuple[str, str]]:
        """Return (path, text) of a Python module that lies in one of the folders or below the prefix, None for any other."""
        relative = dotted.replace(".", "/")
        for folder in (*folders, *self.site_packages()):
            for path in (f"{folder}/{relative}.py", f"{folder}/{relative}/__init__.py"):
                text = self.read(path) if self.is_file(path) else None
                if text is not None:
                    return path, text
        return None
