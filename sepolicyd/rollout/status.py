"""The content of `sepolicyd status`, read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.errors import RefusedError, SepolicydError, StateError
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rollout.apply.outstanding import outstanding_by_records
from sepolicyd.rollout.apply.trial import read_trial
from sepolicyd.rollout.apply.versions import Versions, module_name
from sepolicyd.rollout.history import Entry, History
from sepolicyd.rollout.learning import readiness, taint
from sepolicyd.rollout.learning.coverage import assign_exercises
from sepolicyd.rollout.learning.readiness import Readiness
from sepolicyd.rollout.lease import status
from sepolicyd.rollout.lease.lease_records import LeaseBook
from sepolicyd.rollout.review.queue import Queue, queue
from sepolicyd.rollout.session import Session, open_policy
from sepolicyd.rollout.stage import StageFacts, StageReport, stage_report
from sepolicyd.rules.evidence import Evidence
from sepolicyd.state.decisions import Decision


@dataclass(frozen=True)
class Picture:
    """The content of one `status` screen; ``lease`` is None if only root can read it."""

    stage_report: StageReport
    queue: Queue
    lease: Optional[status.LeaseStatus]
    lease_note: str
    """The reason why the lease could not be read, "" if it was read."""
    version: int
    last: Optional[Entry]
    taints: tuple[str, ...]
    readiness: Readiness


def look(session: Session, policy_file: Optional[Path]) -> Picture:
    """Read everything that `status` shows.

    :raises RefusedError: the caller is not root, so leases and versions cannot be read
    """
    check_readable(session)
    waiting = queue(session, policy_file)
    lease, lease_note = lease_of(session)
    policy_index, _ = open_policy(session.settings, policy_file)
    versions = Versions(session.settings.rollout_dir, module_name(session.profile.name))
    version = versions.current()
    taints = (*waiting.snapshot.taints, *taint.summary(waiting.taints))
    pending = sum(len(item.candidate.evidence) for item in waiting.items)
    return Picture(
        stage_report=stage_report(stage_facts(session, pending, waiting.decided, lease, policy_index)),
        queue=waiting,
        lease=lease,
        lease_note=lease_note,
        version=version,
        last=next(
            (one for one in reversed(History(session.settings.rollout_dir).entries()) if one.module == versions.name), None
        ),
        taints=taints,
        readiness=readiness_of(session, waiting.snapshot.evidence, waiting.records, lease, taints),
    )


def check_readable(session: Session) -> None:
    """Check that leases and versions can be read.

    :raises RefusedError: only root can read them
    """
    directory = session.settings.rollout_dir
    if not LeaseBook(directory).is_readable:
        raise RefusedError(f"only root can read {directory}, where leases and versions are stored", "run this with sudo")


def stage_facts(
    session: Session,
    pending: int,
    decided: Mapping[Access, Decision],
    lease: Optional[status.LeaseStatus],
    policy_index: Optional[PolicyIndex],
) -> StageFacts:
    """Collect the facts that decide the stage.

    :param pending: the number of undecided accesses
    """
    profile = session.profile
    versions = Versions(session.settings.rollout_dir, module_name(profile.name))
    own = profile.own_domains
    domains = [] if policy_index is None else [name for name in own if policy_index.types_of(name)]
    permissive = policy_index.permissive_types if policy_index is not None else frozenset()
    try:
        trial = read_trial(session.settings)
        on_trial = trial is not None and trial.module == versions.name
    except StateError:
        on_trial = True  # damaged record: the next command that root runs rolls the version back
    return StageFacts(
        domains_loaded=bool(domains),
        unconfined=policy_index is not None and any(policy_index.is_unconfined(name) for name in domains),
        lease_open=lease is not None and lease.lease is not None,
        permissive=bool(permissive & set(own)) or (lease is not None and not lease.enforcing),
        pending=pending,
        unapplied=_unapplied(decided, versions, policy_index),
        trial_open=on_trial,
        version=versions.current(),
    )


def _unapplied(decided: Mapping[Access, Decision], versions: Versions, policy_index: Optional[PolicyIndex]) -> int:
    """Return the number of changes that `apply` would make."""
    try:
        return outstanding_by_records(versions, decided, policy_index).count
    except RefusedError:
        return 1  # a decision that cannot be carried out; `apply` reports it


def lease_of(session: Session) -> tuple[Optional[status.LeaseStatus], str]:
    """Return (state of the lease, why it could not be read or ""). No state without root, or for another root's store."""
    if not session.settings.live:
        return None, ""
    try:
        return status.status(session.settings, session.profile), ""
    except RefusedError:
        return None, ""  # only root can read it
    except SepolicydError as failure:
        return None, f"the lease cannot be read: {failure}"


def readiness_of(
    session: Session,
    evidence: Mapping[Access, Evidence],
    records: taint.LearningRecords,
    lease: Optional[status.LeaseStatus],
    taints: Sequence[str],
) -> Readiness:
    """Judge whether the evidence is complete enough to enforce."""
    marks = session.marks()
    hidden = any(window.hidden for window in records.leases) or (
        lease is not None and lease.lease is not None and lease.lease.hidden
    )
    return readiness.judge(
        assign_exercises(evidence, marks),
        [mark.name for mark in marks],
        [one.name for one in session.profile.exercises],
        taints=taints,
        hidden=hidden,
    )
