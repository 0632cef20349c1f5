"""Cache of file_contexts lookups, beside the policy indexes.

libselinux needs 0.1 s and 35 MB to decode the file_contexts of a distribution and to match a few paths, and each command of
a rollout looks up the same paths. A cached answer is valid for exactly these files and this binding.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from contextlib import suppress
from pathlib import Path
from typing import Optional

from sepolicyd.policy import index_store
from sepolicyd.policy.index_store import IndexPlace

SUFFIX = ".labels"
MAX_KEPT = 10_000  # paths come from logs: further paths are looked up again
# files that libselinux reads besides file_contexts (selabel_file(5)); compiled files are read only if they are newer
TEXTS = ("", ".homedirs", ".local", ".subs", ".subs_dist")
COMPILED = (".bin", ".homedirs.bin", ".local.bin")


class KnownContexts:
    """Answers for one file_contexts file. ``answers``: context or None, by class and path."""

    def __init__(self, path: Path, place: Optional[IndexPlace]) -> None:
        self.answers: dict[str, Optional[str]] = {}
        self._place = place
        self._key = _key(path) if place is not None else b""
        self._kept: int = 0
        if place is not None:
            sections, _ = index_store.read_sections(place, self._key, SUFFIX)
            with suppress(ValueError):
                found = json.loads(bytes((sections or {}).get("contexts", b"{}")))
                if isinstance(found, dict) and all(one is None or isinstance(one, str) for one in found.values()):
                    self.answers = found
            self._kept = len(self.answers)

    def keep(self) -> None:
        """Write the answers if there are new ones. Failures cost the next command 0.1 s and are not reported."""
        if self._place is not None and self._kept < len(self.answers) <= MAX_KEPT:
            index_store.write_sections(self._place, self._key, SUFFIX, {"contexts": json.dumps(self.answers).encode()})
            self._kept = len(self.answers)


def _key(path: Path) -> bytes:
    """Return a hash of everything that the answers depend on."""
    found = hashlib.sha256(b"1")
    for suffix in TEXTS:
        with suppress(OSError):
            found.update(hashlib.sha256(Path(f"{path}{suffix}").read_bytes()).digest())
        found.update(b"|")
    with suppress(ImportError, ValueError):
        binding = importlib.util.find_spec("selinux")
        found.update(_state(Path(binding.origin)) if binding is not None and binding.origin else b"none")
    for suffix in COMPILED:
        found.update(_state(Path(f"{path}{suffix}")))
    return found.digest()


def _state(path: Path) -> bytes:
    try:
        found = path.stat()
    except OSError:
        return b"none"
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ino}".encode()
