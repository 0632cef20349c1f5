"""Properties of a service that `init --new` reads from its unit."""

from __future__ import annotations

from dataclasses import dataclass

from sepolicyd.problems import Problem
from sepolicyd.services.discovery import Label
from sepolicyd.services.unit_file import Unit


@dataclass(frozen=True)
class Service:
    """The properties of a service, from its unit and files. Paths are as seen by the service."""

    name: str
    unit: Unit
    program: str
    labels: tuple[Label, ...]
    ports: tuple[int, ...]
    findings: tuple[Problem, ...] = ()

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of types that the service needs: "exec", "etc", "var_lib" ..."""
        prefix = f"{self.name}_"
        return frozenset(label.type[len(prefix) : -len("_t")] for label in self.labels if label.type.startswith(prefix))
