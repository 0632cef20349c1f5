"""Cache of policy indexes on disk, so that setools reads each policy once.

The file name is a hash of the policy and of the code that built the index. A file is used only in a directory that no
other user can change (:mod:`sepolicyd.storage.private`), and only with a valid header, length and checksum. Otherwise the
policy itself is read, and the caller gets a note. Files are read into memory, not mapped: a change after the check could
alter the answers, and a truncation would end the process with SIGBUS.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Optional

from sepolicyd.policy import setools_adapter
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.index_tables import Section, Tables
from sepolicyd.storage.private import (
    UntrustedError,
    make_private_directory,
    private_directory,
    prune,
    read_private,
    write_private,
)

# magic, byte order mark, length of what follows the header, key, SHA-256 of what follows the header; all numbers, those of
# the tables too, in the byte order of the machine
HEADER = struct.Struct("=8sIQ32s32s")
MAGIC = b"sepolidx"
BYTE_ORDER = 0x01020304
SUFFIX = ".index"
MAX_KEPT = 4  # 3 to 4 MB each; each change of a boolean gives another policy
ALIGNMENT = 8
# source files that determine the content of an index
CODE = ("index_builder.py", "index_tables.py", "index_store.py", "setools_adapter.py", "setools_declarations.py", "model.py")


class IndexPlace(NamedTuple):
    """Directory of the index cache. A missing ``directory`` is created below ``within``."""

    directory: Path
    within: Path


class Loaded(NamedTuple):
    """Index of a policy; ``note`` is the reason why the cache could not be used, or ""."""

    policy_index: PolicyIndex
    note: str = ""


def place_for(state: Path) -> Optional[IndexPlace]:
    """Return the cache for the user of this process: for root, beside the state if it exists, otherwise a private cache.

    None if the user has no home directory.
    """
    if os.geteuid() == 0 and state.is_dir():
        return IndexPlace(state / "index", state)
    cache = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(cache).parent if cache.startswith("/") else Path.home()
    if not home.is_dir():
        return None
    return IndexPlace((Path(cache) if cache.startswith("/") else home / ".cache") / "sepolicyd" / "index", home)


def load(path: Path, place: Optional[IndexPlace]) -> Loaded:
    """Load the index of a kernel policy from the cache, or build it with setools and cache it.

    :raises ToolMissingError: no setools
    :raises InputError: no such file, not a kernel policy, or too new a version
    """
    content = setools_adapter.read_content(path)
    if place is None:
        return Loaded(PolicyIndex.of(content, path))
    key = _key(content)
    sections, note = read_sections(place, key)
    if sections is not None:
        try:
            return Loaded(PolicyIndex(Tables(sections), path))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            note = f"the policy index {place.directory / _name(key, SUFFIX)} is not used: {error}; the policy itself was read"
    found = PolicyIndex.of(content, path)
    not_kept = write_sections(place, key, SUFFIX, found.tables.sections)
    return Loaded(found, note or not_kept)


def _key(content: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(content).digest() + _code()).digest()


@lru_cache(maxsize=1)
def _code() -> bytes:
    """Return a fingerprint of this code's version and of the installed setools."""
    found = hashlib.sha256()
    here = Path(__file__).parent
    for name in CODE:
        with suppress(OSError):
            found.update((here / name).read_bytes())
    found.update(repr(_setools_version()).encode())
    return found.digest()


def _setools_version() -> list[tuple[str, int, int]]:
    """Return name, size and time of the compiled files of setools. Importing setools takes longer than reading an index."""
    try:
        found = importlib.util.find_spec("setools")
    except (ImportError, ValueError):
        return []
    places = found.submodule_search_locations if found is not None else None
    files = [path for place in places or () for path in Path(place).glob("*.so")]
    return sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def read_sections(place: IndexPlace, key: bytes, suffix: str = SUFFIX) -> tuple[Optional[Mapping[str, memoryview]], str]:
    """Return the sections cached under a key, or None and the reason why the file is unusable ("" if there is no file)."""
    path = place.directory / _name(key, suffix)
    try:
        with private_directory(place.directory) as directory:
            data = read_private(directory, path.name)
            with suppress(OSError):  # files are removed by time of last use
                os.utime(path.name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None, ""
    except UntrustedError as error:
        return None, f"the policy index {path} is not used: {error}; the policy itself was read"
    except OSError as error:
        return None, f"the policy index {path} cannot be read ({error.strerror}); the policy itself was read"
    try:
        return _sections(data, key), ""
    except (ValueError, TypeError, struct.error) as error:
        return None, f"the policy index {path} is not used: {error}; the policy itself was read"


def _name(key: bytes, suffix: str) -> str:
    return key.hex()[:32] + suffix


def _sections(data: bytes, key: bytes) -> Mapping[str, memoryview]:
    """Return the sections of a whole file.

    :raises ValueError: the file is damaged or belongs to another key
    """
    if len(data) < HEADER.size:
        raise ValueError("it is truncated")
    magic, order, length, found, checksum = HEADER.unpack_from(data)
    body = memoryview(data)[HEADER.size :]
    if magic != MAGIC or order != BYTE_ORDER or found != key:
        raise ValueError("it belongs to another policy, version or machine")
    if length != len(body):
        raise ValueError("it is truncated")
    if hashlib.sha256(body).digest() != checksum:
        raise ValueError("its checksum is wrong")
    (size,) = struct.unpack_from("=I", body)
    directory = json.loads(bytes(body[4 : 4 + size]))
    return {name: body[start : start + length] for name, (start, length) in directory.items()}


def _file(sections: Mapping[str, Section], key: bytes) -> bytes:
    """Return header, directory (name to start and length, after the header) and aligned sections as one file."""
    # the length of the directory depends on the offsets in it: reserve space for the longest
    room = len(json.dumps({name: [1 << 40, len(data)] for name, data in sections.items()})) + 4
    start = room + -(HEADER.size + room) % ALIGNMENT
    directory, parts = {}, []
    for name, data in sections.items():
        directory[name] = [start, len(data)]
        padding = -len(data) % ALIGNMENT
        parts += [data, bytes(padding)]
        start += len(data) + padding
    text = json.dumps(directory).encode()
    head = struct.pack("=I", len(text)) + text
    first = min((place for place, _ in directory.values()), default=len(head))
    body = b"".join((head, bytes(first - len(head)), *parts))
    return HEADER.pack(MAGIC, BYTE_ORDER, len(body), key, hashlib.sha256(body).digest()) + body


def write_sections(place: IndexPlace, key: bytes, suffix: str, sections: Mapping[str, Section]) -> str:
    """Write sections under a key; return "" or the reason for a failure."""
    try:
        make_private_directory(place.directory, within=place.within)
        with private_directory(place.directory) as directory:
            write_private(directory, _name(key, suffix), _file(sections, key))
            prune(directory, suffix, MAX_KEPT)
    except UntrustedError as error:
        return f"no policy index is stored in {place.directory}: {error}"
    except OSError as error:
        return f"no policy index can be stored in {place.directory}: {error.strerror}"
    return ""
