"""Overrides: accesses that root's configuration allows although the guard refuses them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from sepolicyd.access import Access

PART = re.compile(r"\{([^{}]*)\}|([^\s{}:]+)")
PARTS = 4


@dataclass(frozen=True)
class Override:
    """One access that the configuration allows although the guard refuses it."""

    access: Access
    reason: str
    by: str


def parse_overrides(settings_overrides: Sequence[Mapping[str, Any]]) -> tuple[list[Override], list[str]]:
    """Return the overrides in root's configuration, and one sentence for each invalid item.

    :param settings_overrides: items with the keys ``access``, ``reason`` and ``by``. An access is written as in a rule,
        ``SOURCE TARGET:CLASS PERMISSION ...``; each part may be several names in braces.
    """
    found: list[Override] = []
    wrong: list[str] = []
    for number, item in enumerate(settings_overrides, 1):
        accesses = list(_accesses(str(item.get("access", "")))) if isinstance(item, Mapping) else []
        reason = str(item.get("reason", "")).strip() if isinstance(item, Mapping) else ""
        by = str(item.get("by", "")).strip() if isinstance(item, Mapping) else ""
        if not accesses or not reason or not by:
            wrong.append(f"override {number} needs access (SOURCE TARGET:CLASS PERMISSION), reason and by")
            continue
        found.extend(Override(access, reason, by) for access in accesses)
    return found, wrong


def _accesses(text: str) -> Iterator[Access]:
    """Yield every access of a rule; nothing if a part is missing."""
    parts = [tuple(inner.split()) if not word else (word,) for inner, word in PART.findall(text)]
    if len(parts) < PARTS:
        return
    sources, targets, classes = parts[: PARTS - 1]
    permissions = tuple(name for part in parts[PARTS - 1 :] for name in part)
    for source, target, tclass, permission in product(sources, targets, classes, permissions):
        yield Access.of(source, target, tclass, permission)
