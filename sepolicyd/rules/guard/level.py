"""Levels that the guard gives an access, heaviest first."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class GuardLevel(str, Enum):
    """How much doubt there is about granting an access. ``min()`` of several levels is the heaviest."""

    REFUSE = "refuse"
    """No rule; only a written override of root's configuration grants it."""
    REVIEW = "review"
    """A person must give a reason."""
    NOTE = "note"
    """A person reads a remark first."""
    NONE = "none"
    """Known to be harmless."""

    @property
    def rank(self) -> int:
        """0 for the heaviest."""
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
    """The heaviest of the levels, NONE where there are none."""
    return min(levels, default=GuardLevel.NONE)
