"""The command group: load and call one command, and turn its result or failure into an exit code."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Optional

import click

from sepolicyd import __version__
from sepolicyd.cli.help_page import ABOUT, COMMANDS, MAX_WIDTH
from sepolicyd.errors import Exit, SepolicydError, ToolError

# Python looks for reference cycles at each 700 new objects; among the millions of a large list that is an eighth of the time.
YOUNG_OBJECTS = 50_000


class LazyGroup(click.Group):
    """A click group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"sepolicyd.cli.{entry[0]}")
        command = getattr(module, f"{cmd_name}_command")
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(COMMANDS.items())])


@click.group(
    cls=LazyGroup, help=ABOUT, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": MAX_WIDTH}
)
@click.version_option(__version__, prog_name="sepolicyd")
def cli() -> None:
    """Run the command group. Its help stands in help_page, which only --help imports."""


def run_cli(argv: Sequence[str]) -> int:
    """Run one command; the return value is the process's exit code (see errors.Exit)."""
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)
    try:
        returned = cli.main(args=list(argv), prog_name="sepolicyd", standalone_mode=False)
        return int(returned) if isinstance(returned, int) else int(Exit.DONE)
    except click.exceptions.Exit as ended:
        return int(ended.exit_code)
    except click.exceptions.Abort:
        print_err("stopped; all answers given so far are stored")
        return 130
    except click.ClickException as mistake:
        mistake.show(sys.stderr)
        return int(Exit.USAGE)
    except SepolicydError as failure:
        return report(failure)
    except KeyboardInterrupt:
        print_err("interrupted")
        return 130
    except BrokenPipeError:
        # The reader (head, less) has exited. Redirect stdout, or Python reports the broken pipe again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.DONE)


def print_err(text: str) -> None:
    """Print a message to stderr, prefixed with the program's name."""
    click.echo(f"sepolicyd: {text}", err=True)


def report(failure: SepolicydError) -> int:
    """Print an expected failure with its hint and the command that failed; return its exit code."""
    from sepolicyd.cli.terminal import escape_lines

    print_err(escape_lines(failure.what))
    command = getattr(failure, "command", "") if isinstance(failure, ToolError) else ""
    for line in (failure.hint, "" if command in failure.hint else f"the command was: {command}"):
        if line:
            click.echo(f"  {escape_lines(line)}", err=True)
    return int(failure.exit_code)
