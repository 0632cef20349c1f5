"""The `approve`, `deny`, `dontaudit` and `reset` commands: store one decision for each named candidate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional, TypeVar

import click

from sepolicyd.cli import terminal
from sepolicyd.cli.options import policy_option, profile_option, reason_option, state_options
from sepolicyd.cli.session import open_session
from sepolicyd.errors import Exit, RefusedError
from sepolicyd.rollout.review.answer import store_decision
from sepolicyd.rollout.review.queue import queue, with_interfaces
from sepolicyd.rollout.review.shown import require_shown
from sepolicyd.rules.assess.assess import Assessed
from sepolicyd.state.decisions import AnswerKind, Decision

Function = TypeVar("Function", bound=Callable[..., Any])


def _shared(function: Function) -> Function:
    for option in (state_options, policy_option, profile_option, reason_option):
        function = option(function)
    argument = click.argument("ids", nargs=-1, required=True, metavar="ID...")
    return argument(function)


@click.command("approve")
@click.option("--fix", "number", type=click.IntRange(1), metavar="N", help="Use the fix with this number instead of the first.")
@_shared
def approve_command(number: Optional[int], ids: tuple[str, ...], **options: Any) -> int:
    """Allow what a candidate asks, exactly as shown.

    Approves only the accesses that `list`, `show` or `review` last showed to you: if the candidate has grown since, the
    command prints the new accesses and stores nothing. ID@REVISION, as `show` prints it, names the shown state itself.
    Refused candidates need a written override in the configuration file.

    \b
    Example:
      sepolicyd approve 3f9a@77ce --reason "the hub writes its pid file"
    """
    return decide(AnswerKind.ALLOW, ids, number, **options)


@click.command("deny")
@_shared
def deny_command(ids: tuple[str, ...], **options: Any) -> int:
    """Decide that what a candidate asks stays denied.

    \b
    Example:
      sepolicyd deny 3f9a --reason "a student tried sudo"
    """
    return decide(AnswerKind.DENY, ids, None, **options)


@click.command("dontaudit")
@_shared
def dontaudit_command(ids: tuple[str, ...], **options: Any) -> int:
    """Deny what a candidate asks, and stop logging it.

    \b
    Example:
      sepolicyd dontaudit 3f9a --reason "ps probes every process; the service does not need it"
    """
    return decide(AnswerKind.DONTAUDIT, ids, None, **options)


@click.command("reset")
@_shared
def reset_command(ids: tuple[str, ...], **options: Any) -> int:
    """Withdraw a decision; the candidate is pending again.

    \b
    Example:
      sepolicyd reset 3f9a --reason "decided too quickly"
    """
    return decide(AnswerKind.RESET, ids, None, **options)


def decide(
    answer: AnswerKind,
    ids: tuple[str, ...],
    number: Optional[int],
    *,
    reason: str,
    profile_name: Optional[str],
    policy_file: Optional[Path],
    **paths: Optional[Path],
) -> int:
    """Store one decision for each candidate; report those that cannot be approved and leave them pending.

    :returns: the exit code: FINDINGS if a candidate was left pending
    """
    session = open_session(profile_name, **paths)
    found = queue(session, policy_file, everything=answer == AnswerKind.RESET, ids=ids)
    items = [with_interfaces(session, item, policy_file) if number else item for item in found.find(ids)]
    refused = 0
    store = session.decisions()
    try:
        for text, item in zip(ids, items):
            try:
                if answer in (AnswerKind.ALLOW, AnswerKind.DONTAUDIT) and "@" not in text:
                    require_shown(session.settings, item)
                terminal.print_out(decision_line(store_decision(session, store, answer, item, number, reason), item))
            except RefusedError as failure:
                refused += 1
                terminal.print_err(f"sepolicyd: {terminal.escape(str(failure))}")
    finally:
        store.close()
    return int(Exit.FINDINGS if refused else Exit.DONE)


def decision_line(decision: Decision, item: Assessed) -> str:
    """Return one line of text for a stored decision."""
    by = f" by {decision.fix_kind}" if decision.fix_kind else ""
    return f"{decision.answer.value} {item.candidate.id}: {terminal.access_text(item.candidate)}{by}"
