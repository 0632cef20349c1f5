"""The `list` and `show` commands: the pending candidates, most urgent first, and single candidates in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from sepolicyd.cli import json_output as keys
from sepolicyd.cli import terminal
from sepolicyd.cli.candidate_view import one_line, screen
from sepolicyd.cli.options import json_option, policy_option, profile_option, state_options
from sepolicyd.cli.session import open_session
from sepolicyd.rollout.review.queue import Queue, queue, with_interfaces
from sepolicyd.rollout.review.shown import record
from sepolicyd.rollout.session import Session
from sepolicyd.rules.assess.assess import Assessed


@click.command("list")
@click.option("--all", "everything", is_flag=True, help="Include decided candidates.")
@json_option
@profile_option
@policy_option
@state_options
def list_command(
    everything: bool,
    as_json: bool,
    profile_name: Optional[str],
    policy_file: Optional[Path],
    **paths: Optional[Path],
) -> None:
    """List the candidates that wait for a decision.

    Refused candidates come first, then those of level review. The others follow by the rarity of the access among the
    confined domains of the installed policy.

    \b
    Example:
      sepolicyd list --json
    """
    session = open_session(profile_name, **paths)
    waiting = queue(session, policy_file, everything=everything)
    record(session.settings, waiting.items)
    if as_json:
        terminal.print_json(document(session, waiting))
        return
    if waiting.items:
        header = ("ID", "LEVEL", "FIX", "ACCESS", "ASKED BY", "ON")
        terminal.print_out("\n".join(terminal.table([one_line(item) for item in waiting.items], header)))
    _print_counts(session, waiting)


@click.command("show")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
@profile_option
@policy_option
@state_options
def show_command(
    ids: tuple[str, ...],
    as_json: bool,
    profile_name: Optional[str],
    policy_file: Optional[Path],
    **paths: Optional[Path],
) -> None:
    """Show one candidate with its evidence, fixes and findings.

    An unambiguous prefix of an id is enough. Decided candidates are shown too.

    \b
    Example:
      sepolicyd show 3f9a
    """
    session = open_session(profile_name, **paths)
    found = queue(session, policy_file, everything=True, ids=ids)
    items = [with_interfaces(session, item, policy_file) for item in found.find(ids)]
    record(session.settings, items)
    if as_json:
        terminal.print_json([described(item, found) for item in items])
        return
    for item in items:
        terminal.print_out("\n".join(screen(item)) + "\n")
        for text in decisions_of(item, found):
            terminal.print_out(text)
        forged = found.snapshot.attempts.get(item.candidate.source, 0)
        if forged:
            terminal.print_out(
                f"  attempts: {item.candidate.source} tried {terminal.plural(forged, 'time')} to forge a record "
                "(`sepolicyd status` shows them)"
            )
    unknown = found.snapshot.attempts.get("", 0)
    if unknown:
        terminal.print_err(f"sepolicyd: {terminal.plural(unknown, 'attempt')} of an unknown domain to forge a record")
    if found.policy_note:
        terminal.print_err(f"sepolicyd: {terminal.escape(found.policy_note)}")


def document(session: Session, waiting: Queue) -> dict[str, Any]:
    """Return the JSON of list."""
    return {
        "profile": session.profile.name,
        "updated": waiting.snapshot.updated or None,
        "counts": dict(waiting.snapshot.counts),
        "taints": list(waiting.snapshot.taints),
        "policy_note": waiting.policy_note or None,
        "candidates": [described(item, waiting) for item in waiting.items],
    }


def described(item: Assessed, found: Queue) -> dict[str, Any]:
    """Return the JSON of one candidate, with the decisions on its accesses."""
    shown = keys.assessed(item)
    effective = {
        found.decided[access].id: found.decided[access] for access in item.candidate.accesses if access in found.decided
    }
    shown["attempts"] = found.snapshot.attempts.get(item.candidate.source, 0)
    shown["decisions"] = [keys.decision(effective[number], number) for number in sorted(effective)]
    return shown


def decisions_of(item: Assessed, found: Queue) -> list[str]:
    """Return one line of text for each access that is decided."""
    lines = []
    for access in item.candidate.accesses:
        decision = found.decided.get(access)
        if decision is not None:
            why = f": {terminal.escape(decision.reason)}" if decision.reason else ""
            lines.append(
                f"  {access.permission}: {decision.answer.value} by {terminal.escape(decision.by)}, "
                f"{terminal.when(decision.at)}{why}"
            )
    return lines


def _print_counts(session: Session, waiting: Queue) -> None:
    levels: dict[str, int] = {}
    for item in waiting.items:
        levels[item.level] = levels.get(item.level, 0) + 1
    by_level = ", ".join(f"{count} {name}" for name, count in levels.items())
    if not waiting.snapshot.present:
        terminal.print_err(
            f"no evidence yet in {session.settings.evidence_db}: check that the daemon is running (sepolicyd run)"
        )
    else:
        terminal.print_err(f"{terminal.plural(len(waiting.items), 'candidate')}" + (f" ({by_level})" if by_level else ""))
    for taint in waiting.snapshot.taints:
        terminal.print_err(f"tainted: {terminal.escape(taint)}")
    if waiting.policy_note:
        terminal.print_err(f"sepolicyd: {terminal.escape(waiting.policy_note)}")
