"""The modules of a store as ``semodule -lfull`` lists them. Imported by what ends a lease, so it imports nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass

MODULE_LINE = re.compile(r"^\s*(\d+)\s+(\S+)\s+\S+(\s+disabled)?\s*$")


@dataclass(frozen=True, order=True)
class Installed:
    """One module of a store; of modules with the same name the highest priority counts."""

    name: str
    priority: int
    disabled: bool = False


def parse_modules(listing: str) -> tuple[Installed, ...]:
    """Parse the output of ``semodule -lfull``: priority, name and language per line, and "disabled"."""
    found = (MODULE_LINE.match(line) for line in listing.splitlines())
    return tuple(sorted(Installed(m.group(2), int(m.group(1)), bool(m.group(3))) for m in found if m))
