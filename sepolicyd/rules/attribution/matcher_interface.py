"""The result of attributing a denial, and the interface of matchers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol

from sepolicyd.audit.model import Denial


@dataclass(frozen=True)
class Match:
    """The attribution of a denial to the service. ``reason`` contains raw log text: escape it before display."""

    role: str
    """The profile's role of the process."""
    reason: str


class DenialMatcher(Protocol):
    """Attributes denials to a service (see matcher.Matcher). Denials must come in log order."""

    def match(self, denial: Denial) -> Optional[Match]: ...

    def match_comm(self, example: Denial, comm: str) -> Optional[Match]:
        """Return the match of a process known by name only, whose denial otherwise equals ``example``."""
