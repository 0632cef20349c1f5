"""Lookup of the store module that declares a type."""

from __future__ import annotations

import bz2
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

from sepolicyd.policy.index_store import IndexPlace, read_sections, write_sections

_DECLARED = re.compile(rb"\(type ([A-Za-z][\w.-]*)\)")
BASE = "base"
MAX_MODULE_BYTES = 64 << 20
SUFFIX = ".owners"


def module_directory(policy: Path) -> Optional[Path]:
    """Return the modules directory of the store that a policy file was linked from, None for a file outside a store.

    ROOT/etc/selinux/NAME/policy/policy.N belongs to ROOT/var/lib/selinux/NAME/active/modules.
    """
    parts = policy.absolute().parts
    if len(parts) < 6 or parts[-2] != "policy" or parts[-5:-3] != ("etc", "selinux"):
        return None
    found = Path(*parts[:-5], "var/lib/selinux", parts[-3], "active/modules")
    return found if found.is_dir() else None


def type_owners(modules: Path, place: Optional[IndexPlace] = None) -> Mapping[str, str]:
    """Return the declaring module of each type; empty if the modules cannot be read.

    A module of a higher priority replaces the one of the same name (semodule(8)). Disabled modules do not count.

    :param modules: the store's modules directory (PRIORITY/NAME/cil)
    :param place: cache for the result until a module changes; write failures are not reported
    """
    try:
        files = _module_files(modules)
        key = _key(modules, files)
    except OSError:
        return {}
    kept = _read_kept(place, key) if place is not None else None
    if kept is not None:
        return kept
    found: dict[str, str] = {}
    for name, file in files.items():
        for type_name in _declared(file):
            found.setdefault(type_name, name)
    if place is not None:
        write_sections(place, key, SUFFIX, {"owners": json.dumps(found).encode()})
    return found


def _module_files(modules: Path) -> dict[str, Path]:
    disabled = {entry.name for entry in (modules / "disabled").glob("*")}
    found: dict[str, Path] = {}
    priorities = sorted((entry for entry in modules.iterdir() if entry.name.isdigit()), key=lambda entry: int(entry.name))
    for priority in priorities:
        for directory in sorted(priority.iterdir()):
            if directory.name not in disabled and (directory / "cil").is_file():
                found[directory.name] = directory / "cil"
    return found


def _key(modules: Path, files: Mapping[str, Path]) -> bytes:
    """Return a hash of the directory, and of name, time and size of its modules."""
    found = hashlib.sha256(f"1 {modules.absolute()}".encode("utf-8", "surrogateescape"))
    for name, file in sorted(files.items()):
        mark = file.stat()
        found.update(f";{name}:{mark.st_mtime_ns}:{mark.st_size}".encode("utf-8", "surrogateescape"))
    return found.digest()


def _declared(file: Path) -> Iterator[str]:
    try:
        data = file.read_bytes()
        if data.startswith(b"BZh"):
            data = bz2.BZ2Decompressor().decompress(data, MAX_MODULE_BYTES)
    except (OSError, ValueError):
        return
    for match in _DECLARED.finditer(data):
        yield match[1].decode("ascii", "replace")


def _read_kept(place: IndexPlace, key: bytes) -> Optional[Mapping[str, str]]:
    """Return the cached result for the same modules, or None."""
    sections, _ = read_sections(place, key, SUFFIX)
    try:
        kept = json.loads(bytes((sections or {})["owners"]))
    except (KeyError, ValueError):
        return None
    return kept if isinstance(kept, dict) else None
