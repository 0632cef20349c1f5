"""Separate and decode the ``key=value`` fields of a record's body. Fields are separated before any value is decoded.

The kernel writes strings controlled by a process with audit_log_untrustedstring (kernel/audit.c): quoted and verbatim if every
byte is printable ASCII other than blank and quote, otherwise as unquoted upper-case hexadecimal digits. Therefore a quoted
value ends at the next quote and needs no decoding.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

SEPARATOR = "\x1d"  # auditd's log_format=ENRICHED: auditd adds names for numbers after it
# Some kernels write no blank between a quote and the next key (dev=""ino=1); all other fields are separated by blanks.
FIELD = re.compile(r'[ \t]*(?P<key>[A-Za-z_][A-Za-z0-9_.\[\]-]*)=(?P<value>"[^"]*"|[^ \t"]*)')
_HEX = re.compile(r"(?:[0-9A-F]{2})+\Z|(?:[0-9a-f]{2})+\Z")
_ARGUMENT = re.compile(r"a[0-9]+(?:\[[0-9]+\])?\Z")
ENCODED = frozenset({"comm", "exe", "name", "path", "cwd", "key", "ocomm", "proctitle", "srawcon", "trawcon", "cmd",
                      "kmod", "key_desc", "invalid_context"})  # fmt: skip
_ABSENT = frozenset({"(null)", "(none)", "?"})
# A byte that is not UTF-8 becomes \xNN; a backslash before such digits becomes \x5c, so that bytes_of is the inverse.
_LIKE_ESCAPE = re.compile(rb"\\(?=x(?:5c|[89a-f][0-9a-f]))")
_ESCAPE = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")
_NOT_UTF8 = {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)}
MAX_ARGUMENTS = 256


class Fields(NamedTuple):
    """Fields from the left, up to the first word that is not a field."""

    values: dict[str, str]
    """Decoded values by key; the first value of a repeated key counts."""
    twice: frozenset[str]
    end: int
    """Offset at which parsing stopped: the length of the text, or the first word that is not a field."""


def read_fields(text: str, start: int = 0) -> Fields:
    """Separate and decode the fields of a body."""
    values: dict[str, str] = {}
    twice = set()
    end = start
    while (match := FIELD.match(text, end)) is not None:
        key = match["key"]
        if key in values:
            twice.add(key)
        else:
            values[key] = value_of(match["value"], encoded=key in ENCODED)
        end = match.end()
    return Fields(values, frozenset(twice), end)


def value_of(written: str, *, encoded: bool = True) -> str:
    """Decode a value as written by the kernel: quoted, or bare and, for some keys, hexadecimal.

    audit_log_untrustedstring uses hexadecimal digits only if a byte requires it, so digits that decode to printable characters
    only are literal text.
    """
    if written[:1] == '"':
        return written[1:-1]
    if not encoded or len(written) < 2 or _HEX.match(written) is None:
        return "" if written in _ABSENT else written
    data = bytes.fromhex(written)
    return written if all(0x21 <= byte <= 0x7E and byte != 0x22 for byte in data) else text(data)


def text(data: bytes) -> str:
    """Return bytes as text that can be stored anywhere; the mapping is injective (:func:`bytes_of` is the inverse)."""
    if b"\\x" in data:
        data = _LIKE_ESCAPE.sub(rb"\\x5c", data)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape").translate(
            _NOT_UTF8
        )  # faster than backslashreplace, which takes 1 µs per byte


def bytes_of(shown: str) -> bytes:
    """Return the bytes of a text made by :func:`text`."""
    data = shown.encode("utf-8", "surrogatepass")
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), data) if b"\\x" in data else data


def integer(digits: Optional[str]) -> Optional[int]:
    """Return a decimal number of at most 19 digits, else None."""
    if digits is None:
        return None
    digits = digits.rstrip(",")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None


def hex_integer(digits: str) -> Optional[int]:
    """Parse ``0x5401`` or, from older kernels, ``5401``; None for a name (``TCGETS`` from ausearch -i)."""
    try:
        return int(digits, 16) if len(digits) < 20 else None
    except ValueError:
        return None


def sockaddr(saddr: str) -> str:
    """Decode ``saddr`` of a SOCKADDR record to ``inet 127.0.0.1 8000``, ``unix /run/x``, ``unix @abstract`` or ``netlink 0``.

    The family is in host byte order: little endian on all architectures of Debian and Fedora except s390x, where the first
    byte is 0. An unknown family gives ``family N``; a value that is not hexadecimal gives "".
    """
    try:
        data = bytes.fromhex(saddr)
    except ValueError:
        return ""
    if len(data) < 2:
        return ""
    family = data[0] or data[1]
    if family == 2 and len(data) >= 8:
        return f"inet {'.'.join(map(str, data[4:8]))} {int.from_bytes(data[2:4], 'big')}"
    if family == 10 and len(data) >= 24:
        from ipaddress import IPv6Address

        return f"inet6 {IPv6Address(data[8:24])} {int.from_bytes(data[2:4], 'big')}"
    if family == 1:
        return f"unix {_unix(data[2:])}".rstrip()
    if family == 16 and len(data) >= 8:
        return f"netlink {int.from_bytes(data[4:8], 'little')}"
    return f"family {family}"


def _unix(data: bytes) -> str:
    if data[:1] == b"\0":
        name = data[1:].split(b"\0")[0]
        return "@" + text(name) if name else ""
    return text(data.split(b"\0")[0])


def command_line(body: str) -> str:
    """Return the command line of an EXECVE record, quoted for a shell, so that shlex.split returns the arguments.

    The kernel writes a long argument in parts (``a1_len=`` ``a1[0]=`` ``a1[1]=``, audit_log_execve_info in kernel/auditsc.c).
    Parts are joined as bytes, because a part may end inside a character.
    """
    parts: dict[int, bytearray] = {}
    end = 0
    while (match := FIELD.match(body, end)) is not None:
        end = match.end()
        key, written = match["key"], match["value"]
        if _ARGUMENT.match(key) is None:
            continue
        number, _, part = key[1:].partition("[")
        if len(number) < 9 and int(number) < MAX_ARGUMENTS:
            parts.setdefault(int(number), bytearray()).extend(_argument(written, in_parts=bool(part)))
    return shlex.join(text(bytes(parts[number])) for number in sorted(parts))


def _argument(written: str, *, in_parts: bool) -> bytes:
    if written[:1] == '"':
        return bytes_of(written[1:-1])
    if in_parts and _HEX.match(written):
        return bytes.fromhex(written)
    return bytes_of(value_of(written, encoded=True))


def process_title(title: str) -> str:
    """Return a PROCTITLE value, whose arguments are separated by NUL bytes, as a command line quoted for a shell."""
    return shlex.join(title.rstrip("\0").split("\0")) if "\0" in title else title.rstrip()


def full_path(name: str, ino: str, items: Sequence[Mapping[str, str]], cwd: str, tclass: str) -> str:
    """Return the path of the AVC's object from the event's PATH records, "" if they do not contain it.

    Criteria in this order: the item with the AVC's inode; the item with the AVC's name as its last component; for a directory
    along the path, the path up to that component if it occurs once.
    """
    usable = [item for item in items if item.get("name") and item.get("nametype") != "UNKNOWN"]
    by_inode = [item for item in usable if ino and item.get("inode") == ino]
    by_name = [item for item in usable if name and _last(item["name"]) == name]
    for candidates in ([item for item in by_inode if item in by_name], by_inode, [] if ino and by_inode else by_name):
        if candidates:
            return _join(cwd, candidates[0]["name"])
    if tclass == "dir" and name and "/" not in name:
        for item in usable:
            parts = _join(cwd, item["name"]).split("/")
            if parts.count(name) == 1:
                return "/".join(parts[: parts.index(name) + 1])
    return ""


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _join(cwd: str, path: str) -> str:
    if path.startswith("/") or not cwd:
        return path
    return cwd.rstrip("/") + "/" + path.removeprefix("./")
