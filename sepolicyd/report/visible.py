"""Convert text of logs and persons to one line of visible characters, for HTML pages."""

from __future__ import annotations

from sepolicyd.cli.terminal import escape

PUNCTUATION = frozenset(
    "\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u2013\u2014\u2026\u20ac\u00a3\u00b0\u00a7\u00b1\u00d7\u2192"
)
"""Typographic characters that are visible and do not affect the text around them."""


def visible(text: str) -> str:
    """Return the text with invisible, directional and look-alike characters written as escapes.

    Like :func:`sepolicyd.cli.terminal.escape`, but typographic punctuation in reasons is kept.
    """
    if PUNCTUATION.isdisjoint(text):
        return escape(text)
    return "".join(char if char in PUNCTUATION else escape(char) for char in text)
