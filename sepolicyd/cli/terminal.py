"""Terminal output: escaping of text from the log, colour, tables, and forms of numbers and times."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import click

from sepolicyd.rules.candidate import Candidate

JSON_PIECE = 500
# Unicode categories that a terminal may interpret, that are invisible, or that change the preceding character: controls,
# formats (bidi overrides, zero width), surrogates, private use, unassigned, separators, combining marks.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs", "Mn", "Mc", "Me"}


def escape(text: str) -> str:
    r"""Return the text as one line in which every character is visible and unambiguous.

    Printable ASCII is kept, except that a backslash is doubled, so that a literal ``\x1b`` differs from an escaped control
    character. Invisible and combining characters are written as escapes, and so are characters that resemble others: those
    that NFKC normalization changes, and letters of all scripts but Latin and East Asian ones (Cyrillic and Greek letters
    look like Latin ones).
    """
    if text.isascii() and text.isprintable():
        return text.replace("\\", "\\\\")
    return "".join(_escape_char(char) for char in text)


def escape_command(line: str) -> str:
    """Return a command for pasting: unchanged if it is printable ASCII, otherwise escaped by :func:`escape`."""
    return line if line.isascii() and line.isprintable() else escape(line)


def escape_lines(text: str) -> str:
    """Apply :func:`escape` to each line of a text."""
    return "\n".join(escape(line) for line in text.split("\n"))


def _escape_char(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if char.isascii() and char.isprintable():
        return char
    if not _is_deceptive(char):
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_PLAIN_SCRIPTS = ("LATIN", "CJK UNIFIED", "HIRAGANA", "KATAKANA", "HANGUL SYLLABLE")


def _is_deceptive(char: str) -> bool:
    """Tell whether a character outside ASCII is invisible, is interpreted by a terminal, or resembles another one."""
    if unicodedata.category(char) in _HIDDEN or unicodedata.normalize("NFKC", char) != char:
        return True
    name = unicodedata.name(char, "")
    if not name.startswith(_PLAIN_SCRIPTS):
        return True
    # Accented letters (e acute) decompose and are recognizable; others, such as dotless i, may pass for an ASCII letter.
    return name.startswith("LATIN") and not unicodedata.decomposition(char)


def wants_colour() -> bool:
    """Colour only on a terminal, never with NO_COLOR (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def style(text: str, **how: Any) -> str:
    return click.style(text, **how) if wants_colour() else text


LEVEL_COLOURS = {"refuse": "red", "review": "yellow", "note": "cyan", "none": "green"}


def level(name: str, width: int = 0) -> str:
    return style(name.ljust(width), fg=LEVEL_COLOURS.get(name, "white"), bold=name == "refuse")


def print_out(text: str = "") -> None:
    """Print data to stdout."""
    click.echo(text)


def print_err(text: str) -> None:
    """Print a message to stderr."""
    click.echo(text, err=True)


def print_json(value: Any) -> None:
    """Print a value as JSON, one line for each key of the outermost object and for each element of its lists.

    Writes piece by piece, because the whole text of twenty thousand candidates takes hundreds of megabytes.
    """
    # ensure_ascii escapes hostile names, because the JSON may be displayed on a terminal.
    encode = json.JSONEncoder(ensure_ascii=True).encode
    if isinstance(value, Mapping) and value:
        for number, (key, one) in enumerate(value.items()):
            click.echo(f"{',' if number else '{'}\n  {encode(key)}: ", nl=False)
            _print_elements(one, encode, "  ")
        click.echo("\n}")
    else:
        _print_elements(value, encode, "")
        click.echo()


def _print_elements(value: Any, encode: Callable[[Any], str], indent: str) -> None:
    if not isinstance(value, list) or not value:
        click.echo(encode(value), nl=False)
        return
    for start in range(0, len(value), JSON_PIECE):
        lines = f",\n{indent}  ".join(map(encode, value[start : start + JSON_PIECE]))
        click.echo(f"{',' if start else '['}\n{indent}  {lines}", nl=False)
    click.echo(f"\n{indent}]", nl=False)


def plural(count: int, noun: str, many: str = "") -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {many or noun + 's'}"


def when(seconds: float) -> str:
    """Format epoch seconds as local time; 0 becomes "-"."""
    if not seconds:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, tz=timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return f"@{seconds:.0f}"


def duration(seconds: float) -> str:
    """Format seconds as "1 h 5 min" or "40 s"."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if minutes:
        return f"{minutes} min {left} s" if left and minutes < 10 else f"{minutes} min"
    return f"{left} s"


def first_few(values: Sequence[Any], limit: int = 4) -> str:
    """Return the first ``limit`` values, escaped, and the number of the others."""
    shown = ", ".join(escape(str(value)) for value in values[:limit])
    return f"{shown} and {len(values) - limit} more" if len(values) > limit else shown


def access_text(candidate: Candidate) -> str:
    """Return the accesses of a candidate on one line, escaped because the names come from the log."""
    return escape(f"{candidate.source} {candidate.target}:{candidate.tclass} {{ {' '.join(candidate.permissions)} }}")


def table(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> list[str]:
    """Align columns by their width without colour codes; the last column is not padded."""
    lines = [tuple(header)] if header else []
    lines += [tuple(row) for row in rows]
    if not lines:
        return []
    widths = [max(len(click.unstyle(line[column])) for line in lines) for column in range(len(lines[0]))]
    return [
        "  ".join(
            cell if column == len(line) - 1 else cell + " " * (widths[column] - len(click.unstyle(cell)))
            for column, cell in enumerate(line)
        ).rstrip()
        for line in lines
    ]
