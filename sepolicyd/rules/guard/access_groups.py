"""Write many accesses as few rules, in the syntax that policy sources and overrides share."""

from __future__ import annotations

from collections.abc import Iterable

from sepolicyd.access import Access

Part = tuple[str, ...]


def as_rules(accesses: Iterable[Access]) -> list[str]:
    """Return lines such as ``a_t { b_t c_t }:file { read write }``, sorted; together they are exactly the accesses."""
    permissions: dict[tuple[str, str, str], set[str]] = {}
    for access in accesses:
        permissions.setdefault((access.source, access.target, access.tclass), set()).add(access.permission)
    targets: dict[tuple[str, str, Part], set[str]] = {}
    for (source, target, tclass), names in permissions.items():
        targets.setdefault((source, tclass, tuple(sorted(names))), set()).add(target)
    classes: dict[tuple[str, Part, Part], set[str]] = {}
    for (source, tclass, words), types in targets.items():
        classes.setdefault((source, tuple(sorted(types)), words), set()).add(tclass)
    return sorted(
        f"{source} {braced(types)}:{braced(sorted(names))} {braced(words)}" for (source, types, words), names in classes.items()
    )


def braced(names: Iterable[str]) -> str:
    """Return one name as it is, several in braces."""
    found = tuple(names)
    return found[0] if len(found) == 1 else "{ " + " ".join(found) + " }"
