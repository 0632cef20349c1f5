"""The `report` command: a page about one rollout, a bundle that can be verified elsewhere, or reports to policy maintainers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Optional

import click

from sepolicyd.cli import terminal
from sepolicyd.cli.options import policy_option, state_options
from sepolicyd.cli.session import open_session
from sepolicyd.errors import Exit
from sepolicyd.storage.files import write_whole


@click.command("report")
@click.argument("service", metavar="SERVICE")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write there [default: SERVICE-report.html]."
)
@policy_option
@state_options
def report_command(service: str, output: Optional[Path], policy_file: Optional[Path], **paths: Optional[Path]) -> int:
    """Write a report on a service's rollout.

    One HTML page that needs no network and no script: what the service may do and since which decision, what was refused,
    what was loaded, the leases, what was learnt, and what each domain reaches before and after.

    \b
    Example:
      sepolicyd report jupyterhub -o jupyterhub.html
    """
    session = open_session(service, **paths)
    now = time.time()
    from sepolicyd.report.collect import collect
    from sepolicyd.report.page import render

    text = render(collect(session, now, policy_file)).encode()
    target = output or Path(f"{session.profile.name}-report.html")
    write_whole(target, text, mode=0o600)
    terminal.print_err(f"{terminal.escape(str(target))}: {len(text) / 1e6:.1f} MB; it names users and paths of this machine")
    return int(Exit.DONE)
