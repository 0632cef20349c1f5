"""Accesses that the configuration allows in spite of the guard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sepolicyd.access import Access


@dataclass(frozen=True)
class Override:
    """An access that root's configuration allows in spite of the guard."""

    access: Access
    reason: str
    by: str


def parse_overrides(settings_overrides: Sequence[Mapping[str, Any]]) -> tuple[list[Override], list[str]]:
    """The overrides of root's configuration, and what is wrong with those that cannot be used.

    Each: access "SOURCE TARGET:CLASS PERMISSION ...", reason, by.
    """
    found: list[Override] = []
    wrong: list[str] = []
    for number, item in enumerate(settings_overrides, 1):
        words = str(item.get("access", "")).replace(":", " ").split() if isinstance(item, Mapping) else []
        reason = str(item.get("reason", "")).strip() if isinstance(item, Mapping) else ""
        by = str(item.get("by", "")).strip() if isinstance(item, Mapping) else ""
        if len(words) < 4 or not reason or not by:
            wrong.append(f"override {number} needs access (SOURCE TARGET:CLASS PERMISSION), reason and by")
            continue
        found.extend(Override(Access.of(words[0], words[1], words[2], permission), reason, by) for permission in words[3:])
    return found, wrong
