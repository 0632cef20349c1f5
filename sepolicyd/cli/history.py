"""history: the record of decisions, applies and leases, in the order of time; --verify finds a changed or missing line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import click

from sepolicyd.cli import render
from sepolicyd.cli.options import json_option, profile_option, state_options
from sepolicyd.cli.session import Session, open_session
from sepolicyd.errors import Exit
from sepolicyd.rollout.history import History
from sepolicyd.rollout.undo import LeaseBook


@dataclass(frozen=True)
class Line:
    """One thing that happened: when (epoch seconds), who did it, what, and the rest for a person."""

    at: float
    who: str
    what: str
    text: str


@click.command("history")
@click.option("--verify", is_flag=True, help="Check the hash chain instead; exit code 1 when a line is changed or missing.")
@json_option
@profile_option
@state_options
def history_command(verify: bool, as_json: bool, profile_name: Optional[str], **paths: Optional[Path]) -> int:
    """Show what was decided, loaded and rolled back, and verify that record.

    \b
    Example:
      sepolicyd history --verify
    """
    session = open_session(profile_name, **paths)
    book = History(session.settings.rollout_dir)
    if verify:
        problems = book.verify()
        for problem in problems:
            render.data(render.escape(problem))
        if not problems:
            render.talk(
                f"{render.plural(len(book.entries()), 'entry', 'entries')}, each holds the hash of the one before: whole"
            )
        return int(Exit.FINDINGS if problems else Exit.DONE)
    lines = sorted(_lines(session, book), key=lambda line: line.at)
    if as_json:
        render.print_json([{"at": line.at, "who": line.who, "what": line.what, "text": line.text} for line in lines])
    elif lines:
        rows = [(render.when(line.at), render.escape(line.who), line.what, render.escape(line.text)) for line in lines]
        render.data("\n".join(render.table(rows, ("WHEN", "WHO", "WHAT", ""))))
    else:
        render.talk("nothing has been decided or applied yet")
    return int(Exit.DONE)


def _lines(session: Session, book: History) -> list[Line]:
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
        Line(entry.at, entry.who, entry.what, _applied(entry.module, entry.version, entry.details)) for entry in book.entries()
    ]
    lines += [
        Line(float(entry.get("wall", 0.0)), str(entry.get("by", "")), f"lease {entry.get('what', '')}", _lease(entry))
        for entry in LeaseBook(session.settings.rollout_dir).history()
        if entry.get("profile") == session.profile.name
    ]
    return lines


def _applied(module: str, version: int, details: Any) -> str:
    notes = ", ".join(f"{key} {value}" for key, value in dict(details).items() if isinstance(value, (str, int, float)))
    return f"{module} version {version}" + (f" ({notes})" if notes else "")


def _lease(entry: dict[str, Any]) -> str:
    what = "the whole system" if entry.get("whole_system") else ", ".join(map(str, entry.get("domains", ())))
    return f"{what}{', hidden denials logged' if entry.get('hidden') else ''}"
