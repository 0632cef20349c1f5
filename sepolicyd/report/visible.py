"""Text of logs and of persons as one line in which every character can be seen, for pages that a browser shows."""

from __future__ import annotations

from sepolicyd.cli.terminal import escape

PUNCTUATION = frozenset(
    "\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u2013\u2014\u2026\u20ac\u00a3\u00b0\u00a7\u00b1\u00d7\u2192"
)
"""Quotation marks, dashes and signs that people type, that are visible and that change nothing around them."""


def visible(text: str) -> str:
    """Return the text with invisible, directional and look-alike characters written as escapes.

    As :func:`sepolicyd.cli.terminal.escape`, but with the punctuation that word processors and phones put into a reason.
    """
    if PUNCTUATION.isdisjoint(text):
        return escape(text)
    return "".join(char if char in PUNCTUATION else escape(char) for char in text)
