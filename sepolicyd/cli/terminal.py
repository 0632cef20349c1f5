"""Values in, terminal text out: everything that came from a log is escaped here, and nowhere else is colour decided."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import click

from sepolicyd.rules.candidate import Candidate

# Categories that a terminal may obey or that hide what stands there: controls, formats (bidi overrides), surrogates,
# private use, unassigned, line and paragraph separators.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def escape(text: str) -> str:
    """The text on one line with everything invisible or obeyed by a terminal written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape_char(char) for char in text)


def escape_lines(text: str) -> str:
    """As :func:`escape`, line by line."""
    return "\n".join(escape(line) for line in text.split("\n"))


def _escape_char(char: str) -> str:
    if unicodedata.category(char) not in _HIDDEN:
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def wants_colour() -> bool:
    """Colour only on a terminal, never with NO_COLOR (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def style(text: str, **how: Any) -> str:
    return click.style(text, **how) if wants_colour() else text


LEVEL_COLOURS = {"refuse": "red", "review": "yellow", "note": "cyan", "none": "green"}


def level(name: str, width: int = 0) -> str:
    return style(name.ljust(width), fg=LEVEL_COLOURS.get(name, "white"), bold=name == "refuse")


def data(text: str = "") -> None:
    """Print data to stdout."""
    click.echo(text)


def talk(text: str) -> None:
    """Say something to the person, on stderr."""
    click.echo(text, err=True)


def print_json(value: Any) -> None:
    # ensure_ascii keeps a hostile name from reaching the terminal of somebody who looks at the JSON.
    click.echo(json.dumps(value, indent=2, sort_keys=False, ensure_ascii=True))


def plural(count: int, noun: str, many: str = "") -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {many or noun + 's'}"


def when(seconds: float) -> str:
    """Epoch seconds as local time to the second, "-" for none."""
    if not seconds:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, tz=timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return f"@{seconds:.0f}"


def duration(seconds: float) -> str:
    """Seconds as "1 h 5 min", "40 s"."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if minutes:
        return f"{minutes} min {left} s" if left and minutes < 10 else f"{minutes} min"
    return f"{left} s"


def some(values: Sequence[Any], limit: int = 4) -> str:
    """The first few values, escaped, and how many more there are."""
    shown = ", ".join(escape(str(value)) for value in values[:limit])
    return f"{shown} and {len(values) - limit} more" if len(values) > limit else shown


def asked(candidate: Candidate) -> str:
    """The accesses of a candidate on one line; the names are the log's, so they are escaped."""
    return escape(f"{candidate.source} {candidate.target}:{candidate.tclass} {{ {' '.join(candidate.permissions)} }}")


def table(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> list[str]:
    """Columns aligned by plain width; the last column is not padded."""
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
