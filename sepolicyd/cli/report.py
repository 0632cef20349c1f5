"""The `report` command: a page about one rollout, or the records behind it in a file that can be verified elsewhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Optional

import click

from sepolicyd.cli import terminal
from sepolicyd.cli.options import policy_option, state_options
from sepolicyd.cli.session import open_session
from sepolicyd.errors import Exit, UsageError
from sepolicyd.rollout.session import Session
from sepolicyd.storage.files import write_whole


@click.command("report")
@click.argument("service", metavar="SERVICE")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write there [default: SERVICE-report.html]."
)
@click.option("--bundle", type=click.Path(path_type=Path), metavar="FILE", help="Write the records behind the report to FILE.")
@click.option("--details", is_flag=True, help="Keep paths, commands and raw records in the bundle; they name users.")
@click.option("--upstream", is_flag=True, help="Print reports to policy maintainers: title, records, rule.")
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True),
    metavar="POLICY|DIR",
    help="Leave out of --upstream what this policy, or the newest in this directory, allows.",
)
@policy_option
@state_options
def report_command(
    service: str,
    output: Optional[Path],
    bundle: Optional[Path],
    details: bool,
    upstream: bool,
    against: Optional[Path],
    policy_file: Optional[Path],
    **paths: Optional[Path],
) -> int:
    """Write a report on a service's rollout.

    One HTML page without scripts and external resources: allowed accesses with their decisions, refused accesses, loaded
    versions, leases, exercises, and the reach of each domain before and after.

    With --bundle the records themselves: evidence, decisions, module sources, the exact difference and the histories, in a
    file that verify_bundle.py checks without sepolicyd. Its seal is printed: keep it elsewhere.

    With --upstream, reports to policy maintainers on denied accesses that a decision allows.

    \b
    Example:
      sepolicyd report jupyterhub -o jupyterhub.html
    """
    _check_options(bundle, upstream=upstream, details=details, against=against)
    session = open_session(service, **paths)
    now = time.time()
    done = Exit.DONE
    if bundle is not None and not _bundle(session, bundle, now, details=details):
        done = Exit.FINDINGS
    if upstream:
        _upstream(session, output, against)
    elif output is not None or bundle is None:
        _page(session, output or Path(f"{session.profile.name}-report.html"), now, policy_file)
    return int(done)


def _check_options(bundle: Optional[Path], *, upstream: bool, details: bool, against: Optional[Path]) -> None:
    if details and bundle is None:
        raise UsageError("--details belongs to --bundle", "sepolicyd report SERVICE --bundle FILE --details")
    if against is not None and not upstream:
        raise UsageError("--against belongs to --upstream", "sepolicyd report SERVICE --upstream --against POLICY")
    if upstream and bundle is not None:
        raise UsageError("--upstream and --bundle are two reports", "write them one after the other")


def _upstream(session: Session, target: Optional[Path], against: Optional[Path]) -> None:
    from sepolicyd.report.upstream import text_of, upstream_reports

    found = upstream_reports(session, against)
    text = text_of(found)
    if target is None:
        terminal.print_out(text.rstrip("\n"))
    else:
        write_whole(target, text.encode(), mode=0o600)
    terminal.print_err(f"{terminal.plural(len(found.reports), 'report')}; records name users and paths: read before you send")


def _page(session: Session, target: Path, now: float, policy_file: Optional[Path]) -> None:
    from sepolicyd.report.collect import collect
    from sepolicyd.report.page import render

    text = render(collect(session, now, policy_file)).encode()
    write_whole(target, text, mode=0o600)
    terminal.print_err(f"{terminal.escape(str(target))}: {len(text) / 1e6:.1f} MB; it names users and paths of this machine")


def _bundle(session: Session, target: Path, now: float, *, details: bool) -> bool:
    """Write the bundle. Return whether it will verify."""
    from sepolicyd.report.bundle import make_bundle

    made = make_bundle(session, now, details=details)
    write_whole(target, made.data, mode=0o600)
    terminal.print_out(made.seal)
    terminal.print_err(f"{terminal.escape(str(target))}: {terminal.plural(made.files, 'file')}; the line on stdout is its seal")
    for note in made.notes:
        terminal.print_err(f"note: {terminal.escape(note)}")
    return made.sound
