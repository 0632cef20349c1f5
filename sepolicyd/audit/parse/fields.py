"""The ``key=value`` text of a record body in, decoded fields out; also hex strings, socket addresses and whole paths."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Optional

# A value ends at its closing quote, or, unquoted (ausearch -i writes blanks bare), where the next key begins.
_FIELD = re.compile(
    r"""(?P<key>[A-Za-z_][A-Za-z0-9_-]*)=(?:"(?P<quoted>[^"]*)"|(?P<bare>[^\s"]*(?:\s+(?![A-Za-z_][A-Za-z0-9_-]*=)[^\s"]+)*))"""
)
_HEX = re.compile(r"(?:[0-9A-F]{2})+\Z|(?:[0-9a-f]{2})+\Z")
_ENCODED = frozenset({"comm", "exe", "name", "path", "cwd", "key", "ocomm", "proctitle", "srawcon", "trawcon", "cmd"})
_ABSENT = frozenset({"(null)", "(none)", "?", '""'})


def fields_of(text: str) -> dict[str, str]:
    """Decoded fields; of a key that comes twice, the first stays. Values of ``_ENCODED`` keys lose their hex."""
    found: dict[str, str] = {}
    for match in _FIELD.finditer(text):
        key = match["key"]
        if key in found:
            continue
        quoted = match["quoted"]
        if quoted is not None:
            found[key] = quoted
        else:
            bare = match["bare"].rstrip(" ,")
            found[key] = text_of(bare) if key in _ENCODED else bare
    return found


def text_of(bare: str) -> str:
    """An unquoted value as text.

    audit_log_n_untrustedstring (kernel/audit.c) writes hex exactly where the string holds a quote, a blank, a control
    or a non-ASCII byte; so digits that decode to none of those are the text itself (``name=63`` of ausearch -i).
    """
    if bare in _ABSENT:
        return ""
    if len(bare) < 2 or _HEX.match(bare) is None:
        return bare
    data = bytes.fromhex(bare)
    if all(0x21 <= byte <= 0x7E and byte != 0x22 for byte in data):
        return bare
    return data.decode("utf-8", "backslashreplace")


def value_of(text: str) -> str:
    """A value as it stands in a raw record: quoted, or hex."""
    return text[1:-1] if text[:1] == '"' else text_of(text)


def integer(text: Optional[str]) -> Optional[int]:
    """A decimal number of sane length, else None."""
    if text is None:
        return None
    text = text.rstrip(",")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def hex_integer(text: str) -> Optional[int]:
    """``0x5401`` and, as kernels before 4.? wrote it, ``5401``; None for a name (``TCGETS`` of ausearch -i)."""
    try:
        return int(text, 16) if len(text) < 20 else None
    except ValueError:
        return None


def sockaddr(saddr: str) -> str:
    """``saddr`` hex of a SOCKADDR record as ``inet 127.0.0.1 8000``, ``unix /run/x``, ``unix @abstract``, ``netlink 0``.

    The family is in host order: little endian on all machines that Debian and Fedora support but s390x, where the
    first byte is 0. An unknown family gives ``family N``, a broken value "".
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
        return "@" + name.decode("utf-8", "backslashreplace") if name else ""
    return data.split(b"\0")[0].decode("utf-8", "backslashreplace")


def arguments(fields: Mapping[str, str]) -> str:
    """The command line of an EXECVE record: a0= a1= ... (a2[0]= a2[1]= for long ones), blanks between."""
    parts = []
    for number in range(min(integer(fields.get("argc")) or 0, 64)):
        part = fields.get(f"a{number}")
        if part is None:
            break
        parts.append(text_of(part))
    return " ".join(parts)


def full_path(name: str, ino: str, items: Sequence[Mapping[str, str]], cwd: str, tclass: str) -> str:
    """The path that the PATH records of the event give to the AVC's object, "" where they do not tell.

    The item with the AVC's inode; else the one with the AVC's name as its last component; else, for a directory that
    was passed on the way, the path up to that component when it occurs once. dev and ino are never guessed from.
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
