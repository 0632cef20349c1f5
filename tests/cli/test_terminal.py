"""Hostile names on the terminal: always one line, and never identical to another name."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sepolicyd.cli.terminal import escape, escape_command


@pytest.mark.parametrize(
    "text", ["", "jupyterhub", "/srv/a b/[x]{1}~`'\"", "caf\u00e9", "\u00fcber", "\u6f22\u5b57", "\u3072\u3089"]
)
def test_plain_text_stays(text: str) -> None:
    assert escape(text) == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\x1b[31m", "\\x1b[31m"),
        ("a\u202eb", "a\\u202eb"),
        ("admin", "\u0430dmin"),  # Cyrillic a
        ("host", "h\u03bfst"),  # Greek omicron
        ("file", "\ufb01le"),  # ligature
        ("a", "\uff41"),  # full width
        ("ab", "a\u200bb"),  # zero width space
        ("\u00e9", "e\u0301"),  # composed and combining
        ("sudo", "sud\u043e"),
        ("i", "\u0131"),  # dotless i
        ("a b", "a\u00a0b"),  # no-break space
        ("a/b", "a\u2215b"),  # division slash
        ("a-b", "a\u2010b"),  # hyphen
        ("K", "\u212a"),  # kelvin sign
    ],
)
def test_names_that_look_alike_are_shown_differently(one: str, other: str) -> None:
    assert escape(one) != escape(other)
    skeleton = unicodedata.normalize("NFKD", escape(other))
    assert skeleton != escape(one), "not only another code point: another picture"


@given(st.text())
def test_one_printable_line(text: str) -> None:
    shown = escape(text)
    assert shown.isprintable()
    assert not any(unicodedata.combining(char) for char in shown)


@given(st.text(alphabet="\\\\xu01bf\x1b\u202e\u0430a"), st.text(alphabet="\\\\xu01bf\x1b\u202e\u0430a"))
def test_different_names_are_never_shown_alike(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) is (one == other)


def test_a_command_can_be_pasted() -> None:
    command = r"semanage fcontext -a -t etc_t '/etc/hub\.conf'"
    assert escape_command(command) == command
    assert escape_command("restorecon /srv/\u202ex") == "restorecon /srv/\\u202ex"
