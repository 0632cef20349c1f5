"""One access: source type, target type, class and permission, without users, roles, levels or host."""

from __future__ import annotations

import re
from dataclasses import dataclass

SELF = "self"
# checkmodule's grammar (policy_scan.l: letter(letter|digit|_|-)*(\.(...))*); other names are never written to policy text.
IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:[.-][A-Za-z0-9_]+)*\Z")
MAX_IDENTIFIER = 128


def is_identifier(text: str) -> bool:
    """Tell whether the text is valid as the name of a type, class or permission in policy source."""
    return len(text) <= MAX_IDENTIFIER and IDENTIFIER.match(text) is not None


@dataclass(frozen=True, order=True)
class Access:
    """One permission of one source type on one target.

    ``target`` is a type, or SELF where source and target type are the same (use :meth:`of`, which folds them).
    ``xperms`` are inclusive ranges of ioctl numbers, () meaning the whole permission. In permissive mode the kernel logs
    only the first ioctl number (avc_update_node then grants ioctl as a whole), so the default is (): the numbers
    seen are evidence, and ranges are used only where the policy already filters this ioctl (allowxperm).
    """

    source: str
    target: str
    tclass: str
    permission: str
    xperms: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, source: str, target: str, tclass: str, permission: str, xperms: tuple[tuple[int, int], ...] = ()) -> Access:
        return cls(source, SELF if target == source else target, tclass, permission, xperms)

    @property
    def target_type(self) -> str:
        """The target's type; SELF becomes the source type."""
        return self.source if self.target == SELF else self.target

    @property
    def group(self) -> tuple[str, str, str]:
        return (self.source, self.target, self.tclass)

    def __str__(self) -> str:
        ranges = "".join(f" {low:#x}" if low == high else f" {low:#x}-{high:#x}" for low, high in self.xperms)
        return f"{self.source} {self.target}:{self.tclass} {self.permission}{ranges}"
