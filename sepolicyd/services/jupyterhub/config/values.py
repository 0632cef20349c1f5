"""Values that an evaluated jupyterhub_config.py can hold, and the limits of the evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePosixPath
from typing import Callable, Union

MAX_STEPS = 50_000
"""Statements and expressions that are evaluated for one configuration, all its files together."""
MAX_DEPTH = 40
MAX_ITEMS = 1_000
"""Items of a container and rounds of a loop."""
MAX_TEXT = 64 * 1024
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_MODULES = 24


class Unknown(Enum):
    """The value of an expression that only a run of the hub could give."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN


class ConfigObject(Enum):
    """The object ``c``, to which the settings are assigned."""

    CONFIG = "c"


@dataclass(frozen=True)
class ConfigSection:
    """One class of ``c``, as ``c.JupyterHub``."""

    name: str


@dataclass(frozen=True)
class Name:
    """Something that was imported, by its dotted name."""

    dotted: str


@dataclass(frozen=True)
class ClassName:
    """A class that the configuration or a module beside it defines."""

    dotted: str
    bases: tuple[object, ...] = ()
    """:class:`Name`, :class:`ClassName` or UNKNOWN, as they stand in the source."""
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A method that was looked up and not called yet."""

    owner: object
    name: str


@dataclass(frozen=True)
class File:
    """A file that the configuration opens, by its path on the machine."""

    path: str


Builtin = Callable[..., object]
Scalar = Union[str, int, float, bool, None]
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
