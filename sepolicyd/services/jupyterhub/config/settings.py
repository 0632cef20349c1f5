"""Settings of a jupyterhub_config.py, evaluated as far as possible without a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Optional, Union
from urllib.parse import urlsplit

from sepolicyd.errors import InputError
from sepolicyd.services.jupyterhub.config.interpreter import Evaluated, evaluate
from sepolicyd.services.jupyterhub.config.machine import Machine
from sepolicyd.services.jupyterhub.config.values import MAX_FILE_BYTES, UNKNOWN, ClassName, Name

Literal = Union[str, int, bool, tuple[str, ...]]


@dataclass(frozen=True)
class HubConfig:
    """Settings by name, as "JupyterHub.port"."""

    path: Optional[Path] = None
    values: Mapping[str, Literal] = field(default_factory=dict)
    """Texts, numbers and lists of texts. Classes are represented by their dotted name."""
    computed: tuple[str, ...] = ()
    """Settings whose value is known only in a run of the hub."""
    uncertain: tuple[str, ...] = ()
    """Settings whose value depends on a run; ``values`` holds the likely value."""
    objects: Mapping[str, object] = field(default_factory=dict)
    """All known values in evaluated form: dictionaries, lists, classes."""
    opaque: tuple[str, ...] = ()
    """Calls that receive ``c`` and could not be interpreted; they may change any setting."""
    files: tuple[str, ...] = ()
    """Configuration files and modules that were read."""

    def text(self, *keys: str) -> str:
        """Return the first of these settings that is a text, or ""."""
        return next((value for value in map(self.values.get, keys) if isinstance(value, str)), "")

    def number(self, *keys: str) -> Optional[int]:
        """Return the first of these settings that is a number, or None."""
        found = (value for value in map(self.values.get, keys) if isinstance(value, int) and not isinstance(value, bool))
        return next(found, None)

    def command(self, *keys: str) -> tuple[str, ...]:
        """Return the first of these settings that is a command: a list, or one word."""
        for value in map(self.values.get, keys):
            if isinstance(value, str):
                return (value,)
            if isinstance(value, tuple):
                return value
        return ()

    def classes(self, key: str) -> tuple[str, ...]:
        """Return the dotted name of a class and those of its bases, nearest first."""
        value = self.objects.get(key)
        return (value,) if isinstance(value, str) else _lineage(value)

    def entries(self, key: str) -> tuple[Mapping[object, object], ...]:
        """Return the dictionaries of a list, such as JupyterHub.services."""
        value = self.objects.get(key)
        return tuple(item for item in value if isinstance(item, dict)) if isinstance(value, (list, tuple)) else ()


def _lineage(value: object) -> tuple[str, ...]:
    if isinstance(value, Name):
        return (value.dotted,)
    if isinstance(value, ClassName):
        return (value.dotted, *(name for base in value.bases for name in _lineage(base)))
    return ()


def _literal(value: object) -> Optional[Literal]:
    if isinstance(value, (str, int)):
        return value
    if isinstance(value, PurePosixPath):
        return str(value)
    if isinstance(value, (list, tuple)) and all(isinstance(item, (str, PurePosixPath)) for item in value):
        return tuple(str(item) for item in value)
    return next(iter(_lineage(value)), None)


def parse(text: str, path: Optional[Path] = None, machine: Optional[Machine] = None) -> HubConfig:
    """Evaluate the text of a configuration.

    :raises InputError: the text is not valid Python
    """
    return _config(path, evaluate(text, str(path or "the configuration"), machine or Machine()))


def parse_json(text: str, path: Path) -> HubConfig:
    """Read the text of a configuration in JSON: an object of objects, by class and setting (traitlets, JSONFileConfigLoader).

    :raises InputError: the text is not such a configuration
    """
    try:
        sections = json.loads(text)
        values = {f"{name}.{key}": value for name, section in sections.items() for key, value in _settings(section)}
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is not a configuration in JSON: {error}", "correct it; the hub cannot read it either"
        ) from None
    return _config(path, Evaluated(values, files=[str(path)]))


def _settings(section: object) -> Iterable[tuple[str, object]]:
    return section.items() if isinstance(section, dict) else ()  # "version" stands beside the classes


def _config(path: Optional[Path], found: Evaluated) -> HubConfig:
    known = {key: value for key, value in found.values.items() if value is not UNKNOWN}
    literals = {key: _literal(value) for key, value in known.items()}
    return HubConfig(
        path=path,
        values={key: value for key, value in literals.items() if value is not None},
        computed=tuple(key for key in found.values if key not in known),
        uncertain=tuple(key for key in found.uncertain if key in known),
        objects=known,
        opaque=tuple(found.opaque),
        files=tuple(found.files),
    )


def read(path: Path, shown: Optional[Path] = None, machine: Optional[Machine] = None) -> HubConfig:
    """Read and evaluate a configuration file: JSON if its name ends so, else Python.

    :param shown: the path as the hub sees it
    :raises InputError: it cannot be read, or is not valid
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES).decode(errors="replace")
    except OSError as error:
        raise InputError(
            f"{shown or path} cannot be read: {error.strerror}", "correct its mode, or give another file"
        ) from None
    return parse_json(text, shown or path) if path.suffix == ".json" else parse(text, shown or path, machine)


def port_of(url: str, default: int) -> int:
    """Return the port of an address such as "http://:8000"; ``default`` if it names no port or is invalid."""
    try:
        port = urlsplit(url).port
    except ValueError:
        return default
    return default if port is None else port
