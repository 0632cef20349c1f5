"""The `explain` command: print the meaning and the source of a code that another command printed."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from sepolicyd.cli import terminal
from sepolicyd.cli.options import settings_from, state_options
from sepolicyd.errors import UsageError
from sepolicyd.problems import ProblemCode
from sepolicyd.rollout.doctor.codes import DoctorCode
from sepolicyd.rollout.learning.taint import TaintCode
from sepolicyd.rules.guard.guard import explain, load_guard
from sepolicyd.services.registry import setup_codes

OTHER_CODES: tuple[type[ProblemCode], ...] = (DoctorCode, *setup_codes(), TaintCode)


@click.command("explain")
@click.argument("codes", nargs=-1, metavar="[CODE]...")
@state_options
def explain_command(codes: tuple[str, ...], **paths: Optional[Path]) -> None:
    """Explain what a code means and where it comes from.

    R-, W- and D-001, D-002 are findings of the guard, D- of doctor, I- of init, T- taints of evidence. Without a code: all.

    \b
    Example:
      sepolicyd explain R-003 D-AUDITD
    """
    guard = load_guard(settings_from(**paths).policy_dirs)
    others = {code.upper(): code for kind in OTHER_CODES for code in kind}
    known = [*guard.codes, *others]
    for code in (code.upper() for code in codes or known):
        if code in others:
            text = f"{others[code]}: {others[code].meaning}\nSource: {others[code].source}"
        elif code in guard.codes:
            text = explain(guard, code)
        else:
            raise UsageError(f"unknown code {code}", "to list all codes, run: sepolicyd explain")
        terminal.print_out(terminal.escape_lines(text) + "\n")
