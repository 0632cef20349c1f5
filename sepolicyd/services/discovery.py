"""What the code of a service finds out about one installation, and the interface through which `init` asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Protocol

from sepolicyd.problems import Problem
from sepolicyd.services.unit_file import Unit


@dataclass(frozen=True)
class Label:
    """One path and the type that it should have."""

    path: str
    type: str
    tree: bool = False
    """Whether everything below the path has the type too."""
    what: str = ""
    """What lies there, for a person."""


@dataclass(frozen=True)
class BooleanRequest:
    """A boolean of the module that the service's configuration asks for. A person decides whether to switch it on."""

    name: str
    why: str
    """The setting that asks for it. Holds text of the configuration: escape it before display."""


@dataclass(frozen=True)
class Found:
    """One installation of a service. Paths are those that the running service sees, without the root."""

    unit: Optional[Unit] = None
    labels: tuple[Label, ...] = ()
    ports: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Numbers by the names that the profile gives its ports. A missing name keeps the profile's number, () takes none."""
    web_port_hints: Mapping[str, str] = field(default_factory=dict)
    """What to do where a port has a number of web servers (80, 443), by the profile's name of the port."""
    booleans: tuple[BooleanRequest, ...] = ()
    configuration: tuple[str, ...] = ()
    """Files of the service that were read and that decide on labels and ports."""
    problems: tuple[Problem, ...] = ()

    @property
    def unit_name(self) -> str:
        return self.unit.name if self.unit else ""


class Discovery(Protocol):
    """A function that finds one service on a machine."""

    def __call__(self, root: Path, unit: str = "") -> Found:
        """Find the service below ``root``; nothing is changed and no file of the service is executed.

        :param unit: the systemd unit that starts it, "" for the usual one
        :raises RefusedError: it is not installed, or a container runtime confines it
        :raises UsageError: there is no such unit
        :raises InputError: a unit or configuration file cannot be read
        """
        ...
