"""explain: a finding's code in; what it means, what to do instead and where that is from out."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from sepolicyd.cli import terminal
from sepolicyd.cli.options import settings_from, state_options
from sepolicyd.errors import UsageError
from sepolicyd.rules.guard.guard import explain, load_guard


@click.command("explain")
@click.argument("codes", nargs=-1, metavar="[CODE]...")
@state_options
def explain_command(codes: tuple[str, ...], **paths: Optional[Path]) -> None:
    """Tell what a finding's code means and where it comes from.

    Without a code: all of them.

    \b
    Example:
      sepolicyd explain R-003
    """
    guard = load_guard(settings_from(**paths).policy_dirs)
    known = guard.codes
    for code in codes or known:
        if code.upper() not in known:
            raise UsageError(f"no finding has the code {code}", "`sepolicyd explain` lists them all")
        terminal.data(terminal.escape_lines(explain(guard, code.upper())) + "\n")
