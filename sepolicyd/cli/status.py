"""The `status` command: stage, lease, pending candidates, last apply, taints and readiness on one screen."""

from __future__ import annotations

import socket
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

import click

from sepolicyd import __version__
from sepolicyd.cli import terminal
from sepolicyd.cli.host_table import show_hosts
from sepolicyd.cli.learn import lease_document, lease_lines
from sepolicyd.cli.options import json_option, policy_option, profile_option, state_options
from sepolicyd.cli.session import open_session
from sepolicyd.errors import Exit, SepolicydError
from sepolicyd.fleet.policy_identity import policy_identity
from sepolicyd.rollout.apply.trial import problem
from sepolicyd.rollout.apply.versions import Versions, module_name
from sepolicyd.rollout.learning.readiness import Readiness
from sepolicyd.rollout.session import Session
from sepolicyd.rollout.status import Picture, look
from sepolicyd.rules.guard.level import GuardLevel
from sepolicyd.state.evidence_reader import Snapshot

ATTEMPTS_SHOWN = 3
ATTEMPT_CHARS = 200
ATTEMPTS_IN_JSON = 50


@click.command("status")
@click.option(
    "--hosts",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Show many hosts instead: DIR holds the output of `status --json` of each, in HOST.json.",
)
@json_option
@profile_option
@policy_option
@state_options
def status_command(
    hosts: Optional[Path], as_json: bool, profile_name: Optional[str], policy_file: Optional[Path], **paths: Optional[Path]
) -> int:
    """Show the rollout on one screen.

    Shows the stage, the lease and its remaining time, pending candidates by level, the last apply, what taints the
    evidence, and whether the evidence is complete enough to enforce, with the reasons.

    With --hosts, one line for each host; exit code 1 if one needs attention: an overdue lease, a module that differs from
    that of the other hosts (drift), permissive without a lease, or a status older than an hour.

    \b
    Example:
      sepolicyd status
      sepolicyd status --hosts /srv/sepolicyd-hosts
    """
    if hosts is not None:
        return show_hosts(hosts, as_json=as_json)
    session = open_session(profile_name, **paths)
    picture = look(session, policy_file)
    if as_json:
        terminal.print_json(document(session, picture))
    else:
        terminal.print_out("\n".join(lines(session, picture)))
        if picture.lease_note:
            terminal.print_err(f"sepolicyd: {terminal.escape(picture.lease_note)}")
        if picture.queue.policy_note:
            terminal.print_err(f"sepolicyd: {terminal.escape(picture.queue.policy_note)}")
    return int(Exit.DONE)


def lines(session: Session, picture: Picture) -> list[str]:
    """Return the screen as lines of text."""
    snapshot, stage = picture.queue.snapshot, picture.stage_report
    shown = [
        f"profile   {session.profile.name}: {terminal.style(stage.state.value, bold=True)}, {stage.why}",
        f"next      {stage.next}",
    ]
    if picture.lease is not None:
        shown += lease_lines(picture.lease)
    elif session.settings.live:
        shown.append("lease     unknown (only root can read it)")
    levels = Counter(item.level for item in picture.queue.items)
    by_level = ", ".join(f"{levels[name]} {name}" for name in GuardLevel if levels[name])
    shown.append(f"pending   {terminal.plural(len(picture.queue.items), 'candidate')}" + (f" ({by_level})" if by_level else ""))
    if snapshot.present:
        shown.append(
            f"evidence  {terminal.plural(len(snapshot.evidence), 'access', 'accesses')} from "
            f"{terminal.plural(snapshot.counts.get('denials', 0), 'denial')}, last saved {terminal.when(snapshot.updated)}; "
            f"{snapshot.counts.get('ignored', 0)} denials of others, {snapshot.counts.get('unparsed', 0)} lines unparsed"
        )
    else:
        shown.append("evidence  none yet; check that the daemon is running")
    shown += _attempt_lines(snapshot)
    last = picture.last
    by = f"{last.what} by {terminal.escape(last.who)}, {terminal.when(last.at)}" if last is not None else ""
    shown.append(f"module    {last.module} version {picture.version} ({by})" if last is not None else "module    none")
    shown += [f"problem   {terminal.escape(text)}" for text in (problem(session.settings),) if text]
    shown += [f"tainted   {terminal.escape(text)}" for text in picture.taints]
    return shown + _ready_lines(picture.readiness)


def _attempt_lines(snapshot: Snapshot) -> list[str]:
    """Return lines on attempts to forge a record: the counts by domain, and the first attempts."""
    if not snapshot.attempt_count:
        return []
    shown = [f"attempts  {snapshot.attempt_count} to forge a record ({terminal.escape(snapshot.attempts_text)})"]
    for reason, line in snapshot.attempt_lines[:ATTEMPTS_SHOWN]:
        text = terminal.escape(line[:ATTEMPT_CHARS]) + (" ..." if len(line) > ATTEMPT_CHARS else "")
        shown.append(f"          {terminal.escape(reason)}: {text}")
    return shown


def _ready_lines(ready: Readiness) -> list[str]:
    shown = [f"ready     {'yes' if ready.ready else 'no'}"]
    shown += [f"          + {terminal.escape(text)}" for text in ready.because]
    shown += [f"          - {terminal.escape(text)}" for text in ready.but]
    if ready.curve:
        shown.append("          new accesses: " + ", ".join(f"{step.name} {step.new}" for step in ready.curve))
    return shown


def document(session: Session, picture: Picture) -> dict[str, Any]:
    """Return the JSON of status."""
    unseen = picture.readiness.unseen
    levels = Counter(item.level for item in picture.queue.items)
    return {
        **_identity(session, picture),
        "profile": session.profile.name,
        "state": picture.stage_report.state.value,
        "why": picture.stage_report.why,
        "next": picture.stage_report.next,
        "lease": None if picture.lease is None else lease_document(picture.lease),
        "pending": {name.value: levels[name] for name in GuardLevel},
        "accesses": len(picture.queue.snapshot.evidence),
        "counts": dict(picture.queue.snapshot.counts),
        "attempts": attempts_document(picture.queue.snapshot),
        "updated": picture.queue.snapshot.updated or None,
        "version": picture.version,
        "last": None if picture.last is None else {"what": picture.last.what, "who": picture.last.who, "at": picture.last.at},
        "trial_problem": problem(session.settings) or None,
        "taints": list(picture.taints),
        "ready": {
            "ready": picture.readiness.ready,
            "because": list(picture.readiness.because),
            "but": list(picture.readiness.but),
            "undone": list(picture.readiness.undone),
            "curve": [{"exercise": step.name, "seen": step.seen, "new": step.new} for step in picture.readiness.curve],
            "unseen": None
            if unseen is None
            else {"estimate": unseen.unseen, "lower": unseen.lower - unseen.seen, "upper": unseen.upper - unseen.seen},
        },
        "policy_note": picture.queue.policy_note or None,
    }


def attempts_document(snapshot: Snapshot) -> dict[str, Any]:
    """Return the attempts to forge a record; the key "" of ``by_domain`` stands for domains that nothing proves."""
    lines = snapshot.attempt_lines[:ATTEMPTS_IN_JSON]
    return {
        "count": snapshot.attempt_count,
        "by_domain": dict(snapshot.attempts),
        "lines": [{"reason": reason, "text": line} for reason, line in lines],
    }


def _identity(session: Session, picture: Picture) -> dict[str, Any]:
    """Return what `status --hosts` compares between hosts."""
    settings = session.settings
    module, base_policy = None, None
    with suppress(SepolicydError):
        base_policy = policy_identity(settings.root).base_modules
    with suppress(SepolicydError):
        versions = Versions(settings.rollout_dir, module_name(session.profile.name))
        module = versions.load(picture.version).modules.get(versions.name) if picture.version else None
    return {
        "host": socket.gethostname(),
        "at": round(time.time(), 3),
        "sepolicyd": __version__,
        "module_sha256": module,
        "base_policy": base_policy,
    }
