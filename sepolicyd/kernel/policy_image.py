"""Parser for the head of a binary kernel policy: type names and permissive types; also writes the policy with types closed.

Standard library only: what ends a lease must not depend on setools. The layout is that of the kernel's
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
MAX_ITEMS = 1 << 22  # a count above this is no policy


class PolicyFormatError(ValueError):
    """The bytes are not a kernel policy that this reader knows."""


@dataclass(frozen=True)
class PolicyHead:
    """``types`` maps a type's name to its value; the permissive map's bits are those values.

    ``span`` is where the permissive map lies in the bytes (start, end).
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

    :raises PolicyFormatError: other magic, a version below 24, or cut short
    """
    reader = _Reader(policy)
    try:
        return _head(reader)
    except (struct.error, IndexError) as error:
        raise PolicyFormatError(f"policy ends or breaks at byte {reader.at}: {error}") from None


def is_mls(policy: bytes) -> bool:
    """Tell whether a kernel policy has levels (MLS or MCS).

    :raises PolicyFormatError: not a kernel policy
    """
    reader = _Reader(policy)
    try:
        return bool(_preamble(reader)[1] & CONFIG_MLS)
    except (struct.error, IndexError) as error:
        raise PolicyFormatError(f"policy ends or breaks at byte {reader.at}: {error}") from None


def without_permissive(policy: bytes, names: Iterable[str]) -> bytes:
    """The same policy in which these types are not permissive; unknown names are passed over. The same bytes if none was."""
    head = parse_head(policy)
    gone = {head.types[name] for name in names if name in head.types}
    if not gone & head.permissive_bits:
        return policy
    start, end = head.span
    return policy[:start] + render_ebitmap(head.permissive_bits - gone) + policy[end:]


def same_but_permissive(one: bytes, other: bytes) -> bool:
    """Tell whether two kernel policies are equal in everything but the set of permissive types.

    :raises PolicyFormatError: one of them is not a kernel policy
    """
    (start, end), (other_start, other_end) = parse_head(one).span, parse_head(other).span
    return one[:start] == other[:other_start] and one[end:] == other[other_end:]


def render_ebitmap(bits: Iterable[int]) -> bytes:
    """An ebitmap as ebitmap_read() wants it: unit, high bit and number of nodes, then (start bit, 64-bit map) ascending."""
    nodes: dict[int, int] = {}
    for bit in bits:
        start = bit - bit % MAP_UNIT
        nodes[start] = nodes.get(start, 0) | 1 << (bit - start)
    high = max(nodes) + MAP_UNIT if nodes else 0
    out = [struct.pack("<III", MAP_UNIT, high, len(nodes))]
    out += [struct.pack("<IQ", start, nodes[start]) for start in sorted(nodes)]
    return b"".join(out)


class _Reader:
    """A position in the bytes that moves on with each read."""

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
            raise IndexError("text cut short")
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
        """The number of entries of a table (its second number; the first is the number of primary names)."""
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
        raise PolicyFormatError("the magic number is another one")
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
