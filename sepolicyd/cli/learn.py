"""The `learn` and `enforce` commands: open, renew, mark, show and end a lease; each is one call into rollout/lease."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional

import click

from sepolicyd.cli import terminal
from sepolicyd.cli.options import json_option, profile_option, state_options, yes_option
from sepolicyd.cli.session import open_session
from sepolicyd.errors import Exit, SepolicydError, UsageError
from sepolicyd.rollout.lease import lifecycle as leases
from sepolicyd.rollout.lease import status as status_module
from sepolicyd.rollout.lease.close_in_kernel import Ended
from sepolicyd.rollout.review.queue import Queue, queue
from sepolicyd.rollout.session import Session

UNITS = {"s": 1, "m": 60, "h": 3600}
DURATION = re.compile(r"(\d+)\s*([smh]?)\Z")
MAX_PENDING_SHOWN = 20


def seconds_of(text: str) -> float:
    """Parse "90", "90s", "10m" or "2h" into seconds.

    :raises UsageError: the text has none of these forms
    """
    match = DURATION.match(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a duration", "give a duration such as 90s, 10m or 2h")
    return float(int(match.group(1)) * UNITS[match.group(2) or "s"])


@click.group("learn")
def learn_command() -> None:
    """Make a domain permissive until a deadline, and collect what it needs.

    A timer of systemd that restores enforcing is armed before anything becomes permissive, so the machine enforces again
    by the deadline even if this program or the daemon is killed or the machine reboots.
    """


@learn_command.command("start")
@click.argument("profile_name", metavar="[PROFILE]", required=False)
@click.option("--for", "length", default="2h", show_default=True, metavar="TIME", help="How long: 90s, 10m, 2h.")
@click.option("--whole-system", is_flag=True, help="Make the whole machine permissive instead (the old `setenforce 0`).")
@click.option("--hidden/--no-hidden", default=None, help="Also log what dontaudit rules hide (semodule -DB).")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the history and /run/sepolicyd/lease.json.")
@yes_option
@state_options
def start_command(
    profile_name: Optional[str],
    length: str,
    whole_system: bool,
    hidden: Optional[bool],
    reason: str,
    yes: bool,
    **paths: Optional[Path],
) -> None:
    """Open a lease.

    With --hidden one round is usually enough, because denials that dontaudit rules hide are logged too (for example
    JupyterHub's terminal and devpts_t). Denials of other domains in that time are ignored.

    \b
    Example:
      sepolicyd learn start jupyterhub --for 2h --hidden
    """
    session = open_session(profile_name, **paths)
    if whole_system and not yes:
        terminal.print_err("--whole-system suspends SELinux for every process on this machine until the deadline.")
        click.confirm("Do that?", abort=True, err=True)
    lease = leases.start(
        session.settings,
        session.profile,
        seconds_of(length),
        whole_system=whole_system,
        hidden=bool(hidden),
        why=reason,
    )
    what = "the whole system" if lease.whole_system else ", ".join(lease.domains)
    terminal.print_out(f"permissive until {terminal.when(lease.deadline_wall)}: {what}")
    if hidden is None:
        terminal.print_err(
            "dontaudit rules suppress some denials; with --hidden these are logged too, and one round is usually enough"
        )
    terminal.print_err('next: use the service, one `sepolicyd learn mark "NAME"` before each exercise, then `sepolicyd review`')


@learn_command.command("renew")
@click.option("--for", "length", default="1h", show_default=True, metavar="TIME", help="How long from now.")
@profile_option
@state_options
def renew_command(length: str, profile_name: Optional[str], **paths: Optional[Path]) -> None:
    """Move the deadline of the open lease.

    \b
    Example:
      sepolicyd learn renew --for 30m
    """
    session = open_session(profile_name, **paths)
    lease = leases.renew(session.settings, session.profile, seconds_of(length))
    terminal.print_out(f"permissive until {terminal.when(lease.deadline_wall)}")


@learn_command.command("stop")
@profile_option
@state_options
def stop_command(profile_name: Optional[str], **paths: Optional[Path]) -> int:
    """End the open lease now.

    \b
    Example:
      sepolicyd learn stop
    """
    session = open_session(profile_name, **paths)
    return _ended(leases.stop(session.settings, session.profile))


@learn_command.command("mark")
@click.argument("name")
@profile_option
@state_options
def mark_command(name: str, profile_name: Optional[str], **paths: Optional[Path]) -> None:
    """Begin an exercise; later denials are recorded as seen in it.

    Flushes the kernel's access vector cache, so that every access is logged again and the evidence can say "seen in 3 of
    4 exercises". The profile suggests exercises for its service; any name is accepted.

    \b
    Example:
      sepolicyd learn mark "log in"
    """
    session = open_session(profile_name, **paths)
    mark = leases.mark(session.settings, session.profile, name)
    terminal.print_out(f"exercise {terminal.escape(mark.name)} since {terminal.when(mark.epoch)}")


@learn_command.command("status")
@json_option
@profile_option
@state_options
def lease_status_command(as_json: bool, profile_name: Optional[str], **paths: Optional[Path]) -> int:
    """Show the lease, its deadline, and everything that is permissive.

    \b
    Example:
      sepolicyd learn status
    """
    session = open_session(profile_name, **paths)
    status = status_module.status(session.settings, session.profile)
    if as_json:
        terminal.print_json(lease_document(status))
    else:
        terminal.print_out("\n".join(lease_lines(status)))
    return int(Exit.FINDINGS if status.problems else Exit.DONE)


@click.command("enforce")
@profile_option
@state_options
def enforce_command(profile_name: Optional[str], **paths: Optional[Path]) -> int:
    """End the lease now and go back to enforcing.

    Lists the candidates that are still pending, because their accesses are denied from now on. New denials of the domain
    are collected and listed as before. The domain never becomes permissive again by itself.

    \b
    Example:
      sepolicyd enforce
    """
    session = open_session(profile_name, **paths)
    result = leases.enforce(session.settings, session.profile, pending=lambda: _pending(session))
    if isinstance(result.pending, Queue) and result.pending.items:
        terminal.print_err(f"{terminal.plural(len(result.pending.items), 'candidate')} undecided: these will be denied")
        for item in result.pending.items[:MAX_PENDING_SHOWN]:
            terminal.print_err(f"  {item.candidate.id} {terminal.escape(item.sentence)}")
        if len(result.pending.items) > MAX_PENDING_SHOWN:
            terminal.print_err(f"  and {len(result.pending.items) - MAX_PENDING_SHOWN} more: sepolicyd list")
    code = _ended(result.ended) if result.ended is not None else int(Exit.DONE)
    if result.ended is not None and not result.ended.closed:
        terminal.print_out("NOT everything is enforced; see: sepolicyd learn status")
    else:
        terminal.print_out("enforcing" if result.enforcing else "NOT enforcing")
    return code if result.enforcing else int(Exit.TOOL_FAILED)


def _pending(session: Session) -> Optional[Queue]:
    """Return the pending candidates, or None: a queue that cannot be read must not prevent enforcing."""
    try:
        return queue(session)
    except SepolicydError as failure:
        terminal.print_err(f"sepolicyd: the pending candidates cannot be read: {terminal.escape(str(failure))}")
        return None


def _ended(ended: Ended) -> int:
    if ended.closed:
        terminal.print_out(f"lease of {ended.profile} ended, enforcing again after {ended.seconds_to_closed:.1f} s")
    else:
        terminal.print_out(f"lease of {ended.profile} could NOT be ended; the timer retries every minute")
    if ended.closed and not ended.done:
        terminal.print_err("the kernel enforces; the timer's next run removes the remaining lease module from the store")
    for error in dict.fromkeys(ended.errors):
        terminal.print_err(f"  {terminal.escape(error)}")
    return int(Exit.DONE if ended.closed else Exit.TOOL_FAILED)


def lease_document(status: status_module.LeaseStatus) -> dict[str, Any]:
    """Return the JSON of learn status; times in epoch seconds."""
    lease = status.lease
    return {
        "lease": None
        if lease is None
        else {
            "profile": lease.profile,
            "domains": list(lease.domains),
            "whole_system": lease.whole_system,
            "hidden": lease.hidden,
            "deadline": lease.deadline_wall,
            "by": lease.by,
            "why": lease.why,
        },
        "remaining": status.remaining,
        "armed": status.armed,
        "enforcing": status.enforcing,
        "permissive_types": list(status.open_types),
        "foreign_permissive_types": list(status.foreign_types),
        "used_today": status.used_today,
        "exercises": [{"name": mark.name, "at": mark.epoch} for mark in status.marks],
        "problems": list(status.problems),
    }


def lease_lines(status: status_module.LeaseStatus) -> list[str]:
    """Return the lease as lines of text."""
    lease = status.lease
    if lease is None:
        lines = ["lease     none"]
    else:
        what = "the whole system" if lease.whole_system else ", ".join(lease.domains)
        hidden = ", hidden denials logged" if lease.hidden else ""
        lines = [f"lease     {what} permissive for {terminal.duration(status.remaining)} more{hidden}"]
    lines.append(f"kernel    {'enforcing' if status.enforcing else 'PERMISSIVE' if status.enabled else 'without SELinux'}")
    if status.foreign_types:
        lines.append(f"          permissive without a lease: {terminal.first_few(status.foreign_types)}")
    if status.marks:
        lines.append(f"exercises {terminal.first_few([mark.name for mark in status.marks], 8)}")
    lines += [f"problem   {terminal.escape(problem)}" for problem in status.problems]
    return lines
