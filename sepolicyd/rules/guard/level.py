"""Severity levels of the guard's findings, the most severe first."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class GuardLevel(str, Enum):
    """Severity of granting an access. ``min()`` of several levels is the most severe one."""

    REFUSE = "refuse"
    """Refused; only an override in root's configuration allows it."""
    REVIEW = "review"
    """The approval requires a reason."""
    NOTE = "note"
    """A remark is shown."""
    NONE = "none"
    """Known to be harmless."""

    @property
    def rank(self) -> int:
        """0 for the most severe level."""
        return _RANKS[self]

    def __lt__(self, other: object) -> bool:
        return self.rank < GuardLevel(other).rank

    def __le__(self, other: object) -> bool:
        return self.rank <= GuardLevel(other).rank

    def __gt__(self, other: object) -> bool:
        return self.rank > GuardLevel(other).rank

    def __ge__(self, other: object) -> bool:
        return self.rank >= GuardLevel(other).rank

    def __str__(self) -> str:
        return self.value

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)


_RANKS = {level: rank for rank, level in enumerate(GuardLevel)}


def worst(levels: Iterable[GuardLevel]) -> GuardLevel:
    """Return the most severe of the levels, NONE if there are none."""
    return min(levels, default=GuardLevel.NONE)
