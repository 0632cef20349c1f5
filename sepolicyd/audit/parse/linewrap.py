"""A record that mail, a terminal or a page has broken over lines in, the one line it was out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Optional

MAX_LINES = 10
_BEGINS_ANEW = re.compile(rb"avc:|\baudit\(|\btype=|^\s*$")
_QUOTE = re.compile(rb"^[\s>#|*]*")
_KEY = re.compile(rb"[A-Za-z_]+=")


def unwrap(line: bytes, following: bytes, accept: Callable[[bytes], bool]) -> tuple[Optional[bytes], int]:
    """(the joined line, how many bytes of ``following`` it took), or (None, 0) where no joining is accepted.

    Lines are added one by one until ``accept`` says that the record is whole; a blank line, or one on which another
    record begins, ends the search. A key on the next line begins a field; anything else goes on in the middle of one.
    """
    joined, consumed = line.rstrip(), 0
    for raw in following.split(b"\n", MAX_LINES)[:MAX_LINES]:
        if _BEGINS_ANEW.search(raw):
            break
        joined = _join(joined, _QUOTE.sub(b"", raw).rstrip(), line)
        consumed += len(raw) + 1
        if accept(joined):
            return _with_permissive(joined, following[consumed:], consumed)
    return None, 0


def _join(left: bytes, right: bytes, line: bytes) -> bytes:
    inside_braces = left.count(b"{") > left.count(b"}") or right.startswith((b"{", b"}"))
    value_goes_on = b"=" in left.rpartition(b" ")[2]
    glue = not inside_braces and value_goes_on and not _KEY.match(right) and not line.endswith((b" ", b"\t"))
    return left + (b"" if glue else b" ") + right


def _with_permissive(joined: bytes, rest: bytes, consumed: int) -> tuple[bytes, int]:
    last = rest.partition(b"\n")[0]
    text = _QUOTE.sub(b"", last).rstrip()
    if text.startswith(b"permissive="):
        return joined + b" " + text, consumed + len(last) + 1
    return joined, consumed
