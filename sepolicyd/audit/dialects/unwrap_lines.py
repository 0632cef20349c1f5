"""Rejoin records that a mail program, a terminal or a web page has wrapped over several lines.

Mail programs wrap at a blank; terminals and forms wrap after a fixed number of columns, possibly in the middle of a word.
Values are rejoined across a break, but permissions are not: ``{ nam`` and ``e_connect }`` may be one permission or two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional

MAX_LINES = 12
MAX_WIDTH = 240
_BEGINS_ANEW = re.compile(
    r"avc:|\baudit\(|\bop=security_|\bSELINUX_ERR |\btype=[A-Z0-9]|^\s*$|^\W*-{3,}\s*$|^\W*(?:`{3}|={3,})"
)
_QUOTE = re.compile(r"^[\s>#|*]*(?=[>#|*])[\s>#|*]*")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*=")
_LAST_FIELD = re.compile(r"[a-z0-9_]*\s*permissive=[01]")
_WORD = re.compile(r"[A-Za-z0-9_]")


class Folded(NamedTuple):
    """The result of joining lines."""

    text: str
    lines: int
    """Number of following lines that were joined."""
    split: bool
    """Whether a permission may have been split."""


def following(lines: Sequence[str]) -> list[str]:
    """Return the following lines that may continue a record: up to a blank line, a fence or the next record."""
    found: list[str] = []
    for line in lines[:MAX_LINES]:
        if _BEGINS_ANEW.search(line):
            break
        found.append(line)
    return found


def unfold(first: str, more: Sequence[str], accept: Callable[[str], bool], *, loose: bool = False) -> Optional[Folded]:
    """Return the record that begins on the first line, None if the following lines do not complete it.

    :param accept: tells whether a text is a whole record
    :param loose: the record has no recognizable end and continues with every line that begins with a field
    """
    lines = [_unquote(first), *(_unquote(line) for line in more)]
    joined, split = lines[0], False
    best = Folded(joined, 0, split) if accept(joined) else None
    for number in range(1, len(lines)):
        width = max(map(len, lines[:number]))
        if (
            best is not None
            and not _goes_on(lines, number, width, joined)
            and not (loose and _KEY.match(lines[number].lstrip()))
        ):
            break
        joined, doubt = _join(joined, lines[number - 1], lines[number], width, number)
        split = split or doubt
        if accept(joined):
            best = Folded(joined, number, split)
    return best


def _unquote(line: str) -> str:
    """Return the line without quotation marks of a mail; a leading blank belongs to the record."""
    found = _QUOTE.match(line)
    return line[found.end() :] if found else line


def _goes_on(lines: Sequence[str], number: int, width: int, joined: str) -> bool:
    """Tell whether a whole record may continue: its last line is full, or the next line is its last field."""
    if re.search(r"permissive=[01]", joined):
        return False
    if _LAST_FIELD.match(lines[number]) or _is_half_key(joined.rpartition(" ")[2], lines[number]):
        return True
    return number > 1 and len(lines[number - 1]) == width <= MAX_WIDTH


def _join(joined: str, left: str, right: str, width: int, number: int) -> tuple[str, bool]:
    """Return the text joined with the next line, and whether a permission may have been split."""
    if not left.strip():
        return joined.rstrip() + " " + right.lstrip(), False
    at_blank = left[-1:].isspace() or right[:1].isspace() or (number > 1 and len(left) < width)
    inside_braces = joined.count("{") > joined.count("}")
    if inside_braces:
        touching = bool(_WORD.match(left[-1:]) and _WORD.match(right[:1]))
        return joined.rstrip() + " " + right.lstrip(), touching and not at_blank
    if at_blank or right.startswith(("{", "}")):
        return joined.rstrip() + " " + right.lstrip(), False
    last_word = joined.rpartition(" ")[2]
    if "=" in last_word and _KEY.match(right) and not _is_middle_of_key(last_word, right):
        return joined + " " + right, False
    if "=" not in last_word and not _is_half_key(last_word, right) and last_word + _first_word(right) not in _WORDS:
        return joined + " " + right, False
    return joined + right, False


_KEYS = frozenset({"type", "msg", "pid", "comm", "name", "path", "dev", "ino", "scontext", "tcontext", "tclass", "permissive",
                   "capability", "src", "dest", "ioctlcmd", "exe", "sauid", "hostname", "addr", "terminal", "cmdline",
                   "uid", "gid", "auid"})  # fmt: skip


_WORDS = frozenset({"avc:", "denied", "granted", "for"})


def _first_word(right: str) -> str:
    return right.partition(" ")[0]


def _is_half_key(word: str, right: str) -> bool:
    """Tell whether a word and the beginning of the next line form one key (``permiss`` and ``ive=0``)."""
    rest = right.partition("=")
    return bool(rest[1]) and (word + rest[0]) in _KEYS and rest[0] not in _KEYS


def _is_middle_of_key(word: str, right: str) -> bool:
    """Tell whether ``key=`` on the next line is the rest of a value (for ``tcon`` ``text=`` see :func:`_is_half_key`)."""
    return right.partition("=")[0] not in _KEYS and word.endswith(("/", ".", "-", ":", "="))
