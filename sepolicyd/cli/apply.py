"""The `preview`, `apply`, `confirm` and `rollback` commands: show, load, keep and undo a module of the decisions in force."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from sepolicyd.cli import terminal
from sepolicyd.cli.learn import seconds_of
from sepolicyd.cli.options import json_option, profile_option, reason_option, sarif_option, state_options, yes_option
from sepolicyd.cli.plan_view import document, lines, outline
from sepolicyd.cli.session import open_session
from sepolicyd.errors import Exit
from sepolicyd.rollout.apply import end_trial, pipeline
from sepolicyd.rollout.apply import rollback as back
from sepolicyd.rollout.apply.desired_policy import desired_policy
from sepolicyd.rollout.apply.execute import Applied, Order
from sepolicyd.rollout.apply.link_and_prove import Plan
from sepolicyd.rollout.apply.module_draft import Draft
from sepolicyd.rollout.apply.session_draft import decided_now, drafted_now, planned
from sepolicyd.rollout.session import Session, invoking_user
from sepolicyd.state.decisions import pending


@click.command("preview")
@click.option("--te", is_flag=True, help="Print only the module's source.")
@json_option
@sarif_option
@profile_option
@state_options
def preview_command(te: bool, as_json: bool, as_sarif: bool, profile_name: Optional[str], **paths: Optional[Path]) -> int:
    """Show what apply would change, and change nothing.

    Builds the module, links it in a copy of the store, and compares the two policies access by access with attributes
    expanded. Exit code 1 if the module may not be loaded.

    \b
    Example:
      sepolicyd preview
    """
    session = open_session(profile_name, **paths)
    with planned(session, _step) as plan:
        if te:
            terminal.print_out(plan.source.te.rstrip("\n"))
        elif as_json:
            terminal.print_json(document(plan))
        elif as_sarif:
            terminal.print_json(_sarif(session, plan))
        else:
            terminal.print_out("\n".join(lines(plan)))
        return int(Exit.FINDINGS if plan.proof.refusals else Exit.DONE)


def _sarif(session: Session, plan: Plan) -> dict[str, Any]:
    """Return the SARIF log of a plan, with the lines of the audit log that still hold the denials behind it."""
    from sepolicyd.report.log_lines import find_lines
    from sepolicyd.report.sarif import previewed

    log = session.settings.log
    rotated = sorted(log.parent.glob(f"{log.name}.[0-9]*"), key=lambda path: (len(path.name), path.name))
    evidence = session.snapshot().evidence
    samples = {str(access): evidence[access].samples for access in plan.delta.gained if access in evidence}
    return previewed(plan, find_lines([log, *rotated], samples), session.guard())


@click.command("apply")
@click.option(
    "--confirm-within",
    metavar="TIME",
    help="Return to the previous version unless confirmed within this time (10m, 1h).",
)
@json_option
@yes_option
@profile_option
@state_options
def apply_command(
    confirm_within: Optional[str], as_json: bool, yes: bool, profile_name: Optional[str], **paths: Optional[Path]
) -> int:
    """Build, prove, load and verify a module of all decisions in force.

    Links the module, checks the exact difference between the two policies, and installs the result in one transaction of
    the policy store: if it is interrupted, either the old or the new policy is in place. With --confirm-within the
    previous version returns unless you run `sepolicyd confirm` in time.

    \b
    Example:
      sepolicyd apply --confirm-within 10m
    """
    session = open_session(profile_name, **paths)
    within = None if confirm_within is None else seconds_of(confirm_within)
    evidence = session.snapshot().evidence
    with drafted_now(session, _step) as draft:
        if not as_json:
            terminal.print_err("\n".join(outline(draft)))
        if not draft.empty and not yes:
            click.confirm("Load this? The exact difference is proved before it is installed.", abort=True, err=True)
        order = Order(invoking_user(), tuple(pending(evidence, draft.decided)), within)
        done = pipeline.apply(draft, session.settings, session.guard(), order, on_step=_step)
        _report(draft, done, as_json=as_json)
    return int(Exit.DONE)


def _report(draft: Draft, done: Applied, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(
            {
                "module": draft.module,
                "version": done.version,
                "previous": done.previous,
                "changed": done.changed,
                "verified": done.verified or None,
                "confirm_by": done.deadline or None,
                "now_allowed": [str(access) for access in done.now_allowed],
                "seconds": dict(done.seconds),
            }
        )
    elif not done.changed:
        terminal.print_out(f"nothing to do: version {done.version} of {draft.module} already contains everything")
    else:
        terminal.print_out(f"{draft.module} version {done.version} loaded and verified ({done.verified})")
        if done.plan is not None:
            gained, lost = len(done.plan.delta.gained), len(done.plan.delta.lost)
            terminal.print_out(
                f"{terminal.plural(gained, 'access', 'accesses')} gained, each covered by a decision; {lost} lost"
            )
        if done.now_allowed:
            terminal.print_out(
                f"{terminal.plural(len(done.now_allowed), 'pending access', 'pending accesses')} also allowed by it"
            )
    for text in draft.desired.manual:
        terminal.print_err(f"to be done by hand: {terminal.escape(text)}")
    if done.deadline:
        terminal.print_err(f"the previous version returns at {terminal.when(done.deadline)} unless you run: sepolicyd confirm")


@click.command("confirm")
@profile_option
@state_options
def confirm_command(profile_name: Optional[str], **paths: Optional[Path]) -> None:
    """Keep a module that was applied with --confirm-within.

    \b
    Example:
      sepolicyd confirm
    """
    session = open_session(profile_name, **paths)
    trial = end_trial.confirm(session.settings, by=invoking_user())
    terminal.print_out(f"version {trial.version} of {trial.module} is kept")


@click.command("rollback")
@click.option(
    "--to", "version", type=click.IntRange(0), metavar="VERSION", help="Return to this version; 0 removes the module."
)
@click.option("--as-it-was", is_flag=True, help="Also restore accesses that were denied or reset since.")
@reason_option
@profile_option
@state_options
def rollback_command(
    version: Optional[int], as_it_was: bool, reason: str, profile_name: Optional[str], **paths: Optional[Path]
) -> None:
    """Return to the module's previous version.

    Reverts modules, ports, booleans and labels of the current version in one transaction. Rules of the earlier version
    that no decision supports any more are left out and listed.

    \b
    Example:
      sepolicyd rollback --to 3 --reason "the terminal stopped working"
    """
    session = open_session(profile_name, **paths)
    still = None if as_it_was else desired_policy(decided_now(session))
    settled = back.rollback(session.settings, session.profile.name, by=invoking_user(), to=version, reason=reason, still=still)
    terminal.print_out(terminal.escape(settled.text))
    if back.LEFT_OUT in settled.text:
        terminal.print_err("to restore it as well, run: sepolicyd rollback --as-it-was --to VERSION")


def _step(word: str) -> None:
    terminal.print_err(f"... {word}")
