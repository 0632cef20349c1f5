"""Values that an evaluated jupyterhub_config.py can hold, and the limits of the evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePosixPath
from typing import Callable

MAX_STEPS = 50_000
"""Limit of evaluated statements and expressions for one configuration with all its files."""
MAX_DEPTH = 40
MAX_ITEMS = 1_000
"""Limit of items in a container and of loop iterations."""
MAX_TEXT = 64 * 1024
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_MODULES = 24


class Unknown(Enum):
    """Value of an expression that is known only in a run of the hub."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN


class ConfigObject(Enum):
    """The object ``c`` that holds the settings."""

    CONFIG = "c"


@dataclass(frozen=True)
class ConfigSection:
    """One section of ``c``, such as ``c.JupyterHub``."""

    name: str


@dataclass(frozen=True)
class Name:
    """Imported object, by dotted name."""

    dotted: str


@dataclass(frozen=True)
class ClassName:
    """A class that the configuration or a module beside it defines."""

    dotted: str
    bases: tuple[object, ...] = ()
    """:class:`Name`, :class:`ClassName` or UNKNOWN, in source order."""
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A method before its call."""

    owner: object
    name: str


@dataclass(frozen=True)
class File:
    """File opened by the configuration, by path on the machine."""

    path: str


Builtin = Callable[..., object]
SCALARS = (str, int, float, bool, type(None), PurePosixPath)


def known(*values: object) -> bool:
    """Tell whether all values are known. Looks into lists, tuples and sets, not into dictionaries."""
    return not any(
        isinstance(value, (Unknown, Method, ConfigSection)) or (isinstance(value, (list, tuple, set)) and not known(*value))
        for value in values
    )


def plain(*values: object) -> bool:
    """Tell whether all values are texts, numbers, paths, or containers of these."""
    return all(
        isinstance(value, SCALARS)
        or (isinstance(value, (list, tuple, set)) and plain(*value))
        or (isinstance(value, dict) and plain(*value.values()))
        for value in values
    )
