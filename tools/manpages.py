"""Write man pages from the command tree: sepolicyd.8 and one page per command.

usage: python -m tools.manpages build/man
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from sepolicyd import __version__
from sepolicyd.cli.main import cli

EXIT_STATUS = (
    ("0", "done"),
    ("1", "findings, or refused: nothing has been changed that was not asked for"),
    ("2", "wrong usage, or a file that was named cannot be read"),
    ("3", "a tool failed; the command that failed is printed so that it can be pasted"),
)


def commands(
    group: click.Group, ctx: click.Context, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    """Yield every command below a group with its path and context, depth first, by name."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None, name
        child = click.Context(command, info_name=name, parent=ctx)
        yield (*path, name), command, child
        if isinstance(command, click.Group):
            yield from commands(command, child, (*path, name))


def tree() -> list[tuple[tuple[str, ...], click.Command, click.Context]]:
    return list(commands(cli, click.Context(cli, info_name="sepolicyd")))


def _roff(text: str) -> str:
    """Text as roff: backslashes and leading dots mean something there."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line for line in escaped.split("\n"))


def _paragraphs(text: str) -> Iterator[str]:
    for block in text.split("\n\n"):
        if block.startswith("\b"):
            yield ".nf\n" + _roff(block.lstrip("\b").strip("\n")) + "\n.fi"
        else:
            yield ".PP\n" + _roff(" ".join(block.split()))


def page(path: tuple[str, ...], command: click.Command, ctx: click.Context) -> str:
    """Return the man page of one command."""
    import inspect

    name = "-".join(("sepolicyd", *path))
    text = inspect.cleandoc(command.help or "")
    usage = " ".join(command.collect_usage_pieces(ctx))
    parts = [
        f'.TH "{name.upper()}" "8" "" "sepolicyd {__version__}" "System administration"',
        f".SH NAME\n{_roff(name)} \\- {_roff(command.get_short_help_str(200).rstrip('.'))}",
        f".SH SYNOPSIS\n.B {_roff(' '.join(('sepolicyd', *path)))}\n{_roff(usage)}",
        ".SH DESCRIPTION\n" + "\n".join(_paragraphs(text)),
    ]
    records = [record for record in (param.get_help_record(ctx) for param in command.get_params(ctx)) if record]
    if records:
        parts.append(".SH OPTIONS\n" + "\n".join(f".TP\n.B {_roff(names)}\n{_roff(about)}" for names, about in records))
    if isinstance(command, click.Group):
        listed = [(sub, command.get_command(ctx, sub)) for sub in command.list_commands(ctx)]
        parts.append(
            ".SH COMMANDS\n"
            + "\n".join(f".TP\n.B {_roff(sub)}\n{_roff(found.get_short_help_str(200))}" for sub, found in listed if found)
        )
    parts.append(".SH EXIT STATUS\n" + "\n".join(f".TP\n.B {code}\n{_roff(what)}" for code, what in EXIT_STATUS))
    parts.append(
        ".SH FILES\n.TP\n.I /etc/sepolicyd/config.yaml\nconfiguration\n"
        ".TP\n.I /var/lib/sepolicyd\nevidence, decisions, journals"
    )
    return "\n".join(parts) + "\n"


def pages() -> dict[str, str]:
    """File name -> text of every page."""
    root = click.Context(cli, info_name="sepolicyd")
    made = {"sepolicyd.8": page((), cli, root)}
    for path, command, ctx in tree():
        made["-".join(("sepolicyd", *path)) + ".8"] = page(path, command, ctx)
    return made


def main(directory: str) -> None:
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (target / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
