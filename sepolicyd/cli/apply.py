"""preview, apply, confirm, rollback: standing decisions in, a verified policy (or the sight of it) out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from sepolicyd.access import Access
from sepolicyd.cli import terminal
from sepolicyd.cli.learn import seconds_of
from sepolicyd.cli.options import json_option, profile_option, reason_option, state_options, yes_option
from sepolicyd.cli.session import open_session
from sepolicyd.errors import Exit, RefusedError
from sepolicyd.rollout.apply import end_trial, pipeline
from sepolicyd.rollout.apply import rollback as back
from sepolicyd.rollout.apply.desired import desired_policy
from sepolicyd.rollout.apply.plan import Plan
from sepolicyd.rollout.apply.prepare import decided_now, planned
from sepolicyd.rollout.session import Session, invoking_user
from sepolicyd.state.decisions import pending

SHOWN = 30
VALUES = {None: "as before", True: "on", False: "off"}


@click.command("preview")
@click.option("--te", is_flag=True, help="Print the module's source alone.")
@json_option
@profile_option
@state_options
def preview_command(te: bool, as_json: bool, profile_name: Optional[str], **paths: Optional[Path]) -> int:
    """Show what apply would change, and change nothing.

    Builds the module, links it in a copy of the store, and compares the two policies access by access, attributes
    expanded. Exit code 1 when it may not be loaded.

    \b
    Example:
      sepolicyd preview
    """
    session = open_session(profile_name, **paths)
    with planned(session, _step) as plan:
        if te:
            terminal.data(plan.source.te.rstrip("\n"))
        elif as_json:
            terminal.print_json(document(plan))
        else:
            terminal.data("\n".join(lines(plan)))
        return int(Exit.FINDINGS if plan.proof.refusals else Exit.DONE)


@click.command("apply")
@click.option("--confirm-within", metavar="TIME", help="Keep it only if `sepolicyd confirm` comes within this time (10m, 1h).")
@json_option
@yes_option
@profile_option
@state_options
def apply_command(
    confirm_within: Optional[str], as_json: bool, yes: bool, profile_name: Optional[str], **paths: Optional[Path]
) -> int:
    """Build, check, load and verify the module of everything decided.

    One journalled transaction: whatever happens to it, the policy is the old one or the new one. With --confirm-within
    the previous version returns by itself unless it is confirmed.

    \b
    Example:
      sepolicyd apply --confirm-within 10m
    """
    session = open_session(profile_name, **paths)
    within = None if confirm_within is None else seconds_of(confirm_within)
    with planned(session, _step) as plan:
        if not as_json:
            terminal.talk("\n".join(lines(plan)))
        if plan.proof.refusals:
            raise RefusedError(
                f"version {plan.number} of {plan.module} may not be loaded: {plan.proof.refusals[0]}",
                "sepolicyd reset ID takes the decision back",
            )
        if not plan.empty and not yes:
            click.confirm("Load this?", abort=True, err=True)
        done = pipeline.apply(
            plan, session.settings, by=invoking_user(), pending=_pending(session), confirm_within=within, on_step=_step
        )
    if as_json:
        terminal.print_json(
            {
                "module": plan.module,
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
        terminal.data(f"nothing to do: version {done.version} of {plan.module} holds all of it")
    else:
        terminal.data(f"{plan.module} version {done.version} loaded and verified ({done.verified})")
        if done.now_allowed:
            terminal.data(f"{terminal.plural(len(done.now_allowed), 'pending access', 'pending accesses')} allowed by it too")
    for text in plan.desired.manual:
        terminal.talk(f"still to be done by hand: {terminal.escape(text)}")
    if done.deadline:
        terminal.talk(f"the previous version returns at {terminal.when(done.deadline)} unless you run: sepolicyd confirm")
    return int(Exit.DONE)


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
    terminal.data(f"version {trial.version} of {trial.module} is kept")


@click.command("rollback")
@click.option("--to", "version", type=click.IntRange(0), metavar="VERSION", help="This version; 0 removes all of ours.")
@click.option("--as-it-was", is_flag=True, help="Bring back what was denied or taken back since, too.")
@reason_option
@profile_option
@state_options
def rollback_command(
    version: Optional[int], as_it_was: bool, reason: str, profile_name: Optional[str], **paths: Optional[Path]
) -> None:
    """Return to the module's previous version.

    Takes back modules, ports, booleans and labels of the present version in one transaction. What the earlier version
    held and no standing decision asks for any more is left out and told.

    \b
    Example:
      sepolicyd rollback --to 3 --reason "the terminal stopped working"
    """
    session = open_session(profile_name, **paths)
    still = None if as_it_was else desired_policy(decided_now(session))
    settled = back.rollback(session.settings, session.profile.name, by=invoking_user(), to=version, reason=reason, still=still)
    terminal.data(terminal.escape(settled.text))
    if back.LEFT_OUT in settled.text:
        terminal.talk("`sepolicyd rollback --as-it-was --to VERSION` would bring it back too")


def _pending(session: Session) -> list[Access]:
    store = session.decisions()
    try:
        return list(pending(session.snapshot().evidence, store.decided()))
    finally:
        store.close()


def _step(word: str) -> None:
    terminal.talk(f"... {word}")


def lines(plan: Plan) -> list[str]:
    """A plan for a person: what is gained, by which decision, and what stands against it."""
    if plan.empty and not plan.proof.refusals:
        shown = [f"{plan.module} version {plan.previous.number}: nothing to change"]
    else:
        shown = [f"{plan.module} version {plan.number} (now: {plan.previous.number or 'none'})"]
    if plan.base_delta is not None:
        shown.append(
            f"  base module: {terminal.plural(len(plan.base_delta.gained), 'access', 'accesses')} for the service's own domains"
        )
    gained = sorted(plan.delta.gained)
    shown.append(f"  gained   {terminal.plural(len(gained), 'access', 'accesses')}, each covered by a decision")
    shown += [f"    + {access}" for access in gained[:SHOWN]]
    lost = sorted(plan.delta.lost)
    if lost:
        shown.append(f"  lost     {terminal.plural(len(lost), 'access', 'accesses')}")
        shown += [f"    - {access}" for access in lost[:SHOWN]]
    if max(len(gained), len(lost)) > SHOWN:
        shown.append(f"    ... {SHOWN} of each are shown; --json has all")
    shown += [f"  port     {port.protocol} {port.number} -> {port.type or 'as the policy has it'}" for port in plan.ports]
    for one in plan.booleans:
        opens = sorted(plan.opened.get(one.name, ()))
        more = f", which opens {terminal.plural(len(opens), 'access', 'accesses')}" if opens else ""
        shown.append(f"  boolean  {one.name} -> {VALUES[one.on]}{more}")
        shown += [f"    + {access}" for access in opens[:SHOWN]]
        shown += [f"    ... {SHOWN} are shown; --json has all"] if len(opens) > SHOWN else []
    shown += [f"  relabel  {terminal.escape(path)}" for path in plan.desired.paths]
    shown += [f"  left out {access}: {terminal.escape(why)}" for access, why in sorted(plan.left_out.items())]
    shown += [f"  no effect {access}: {terminal.escape(why)}" for access, why in sorted(plan.proof.without_effect.items())]
    shown += [
        f"  override {access}: {terminal.escape(one.reason)} ({terminal.escape(one.by)})"
        for access, one in plan.proof.overrides.items()
    ]
    shown += [f"  REFUSED  {terminal.escape(text)}" for text in plan.proof.refusals]
    return shown


def document(plan: Plan) -> dict[str, Any]:
    """The JSON of preview."""
    return {
        "module": plan.module,
        "version": plan.number,
        "previous": plan.previous.number,
        "empty": plan.empty,
        "te": plan.source.te,
        "fc": plan.source.fc,
        "gained": [
            {"access": str(access), "decision": plan.proof.covered[access].id if access in plan.proof.covered else None}
            for access in sorted(plan.delta.gained)
        ],
        "lost": [str(access) for access in sorted(plan.delta.lost)],
        "base_gained": None if plan.base_delta is None else len(plan.base_delta.gained),
        "uncovered": [str(access) for access in plan.proof.uncovered],
        "ports": [{"protocol": port.protocol, "number": port.number, "type": port.type} for port in plan.ports],
        "booleans": [
            {"name": one.name, "on": one.on, "opens": [str(access) for access in sorted(plan.opened.get(one.name, ()))]}
            for one in plan.booleans
        ],
        "relabel": list(plan.desired.paths),
        "by_hand": list(plan.desired.manual),
        "left_out": {str(access): why for access, why in sorted(plan.left_out.items())},
        "without_effect": {str(access): why for access, why in sorted(plan.proof.without_effect.items())},
        "refusals": list(plan.proof.refusals),
    }
