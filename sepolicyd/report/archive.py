"""Deterministic archive with a chain of hashes: an uncompressed ustar file that depends only on names and contents.

The chain has one line per file with the hash of its content and of the previous line; the seal is the hash of all lines.
tools/verify_bundle.py reads the archive with independent code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sepolicyd.storage.hashchain import START

CHAIN, SEAL = "chain.jsonl", "seal"
BLOCK = 512
MAX_NAME = 100


def canonical(value: Any) -> bytes:
    """Encode a value as ASCII JSON with sorted keys, without blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def pack(files: Mapping[str, bytes]) -> tuple[bytes, str]:
    """Return (the archive, its seal). The files keep their order; the chain and the seal follow.

    :raises ValueError: a name is longer than 100 bytes
    """
    chain = _chain(files)
    seal = hashlib.sha256(chain).hexdigest()
    whole = {**files, CHAIN: chain, SEAL: seal.encode() + b"\n"}
    parts = [part for name, content in whole.items() for part in (_header(name, len(content)), content, _padding(content))]
    return b"".join(parts) + bytes(2 * BLOCK), seal


def content_hash(files: Mapping[str, bytes]) -> str:
    """Return one hash of all files: SHA-256 of their names and hashes as canonical JSON."""
    return hashlib.sha256(canonical({name: hashlib.sha256(data).hexdigest() for name, data in files.items()})).hexdigest()


def _chain(files: Mapping[str, bytes]) -> bytes:
    lines, previous = [], START
    for number, (name, content) in enumerate(files.items(), 1):
        line: dict[str, Any] = {
            "number": number,
            "name": name,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "previous": previous,
        }
        previous = line["hash"] = hashlib.sha256(canonical(line)).hexdigest()
        lines.append(canonical(line) + b"\n")
    return b"".join(lines)


def _header(name: str, size: int) -> bytes:
    """Return a ustar header (POSIX.1-2017, pax: ustar Interchange Format): mode 0644, owner 0, time 0."""
    encoded = name.encode("ascii")
    if len(encoded) > MAX_NAME:
        raise ValueError(f"{name!r} is longer than {MAX_NAME} bytes")
    fields = (
        (encoded, 100), (b"0000644", 8), (b"0000000", 8), (b"0000000", 8), (b"%011o" % size, 12), (b"0" * 11, 12),
        (b" " * 8, 8), (b"0", 1), (b"", 100), (b"ustar", 6), (b"00", 2), (b"", 32), (b"", 32), (b"0000000", 8),
        (b"0000000", 8), (b"", 155), (b"", 12),
    )  # fmt: skip
    block = b"".join(value.ljust(width, b"\0") for value, width in fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _padding(content: bytes) -> bytes:
    return bytes(-len(content) % BLOCK)
