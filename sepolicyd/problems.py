"""What a person must know before something is changed: one coded remark with a level and a way out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """STOP ends a plan; WARN is shown and asked about; NOTE is only shown."""

    NOTE = 0
    WARN = 1
    STOP = 2


@dataclass(frozen=True, order=True)
class Problem:
    """``code`` is stable, ``what`` one sentence with the object in it, ``hint`` what to do now."""

    level: Severity
    code: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})" if self.hint else self.what


def stops(findings: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(finding for finding in findings if finding.level is Severity.STOP)
