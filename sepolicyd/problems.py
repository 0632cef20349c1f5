"""Coded problems of a machine or of a plan: severity, sentence, and the command that corrects it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum


class Severity(IntEnum):
    """STOP ends a plan; WARN is shown and asked about; NOTE is only shown."""

    NOTE = 0
    WARN = 1
    STOP = 2


class ProblemCode(str, Enum):
    """A stable code with its meaning and where that is documented. Each room that finds problems has a subclass."""

    meaning: str
    source: str

    def __new__(cls, code: str, meaning: str, source: str) -> ProblemCode:
        made = str.__new__(cls, code)
        made._value_ = code
        made.meaning, made.source = meaning, source
        return made

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, order=True)
class Problem:
    """One problem."""

    level: Severity
    code: str
    what: str
    """One sentence that names the object."""
    hint: str = ""
    """What to do now."""

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})" if self.hint else self.what


def stops(findings: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the problems that end a plan."""
    return tuple(finding for finding in findings if finding.level is Severity.STOP)
