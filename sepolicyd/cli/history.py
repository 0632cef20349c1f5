"""The `history` command: decisions, applies and leases in order of time. --verify checks the hash chains of both records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import click

from sepolicyd.cli import terminal
from sepolicyd.cli.options import json_option, profile_option, state_options
from sepolicyd.cli.session import open_session
from sepolicyd.errors import Exit
from sepolicyd.rollout.history import History
from sepolicyd.rollout.lease.lease_records import LeaseBook, LeaseEvent
from sepolicyd.rollout.session import Session


@dataclass(frozen=True)
class Line:
    """One event: a decision, an apply, or a step of a lease."""

    at: float
    """Epoch seconds."""
    who: str
    what: str
    text: str


@click.command("history")
@click.option("--verify", is_flag=True, help="Check the hash chains instead; exit code 1 when a line is changed or missing.")
@json_option
@profile_option
@state_options
def history_command(verify: bool, as_json: bool, profile_name: Optional[str], **paths: Optional[Path]) -> int:
    """Show decisions, applies, rollbacks and leases, and verify that record.

    Lists decisions, applies, rollbacks and leases in order of time.

    \b
    Example:
      sepolicyd history --verify
    """
    session = open_session(profile_name, **paths)
    book, leases = History(session.settings.rollout_dir), LeaseBook(session.settings.rollout_dir)
    if verify:
        problems = [f"{chain.path.name}: {text}" for chain in (book.chain, leases.chain) for text in chain.verify()]
        for problem in problems:
            terminal.print_out(terminal.escape(problem))
        if not problems:
            applied, leased = len(book.entries()), len(leases.history())
            terminal.print_err(
                f"{terminal.plural(applied, 'entry', 'entries')} of applies and {leased} of leases verified:"
                " each contains the hash of its predecessor"
            )
        return int(Exit.FINDINGS if problems else Exit.DONE)
    lines = sorted(_lines(session, book, leases), key=lambda line: line.at)
    if as_json:
        terminal.print_json([{"at": line.at, "who": line.who, "what": line.what, "text": line.text} for line in lines])
    elif lines:
        rows = [(terminal.when(line.at), terminal.escape(line.who), line.what, terminal.escape(line.text)) for line in lines]
        terminal.print_out("\n".join(terminal.table(rows, ("WHEN", "WHO", "WHAT", ""))))
    else:
        terminal.print_err("nothing has been decided or applied yet")
    return int(Exit.DONE)


def _lines(session: Session, book: History, leases: LeaseBook) -> list[Line]:
    store = session.decisions()
    try:
        decided = store.history()
    finally:
        store.close()
    lines = [
        Line(
            decision.at,
            decision.by,
            decision.answer.value + (" (undone)" if undone else ""),
            "; ".join(str(access) for access in decision.accesses) + (f" -- {decision.reason}" if decision.reason else ""),
        )
        for decision, undone in decided
    ]
    lines += [
        Line(entry.at, entry.who, entry.what.value, _applied(entry.module, entry.version, entry.details))
        for entry in book.entries()
    ]
    lines += [
        Line(float(entry.get("wall", 0.0)), str(entry.get("by", "")), f"lease {entry.get('what', '')}", _lease(entry))
        for entry in leases.history()
        if entry.get("profile") == session.profile.name
    ]
    return lines


def _applied(module: str, version: int, details: Any) -> str:
    notes = ", ".join(f"{key} {value}" for key, value in dict(details).items() if isinstance(value, (str, int, float)))
    return f"{module} version {version}" + (f" ({notes})" if notes else "")


def _lease(entry: dict[str, Any]) -> str:
    """Return the text for a lease event: domains and deadline, name of the exercise, or how the lease ended."""
    event = LeaseEvent.of(entry)
    if event is LeaseEvent.MARKED:
        return str(entry.get("name", ""))
    if event in {LeaseEvent.ENDED, LeaseEvent.END_FAILED}:
        errors = [str(error) for error in entry.get("errors", ())]
        kernel = "the kernel enforces" if entry.get("closed", True) else "NOT ENFORCING"
        return "; ".join([str(entry.get("why", "")), kernel, *errors[-1:]])
    if event not in {LeaseEvent.PLANNED, LeaseEvent.OPENED, LeaseEvent.RENEWED}:
        return ""
    opened = "the whole system" if entry.get("whole_system") else ", ".join(map(str, entry.get("domains", ())))
    hidden = ", hidden denials logged" if entry.get("hidden") else ""
    return f"{opened}{hidden}, until {terminal.when(float(entry.get('deadline_wall', 0.0)))}"
