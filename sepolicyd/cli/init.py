"""The `init` command: show what giving a service its own domain will change, ask, and do it; also --undo and --new."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import click

from sepolicyd.cli import terminal
from sepolicyd.cli.options import json_option, settings_from, state_options, yes_option
from sepolicyd.cli.session import open_session
from sepolicyd.errors import Exit, UsageError
from sepolicyd.rollout.setup import install
from sepolicyd.rollout.setup import plan as rollout_init
from sepolicyd.rollout.setup.install import InitDone
from sepolicyd.rollout.setup.plan import InitPlan
from sepolicyd.services.discovery import BooleanRequest

LABELS_SHOWN = 40


@click.command("init")
@click.argument("profile_name", metavar="[PROFILE]", required=False)
@click.option("--unit", default="", metavar="UNIT", help="The service's systemd unit [default: the profile's first].")
@click.option("--plan", "only_plan", is_flag=True, help="Show the planned changes without making them.")
@click.option(
    "--boolean", "switch", multiple=True, metavar="NAME", help="Switch this boolean of the module on as well; repeatable."
)
@click.option(
    "--headers",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Directory of the policy headers' Makefile [default: usr/share/selinux/devel below the root].",
)
@click.option("--undo", is_flag=True, help="Undo init: remove the module, restore ports and labels.")
@click.option("--new", "new_name", metavar="NAME", help="Write a profile and a base module for another service from its unit.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Where --new writes.")
@json_option
@yes_option
@state_options
def init_command(
    profile_name: Optional[str],
    unit: str,
    only_plan: bool,
    switch: tuple[str, ...],
    headers: Optional[Path],
    undo: bool,
    new_name: Optional[str],
    out: Optional[Path],
    as_json: bool,
    yes: bool,
    **paths: Optional[Path],
) -> int:
    """Give a service a domain of its own: types, labels and ports.

    A service without a policy runs unconfined (initrc_t on Debian, unconfined_service_t on Fedora and RHEL): nothing is
    denied to it, so there is nothing to learn. The change is tried in a copy of the store first; nothing is restarted.

    For each boolean that the service's configuration needs, you are asked whether to switch it on; with --yes only those
    named by --boolean are switched.

    \b
    Example:
      sepolicyd init jupyterhub
    """
    if new_name is not None:
        return _new(new_name, unit, out, **paths)
    session = open_session(profile_name, **paths)
    if undo:
        _report(install.undo_init(session.settings, session.profile.name), undone=True)
        return int(Exit.DONE)
    plan = rollout_init.plan_init(session.settings, session.profile, unit=unit, headers=headers and headers.absolute())
    if as_json:
        terminal.print_json(document(plan))
    else:
        terminal.print_out("\n".join(lines(plan)))
    if plan.stopped or only_plan:
        return int(Exit.FINDINGS if plan.stopped else Exit.DONE)
    if not yes:
        click.confirm("Do this?", abort=True, err=True)
        switch += tuple(one.name for one in plan.booleans if one.name not in switch and _confirm_boolean(one))
    done = install.run_init(session.settings, session.profile, plan, switch)
    _report(done, undone=False, off=[one.name for one in plan.booleans if one.name not in done.booleans])
    return int(Exit.DONE)


def _confirm_boolean(request: BooleanRequest) -> bool:
    return click.confirm(f"Switch {request.name} on ({terminal.escape(request.why)})?", default=False, err=True)


def lines(plan: InitPlan) -> list[str]:
    """Return the plan as lines of text."""
    service = f" of {plan.unit}" if plan.unit else ""
    shown = [f"init {plan.profile}: module {plan.module} at priority {plan.priority}{service}"]
    shown += [f"  type     {name}" for name in plan.types]
    for label in plan.labels[:LABELS_SHOWN]:
        tree = " and all in it" if label.tree else ""
        shown.append(
            f"  label    {terminal.escape(label.path)}{tree} -> {label.type}" + (f"  ({label.what})" if label.what else "")
        )
    if len(plan.labels) > LABELS_SHOWN:
        shown.append(f"           and {len(plan.labels) - LABELS_SHOWN} more (--json lists all)")
    shown += [
        f"  port     {port.protocol} {port.number}: from {port.before or 'no type'} to {port.after}" for port in plan.ports
    ]
    shown += [
        f"  boolean  {one.name}, needed for: {terminal.escape(one.why)}; stays off unless you switch it on"
        for one in plan.booleans
    ]
    shown += [
        f"  process  {process.pid} {terminal.escape(process.comm)} "
        f"runs as {process.domain or 'no known domain'} until restarted"
        for process in plan.processes
    ]
    for finding in plan.findings:
        word = {"STOP": "STOP     ", "WARN": "warning  "}.get(finding.level.name, "note     ")
        shown.append(f"  {word}{finding.code} {terminal.escape(finding.what)}")
        if finding.hint:
            shown.append(f"           {terminal.escape(finding.hint)}")
    return shown


def document(plan: InitPlan) -> dict[str, Any]:
    """Return the JSON of the plan."""
    return {
        "profile": plan.profile,
        "module": plan.module,
        "priority": plan.priority,
        "unit": plan.unit or None,
        "types": list(plan.types),
        "labels": [{"path": label.path, "type": label.type, "tree": label.tree} for label in plan.labels],
        "ports": [
            {"protocol": port.protocol, "number": port.number, "before": port.before, "after": port.after}
            for port in plan.ports
        ],
        "booleans": [{"name": one.name, "why": one.why} for one in plan.booleans],
        "processes": [{"pid": one.pid, "comm": one.comm, "domain": one.domain} for one in plan.processes],
        "findings": [
            {"code": one.code, "level": one.level.name.lower(), "what": one.what, "hint": one.hint} for one in plan.findings
        ],
    }


def _report(done: InitDone, *, undone: bool, off: Sequence[str] = ()) -> None:
    terminal.print_out(
        f"module {done.module} {'removed' if undone else 'loaded'}, "
        f"{terminal.plural(len(done.relabelled), 'path')} relabelled, "
        f"{terminal.plural(len(done.ports), 'port')} {'restored' if undone else 'relabelled'}"
    )
    if done.booleans:
        terminal.print_out(f"{'values forgotten' if undone else 'switched on'}: {', '.join(done.booleans)}")
    for name in off:
        terminal.print_err(f"a boolean that the configuration needs is off; run: setsebool -P {name} on")
    for finding in done.findings:
        terminal.print_err(f"{finding.code} {terminal.escape(str(finding))}")
    if done.restart:
        terminal.print_err(f"next: {done.restart}, then `sepolicyd learn start`")


def _new(name: str, unit: str, out: Optional[Path], **paths: Optional[Path]) -> int:
    from sepolicyd.rollout.setup import new_profile
    from sepolicyd.settings import LOCAL_PROFILES

    if not unit:
        raise UsageError("--new needs the service's unit", f"sepolicyd init --new {name} --unit {name}.service")
    settings = settings_from(**paths)
    made = new_profile.new_profile(settings, name, unit, out or LOCAL_PROFILES)
    for path in made.files:
        terminal.print_out(str(path))
    for finding in made.findings:
        terminal.print_err(f"{finding.code} {terminal.escape(str(finding))}")
    terminal.print_err(f"review these files, then run: sepolicyd init {name}")
    return int(Exit.DONE)
