"""Read the facts of a machine one by one, so that one failure does not prevent the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sepolicyd.errors import SepolicydError

T = TypeVar("T")


class Asker:
    """Call functions that read facts, and collect the failures."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def __call__(self, what: str, look: Callable[[], T], missing: T) -> T:
        try:
            return look()
        except (SepolicydError, OSError, KeyError, ValueError) as error:
            self.problems.append(f"cannot examine {what}: {error}")
            return missing
