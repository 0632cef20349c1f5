"""Description of one installation of a service, and the interface of discovery functions that `init` calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Protocol

from sepolicyd.problems import Problem
from sepolicyd.services.unit_file import Unit


@dataclass(frozen=True)
class Label:
    """One path and its intended type."""

    path: str
    type: str
    tree: bool = False
    """Whether the type applies to everything below the path."""
    what: str = ""
    """A description of the content, for display."""


@dataclass(frozen=True)
class BooleanRequest:
    """A boolean of the module that the service's configuration needs. The administrator decides whether to switch it on."""

    name: str
    why: str
    """The setting that needs it. Contains raw configuration text: escape it before display."""


@dataclass(frozen=True)
class Found:
    """One installation of a service. Paths are as seen by the running service, without the root directory."""

    unit: Optional[Unit] = None
    labels: tuple[Label, ...] = ()
    ports: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Port numbers by the profile's port names. A missing name keeps the profile's number; () means no number."""
    web_port_hints: Mapping[str, str] = field(default_factory=dict)
    """Hints for ports on a number of web servers (80, 443), by the profile's port names."""
    booleans: tuple[BooleanRequest, ...] = ()
    configuration: tuple[str, ...] = ()
    """Files of the service that were read to determine labels and ports."""
    problems: tuple[Problem, ...] = ()

    @property
    def unit_name(self) -> str:
        return self.unit.name if self.unit else ""


class Discovery(Protocol):
    """A function that finds one service on a machine."""

    def __call__(self, root: Path, unit: str = "") -> Found:
        """Find the service below ``root`` without changing or executing any file.

        :param unit: the systemd unit that starts it, "" for the default unit
        :raises RefusedError: the service is not installed, or runs in a container
        :raises UsageError: there is no such unit
        :raises InputError: a unit or configuration file cannot be read
        """
        ...
