"""status: state, lease, pending by level, the last apply, taints and readiness, on one screen."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import click

from sepolicyd.access import Access
from sepolicyd.cli import terminal
from sepolicyd.cli.learn import lease_document, lease_lines
from sepolicyd.cli.options import json_option, policy_option, profile_option, state_options
from sepolicyd.cli.session import Queue, Session, open_oracle, open_session, queue
from sepolicyd.errors import RefusedError, SepolicydError, StateError
from sepolicyd.policy.index import Oracle
from sepolicyd.rollout.apply.plan import module_name
from sepolicyd.rollout.apply.trial import problem, read_trial
from sepolicyd.rollout.apply.versions import Versions
from sepolicyd.rollout.history import Entry, History
from sepolicyd.rollout.learning import readiness, taint
from sepolicyd.rollout.learning.readiness import Readiness
from sepolicyd.rollout.learning.tainted import find_taints
from sepolicyd.rollout.lease import lifecycle as leases
from sepolicyd.rollout.lease.lease import LeaseBook
from sepolicyd.rollout.stage import Facts, Standing, standing
from sepolicyd.state.decisions import Decision, allowed
from sepolicyd.state.evidence_store import assign_exercises


@dataclass(frozen=True)
class Picture:
    """Everything that one screen shows; ``lease`` None where only root could tell."""

    standing: Standing
    queue: Queue
    lease: Optional[leases.LeaseStatus]
    version: int
    last: Optional[Entry]
    taints: tuple[str, ...]
    readiness: Readiness


@click.command("status")
@json_option
@profile_option
@policy_option
@state_options
def status_command(as_json: bool, profile_name: Optional[str], policy_file: Optional[Path], **paths: Optional[Path]) -> None:
    """Show the rollout on one screen.

    State, lease and its time left, what is pending by level, the last apply, what taints the evidence, and whether
    enough was seen to enforce, with the reasons.

    \b
    Example:
      sepolicyd status
    """
    session = open_session(profile_name, **paths)
    picture = look(session, policy_file)
    if as_json:
        terminal.print_json(document(session, picture))
    else:
        terminal.data("\n".join(lines(session, picture)))
        if picture.queue.policy_note:
            terminal.talk(f"sepolicyd: {terminal.escape(picture.queue.policy_note)}")


def look(session: Session, policy_file: Optional[Path]) -> Picture:
    """Gather it.

    :raises RefusedError: what was decided and loaded is root's to read
    """
    directory = session.settings.rollout_dir
    if directory.exists() and not os.access(directory, os.R_OK | os.X_OK):
        raise RefusedError(f"only root can read {directory}, where leases and versions are kept", "run this with sudo")
    waiting = queue(session, policy_file)
    lease = _lease(session)
    oracle, _ = open_oracle(session.settings, policy_file)
    versions = Versions(session.settings.rollout_dir, module_name(session.profile.name))
    version = versions.current()
    taints = _taints(session, waiting)
    return Picture(
        standing=standing(_facts(session, waiting, lease, oracle, version, versions)),
        queue=waiting,
        lease=lease,
        version=version,
        last=next(
            (one for one in reversed(History(session.settings.rollout_dir).entries()) if one.module == versions.name), None
        ),
        taints=taints,
        readiness=_readiness(session, waiting, lease, taints),
    )


def _facts(
    session: Session,
    waiting: Queue,
    lease: Optional[leases.LeaseStatus],
    oracle: Optional[Oracle],
    version: int,
    versions: Versions,
) -> Facts:
    profile = session.profile
    own = [name for name in profile.domains if name not in profile.unpoliced]
    domains = [] if oracle is None else [name for name in own if oracle.types_of(name)]
    permissive = oracle.permissive_types if oracle is not None else frozenset()
    try:
        trial = read_trial(session.settings)
        on_trial = trial is not None and trial.module == versions.name
    except StateError:
        on_trial = True  # damaged: the next command that root runs takes the version back
    return Facts(
        domains_loaded=bool(domains),
        unconfined=oracle is not None and any(oracle.is_unconfined(name) for name in domains),
        lease_open=lease is not None and lease.lease is not None,
        permissive=bool(permissive & set(own)) or (lease is not None and not lease.enforcing),
        pending=sum(len(item.candidate.evidence) for item in waiting.items),
        unapplied=_unapplied(waiting.decided, version, versions),
        trial_open=on_trial,
        version=version,
    )


def _unapplied(decided: Mapping[Access, Decision], version: int, versions: Versions) -> int:
    """Accesses whose standing answer is allow by a rule, and that the version in the store does not hold."""
    held = {rule.access for rule in versions.load(version).rules}
    return sum(access not in held and decided[access].fix_kind in ("", "allow") for access in allowed(decided))


def _entries(session: Session) -> list[Entry]:
    return History(session.settings.rollout_dir).entries()


def _lease(session: Session) -> Optional[leases.LeaseStatus]:
    if not session.settings.live:
        return None
    try:
        return leases.status(session.settings, session.profile)
    except RefusedError:
        return None  # only root may look
    except SepolicydError as failure:
        terminal.talk(f"sepolicyd: the lease cannot be told: {terminal.escape(str(failure))}")
        return None


def _taints(session: Session, waiting: Queue) -> tuple[str, ...]:
    found = find_taints(session.settings, session.profile.name, waiting.snapshot.remarks)
    return (*waiting.snapshot.taints, *taint.summary(found))


def _readiness(session: Session, waiting: Queue, lease: Optional[leases.LeaseStatus], taints: tuple[str, ...]) -> Readiness:
    marks = session.marks()
    windows = taint.windows(LeaseBook(session.settings.rollout_dir).history(), session.profile.name, time.time())
    hidden = any(window.hidden for window in windows) or (lease is not None and lease.lease is not None and lease.lease.hidden)
    return readiness.judge(
        assign_exercises(waiting.snapshot.evidence, marks),
        [mark.name for mark in marks],
        [one.name for one in session.profile.exercises],
        taints=taints,
        hidden=hidden,
    )


def lines(session: Session, picture: Picture) -> list[str]:
    """The screen."""
    snapshot = picture.queue.snapshot
    shown = [
        f"profile   {session.profile.name}: {terminal.style(picture.standing.state.value, bold=True)}, {picture.standing.why}",
        f"next      {picture.standing.next}",
    ]
    if picture.lease is not None:
        shown += lease_lines(picture.lease)
    elif session.settings.live:
        shown.append("lease     (root can tell)")
    levels = Counter(item.level for item in picture.queue.items)
    by_level = ", ".join(f"{levels[name]} {name}" for name in ("refuse", "review", "note", "none") if levels[name])
    shown.append(f"pending   {terminal.plural(len(picture.queue.items), 'candidate')}" + (f" ({by_level})" if by_level else ""))
    if snapshot.present:
        shown.append(
            f"evidence  {terminal.plural(len(snapshot.evidence), 'access', 'accesses')} from "
            f"{terminal.plural(snapshot.counts.get('denials', 0), 'denial')}, last saved {terminal.when(snapshot.updated)}; "
            f"{snapshot.counts.get('ignored', 0)} denials of others, {snapshot.counts.get('unparsed', 0)} lines unparsed"
        )
    else:
        shown.append("evidence  none yet: is the daemon running?")
    last = picture.last
    by = f"{last.what} by {terminal.escape(last.who)}, {terminal.when(last.at)}" if last is not None else ""
    shown.append(f"module    {last.module} version {picture.version} ({by})" if last is not None else "module    none of ours")
    shown += [f"problem   {terminal.escape(text)}" for text in (problem(session.settings),) if text]
    shown += [f"tainted   {terminal.escape(text)}" for text in picture.taints]
    return shown + _ready_lines(picture.readiness)


def _ready_lines(ready: Readiness) -> list[str]:
    shown = [f"ready     {'yes' if ready.ready else 'no'}"]
    shown += [f"          + {terminal.escape(text)}" for text in ready.because]
    shown += [f"          - {terminal.escape(text)}" for text in ready.but]
    if ready.curve:
        shown.append("          new accesses: " + ", ".join(f"{step.name} {step.new}" for step in ready.curve))
    return shown


def document(session: Session, picture: Picture) -> dict[str, Any]:
    """The JSON of status."""
    unseen = picture.readiness.unseen
    levels = Counter(item.level for item in picture.queue.items)
    return {
        "profile": session.profile.name,
        "state": picture.standing.state.value,
        "why": picture.standing.why,
        "next": picture.standing.next,
        "lease": None if picture.lease is None else lease_document(picture.lease),
        "pending": {name: levels.get(name, 0) for name in ("refuse", "review", "note", "none")},
        "accesses": len(picture.queue.snapshot.evidence),
        "counts": dict(picture.queue.snapshot.counts),
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
