"""Which module of the store declares each type."""

from __future__ import annotations

import bz2
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

_DECLARED = re.compile(rb"\(type ([A-Za-z][\w.-]*)\)")
BASE = "base"
MAX_MODULE_BYTES = 64 << 20
CACHE_NAME = "type-owners.json"


def module_directory(policy: Path) -> Optional[Path]:
    """The directory of a store's modules that a policy file was linked from, None where the file is not a store's.

    ROOT/etc/selinux/NAME/policy/policy.N belongs to ROOT/var/lib/selinux/NAME/active/modules.
    """
    parts = policy.absolute().parts
    if len(parts) < 6 or parts[-2] != "policy" or parts[-5:-3] != ("etc", "selinux"):
        return None
    found = Path(*parts[:-5], "var/lib/selinux", parts[-3], "active/modules")
    return found if found.is_dir() else None


def type_owners(modules: Path, cache: Optional[Path] = None) -> Mapping[str, str]:
    """Type -> name of the module that declares it; empty where the modules cannot be read.

    A module of a higher priority replaces the one of the same name (semodule(8)). Disabled modules do not count.

    :param modules: the store's modules directory (PRIORITY/NAME/cil)
    :param cache: a directory of this user alone, in which the result is kept until a module changes
    """
    try:
        files = _module_files(modules)
        key = _key(files)
    except OSError:
        return {}
    kept = _read_cache(cache, key) if cache is not None else None
    if kept is not None:
        return kept
    found: dict[str, str] = {}
    for name, file in files.items():
        for type_name in _declared(file):
            found.setdefault(type_name, name)
    if cache is not None:
        _write_cache(cache, key, found)
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


def _key(files: Mapping[str, Path]) -> str:
    marks = ((name, file.stat()) for name, file in sorted(files.items()))
    return ";".join(f"{name}:{mark.st_mtime_ns}:{mark.st_size}" for name, mark in marks)


def _declared(file: Path) -> Iterator[str]:
    try:
        data = file.read_bytes()
        if data.startswith(b"BZh"):
            data = bz2.BZ2Decompressor().decompress(data, MAX_MODULE_BYTES)
    except (OSError, ValueError):
        return
    for match in _DECLARED.finditer(data):
        yield match[1].decode("ascii", "replace")


def _read_cache(cache: Path, key: str) -> Optional[Mapping[str, str]]:
    """The kept result of the same modules. Only a file of root or of this user that nobody else may write is read."""
    try:
        with (cache / CACHE_NAME).open(encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return None
            kept = json.load(file)
    except (OSError, ValueError):
        return None
    if not isinstance(kept, dict) or kept.get("key") != key or not isinstance(kept.get("owners"), dict):
        return None
    return {str(name): str(owner) for name, owner in kept["owners"].items()}


def _write_cache(cache: Path, key: str, owners: Mapping[str, str]) -> None:
    temporary = cache / f".{CACHE_NAME}.{os.getpid()}"
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump({"key": key, "owners": dict(owners)}, file)
        temporary.replace(cache / CACHE_NAME)
    except OSError:
        temporary.unlink(missing_ok=True)  # the cache only saves time
