"""The `doctor` command: check this machine for conditions that would spoil a rollout, and print the repair of each."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from sepolicyd.cli import terminal
from sepolicyd.cli.options import json_option, profile_option, state_options
from sepolicyd.cli.session import open_session
from sepolicyd.errors import Exit
from sepolicyd.problems import Severity
from sepolicyd.rollout.doctor import examine

WORDS = {Severity.STOP: ("must mend", "red"), Severity.WARN: ("warning", "yellow"), Severity.NOTE: ("note", "cyan")}


@click.command("doctor")
@json_option
@profile_option
@state_options
def doctor_command(as_json: bool, profile_name: Optional[str], **paths: Optional[Path]) -> int:
    """Check the machine for problems that would spoil a rollout, and say how to fix each.

    Exit code 1 if a problem must be fixed before a rollout.

    \b
    Example:
      sepolicyd doctor
    """
    session = open_session(profile_name, **paths)
    findings = examine.examine(session.settings, session.profile)
    if as_json:
        terminal.print_json(
            [{"code": one.code, "level": one.level.name.lower(), "what": one.what, "mend": one.hint} for one in findings]
        )
    for finding in () if as_json else findings:
        word, colour = WORDS[finding.level]
        terminal.print_out(f"{terminal.style(word.ljust(9), fg=colour)} {finding.code} {terminal.escape(finding.what)}")
        if finding.hint:
            terminal.print_out(f"          {terminal.escape(finding.hint)}")
    if not findings:
        terminal.print_err("nothing found")
    return int(Exit.FINDINGS if any(one.level is Severity.STOP for one in findings) else Exit.DONE)
