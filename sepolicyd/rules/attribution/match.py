"""The answer to "whose denial is it", and who gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol

from sepolicyd.audit.model import Denial


@dataclass(frozen=True)
class Match:
    """Why a denial was attributed to the service. ``reason`` has text from the log: escape it before display."""

    role: str
    """The profile's role of the process."""
    reason: str


class DenialMatcher(Protocol):
    """Decides whose a denial is (matcher.Matcher). Feed it in the order of the log."""

    def match(self, denial: Denial) -> Optional[Match]: ...

    def match_comm(self, example: Denial, comm: str) -> Optional[Match]:
        """The match of a process of which only the name is known, for a denial that is like the example otherwise."""
