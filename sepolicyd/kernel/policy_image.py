"""Parser for the head of a binary kernel policy (types and permissive types), and writer that changes the permissive map.

Standard library only, because ending a lease must not depend on setools. The layout is that of the kernel's
security/selinux/ss/policydb.c (policydb_read, class_read, role_read, type_read) and ebitmap.c, little endian throughout.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

MAGIC = 0xF97CFF8C
IDENTITY = b"SE Linux"
CONFIG_MLS = 1  # POLICYDB_CONFIG_MLS
OLDEST_VERSION = 24  # POLICYDB_VERSION_BOUNDARY; the permissive map itself came with 23
CONSTRAINT_NAMES, NEW_OBJECT_DEFAULTS, DEFAULT_TYPE, NEVERAUDIT = 29, 27, 28, 35
MAP_UNIT = 64
EXPRESSION_NAMES = 5  # CEXPR_NAMES
TYPE_IS_PRIMARY, TYPE_IS_ATTRIBUTE = 1, 2  # TYPEDATA_PROPERTY_*; an alias has neither
MAX_ITEMS = 1 << 22  # a higher count means that the file is not a policy


class PolicyFormatError(ValueError):
    """The bytes are not a kernel policy in a supported format."""


@dataclass(frozen=True)
class PolicyHead:
    """The parsed head. ``types`` maps type names to values; the bits of the permissive map are these values.

    ``span`` is the byte range (start, end) of the permissive map.
    """

    version: int
    types: dict[str, int]
    permissive_bits: frozenset[int]
    span: tuple[int, int]

    @property
    def permissive(self) -> frozenset[str]:
        """Names of the permissive types."""
        return frozenset(name for name, value in self.types.items() if value in self.permissive_bits)


def parse_head(policy: bytes) -> PolicyHead:
    """Read a kernel policy up to its type table.

    :raises PolicyFormatError: wrong magic number, a version below 24, or truncated
    """
    reader = _Reader(policy)
    try:
        return _head(reader)
    except (struct.error, IndexError) as error:
        raise PolicyFormatError(f"policy is truncated or damaged at byte {reader.at}: {error}") from None


def is_mls(policy: bytes) -> bool:
    """Tell whether a kernel policy has levels (MLS or MCS).

    :raises PolicyFormatError: not a kernel policy
    """
    reader = _Reader(policy)
    try:
        return bool(_preamble(reader)[1] & CONFIG_MLS)
    except (struct.error, IndexError) as error:
        raise PolicyFormatError(f"policy is truncated or damaged at byte {reader.at}: {error}") from None


def without_permissive(policy: bytes, names: Iterable[str]) -> bytes:
    """Return the policy with these types enforcing, unchanged if none of them was permissive. Unknown names are ignored."""
    head = parse_head(policy)
    removed = {head.types[name] for name in names if name in head.types}
    if not removed & head.permissive_bits:
        return policy
    start, end = head.span
    return policy[:start] + render_ebitmap(head.permissive_bits - removed) + policy[end:]


def same_but_permissive(one: bytes, other: bytes) -> bool:
    """Tell whether two kernel policies differ in their permissive types at most.

    :raises PolicyFormatError: one of them is not a kernel policy
    """
    (start, end), (other_start, other_end) = parse_head(one).span, parse_head(other).span
    return one[:start] == other[:other_start] and one[end:] == other[other_end:]


def render_ebitmap(bits: Iterable[int]) -> bytes:
    """Return an ebitmap in the format of ebitmap_read(): unit, high bit, node count, then ascending (start bit, 64-bit map)."""
    nodes: dict[int, int] = {}
    for bit in bits:
        start = bit - bit % MAP_UNIT
        nodes[start] = nodes.get(start, 0) | 1 << (bit - start)
    high = max(nodes) + MAP_UNIT if nodes else 0
    out = [struct.pack("<III", MAP_UNIT, high, len(nodes))]
    out += [struct.pack("<IQ", start, nodes[start]) for start in sorted(nodes)]
    return b"".join(out)


class _Reader:
    """A read position in the bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def numbers(self, count: int) -> tuple[int, ...]:
        values: tuple[int, ...] = struct.unpack_from(f"<{count}I", self.data, self.at)
        self.at += 4 * count
        return values

    def number(self) -> int:
        return self.numbers(1)[0]

    def text(self, length: int) -> bytes:
        piece = self.data[self.at : self.at + length]
        if len(piece) != length:
            raise IndexError("truncated text")
        self.at += length
        return piece

    def ebitmap(self) -> frozenset[int]:
        unit, _high, count = self.numbers(3)
        if unit != MAP_UNIT or count > MAX_ITEMS:
            raise IndexError(f"ebitmap of unit {unit}")
        bits: set[int] = set()
        for _ in range(count):
            start, word = struct.unpack_from("<IQ", self.data, self.at)
            self.at += 12
            bits.update(start + bit for bit in range(MAP_UNIT) if word >> bit & 1)
        return frozenset(bits)

    def skip_ebitmap(self) -> None:
        unit, _high, count = self.numbers(3)
        if unit != MAP_UNIT or count > MAX_ITEMS:
            raise IndexError(f"ebitmap of unit {unit}")
        self.at += 12 * count

    def count(self) -> int:
        """Return the number of entries of a table (its second number; the first counts primary names)."""
        entries = self.numbers(2)[1]
        if entries > MAX_ITEMS:
            raise IndexError(f"table of {entries} entries")
        return entries


def _head(reader: _Reader) -> PolicyHead:
    version, _config = _preamble(reader)
    if version < OLDEST_VERSION:
        raise PolicyFormatError(f"policy version {version} is older than {OLDEST_VERSION}")
    reader.skip_ebitmap()  # policy capabilities
    start = reader.at
    permissive = reader.ebitmap()
    span = (start, reader.at)
    if version >= NEVERAUDIT:
        reader.skip_ebitmap()
    for _ in range(reader.count()):
        _skip_common(reader)
    for _ in range(reader.count()):
        _skip_class(reader, version)
    for _ in range(reader.count()):
        _skip_role(reader)
    types = dict(filter(None, (_read_type(reader) for _ in range(reader.count()))))
    return PolicyHead(version, types, permissive, span)


def _preamble(reader: _Reader) -> tuple[int, int]:
    """Return version and configuration flags."""
    magic, length = reader.numbers(2)
    if magic != MAGIC or reader.text(length) != IDENTITY:
        raise PolicyFormatError("wrong magic number")
    version, config, _symbols, _contexts = reader.numbers(4)
    return version, config


def _skip_permissions(reader: _Reader, count: int) -> None:
    for _ in range(count):
        reader.text(reader.numbers(2)[0])


def _skip_common(reader: _Reader) -> None:
    length, _value, _primary, permissions = reader.numbers(4)
    reader.text(length)
    _skip_permissions(reader, permissions)


def _skip_class(reader: _Reader, version: int) -> None:
    length, common_length, _value, _primary, permissions, constraints = reader.numbers(6)
    reader.text(length + common_length)
    _skip_permissions(reader, permissions)
    _skip_constraints(reader, constraints, version)
    _skip_constraints(reader, reader.number(), version)  # validatetrans
    if version >= NEW_OBJECT_DEFAULTS:
        reader.numbers(3)
    if version >= DEFAULT_TYPE:
        reader.number()


def _skip_constraints(reader: _Reader, count: int, version: int) -> None:
    for _ in range(count):
        _permissions, expressions = reader.numbers(2)
        for _ in range(expressions):
            if reader.numbers(3)[0] != EXPRESSION_NAMES:
                continue
            reader.skip_ebitmap()
            if version >= CONSTRAINT_NAMES:
                reader.skip_ebitmap()
                reader.skip_ebitmap()
                reader.number()


def _skip_role(reader: _Reader) -> None:
    reader.text(reader.numbers(3)[0])
    reader.skip_ebitmap()
    reader.skip_ebitmap()


def _read_type(reader: _Reader) -> Optional[tuple[str, int]]:
    length, value, properties, _bounds = reader.numbers(4)
    name = reader.text(length).decode("ascii", "replace")
    return None if properties & (TYPE_IS_PRIMARY | TYPE_IS_ATTRIBUTE) != TYPE_IS_PRIMARY else (name, value)
