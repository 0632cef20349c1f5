"""Read the records of one rollout into a report, without changes and without linking a policy."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from sepolicyd import __version__
from sepolicyd.access import Access
from sepolicyd.errors import RefusedError, StateError
from sepolicyd.module.source import DONTAUDIT
from sepolicyd.module.store import Store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.report.grants import denied, grants_of, pending_rows
from sepolicyd.report.lease_history import lease_records
from sepolicyd.report.model import DomainReach, LeaseRecord, Report
from sepolicyd.report.reach import reach_of
from sepolicyd.report.version_history import changes_of, gained_by, since
from sepolicyd.rollout.apply.versions import Versions, module_name, sha256
from sepolicyd.rollout.history import Entry, History, HistoryEvent
from sepolicyd.rollout.learning import taint
from sepolicyd.rollout.lease.lease_records import LeaseBook
from sepolicyd.rollout.review.queue import undecided
from sepolicyd.rollout.session import Session, open_policy
from sepolicyd.rollout.stage import stage_report
from sepolicyd.rollout.status import check_readable, lease_of, readiness_of, stage_facts
from sepolicyd.state.decisions import Decision
from sepolicyd.state.evidence_reader import Snapshot


def collect(session: Session, now: float, policy_file: Optional[Path] = None) -> Report:
    """Read all content of the report of a profile.

    :param now: epoch seconds
    :raises RefusedError: only root can read the records, or they belong to another service
    :raises StateError: a record is damaged
    """
    settings, profile = session.settings, session.profile
    check_readable(session)
    snapshot, decided = session.snapshot(), _decided(session)
    check_profile(session, snapshot)
    policy, note = open_policy(settings, policy_file)
    waiting, solved = undecided(session, snapshot, decided, policy)
    module = module_name(profile.name)
    entries = [entry for entry in History(settings.rollout_dir).entries() if entry.module == module]
    versions = Versions(settings.rollout_dir, module)
    version = versions.load(versions.current())
    lease, lease_note = lease_of(session)
    records = taint.read_records(settings, profile.name, now=now)
    taints = (*snapshot.taints, *taint.summary(records.taints(snapshot.remarks)))
    grants = grants_of(decided, version, since(entries))
    return Report(
        service=profile.name,
        description=profile.description,
        made=now,
        host=os.uname().nodename if settings.live else "",
        sepolicyd=__version__,
        stage=stage_report(stage_facts(session, len(waiting), decided, lease, policy)),
        module=module,
        version=version.number,
        policy="" if policy is None else f"{policy.path} (format {policy.version})",
        policy_note=note or changed_since(session, entries),
        grants=tuple(one for one in grants if one.means != DONTAUDIT),
        refusals=denied(decided),
        silenced=tuple(one for one in grants if one.means == DONTAUDIT),
        pending=pending_rows(waiting),
        solved=solved,
        changes=changes_of(entries),
        leases=_leases(session),
        leases_note=lease_note,
        reach=_reach(session, policy, gained_by(entries, versions)),
        readiness=readiness_of(session, snapshot.evidence, records, lease, taints),
        seen=len(snapshot.evidence),
        faults=record_faults(session),
    )


def check_profile(session: Session, snapshot: Snapshot) -> None:
    """
    :raises RefusedError: the state directory belongs to another service
    """
    if snapshot.profile not in ("", session.profile.name):
        raise RefusedError(
            f"{session.settings.evidence_db} holds the evidence of {snapshot.profile!r}, not of {session.profile.name!r}",
            "give that service, or the state directory of this one with --state",
        )


def _decided(session: Session) -> dict[Access, Decision]:
    store = session.decisions()
    try:
        return store.decided()
    finally:
        store.close()


def _leases(session: Session) -> tuple[LeaseRecord, ...]:
    return lease_records(LeaseBook(session.settings.rollout_dir).history(), session.profile.name)


def record_faults(session: Session) -> tuple[str, ...]:
    """Faults of the hash chains of both histories, one sentence each."""
    chains = (History(session.settings.rollout_dir).chain, LeaseBook(session.settings.rollout_dir).chain)
    return tuple(f"{chain.path.name}: {text}" for chain in chains for text in chain.verify())


def _reach(session: Session, policy: Optional[PolicyIndex], gained: Iterable[Access]) -> tuple[DomainReach, ...]:
    return () if policy is None else reach_of(policy, session.profile.own_domains, gained)


def changed_since(session: Session, entries: Iterable[Entry]) -> str:
    """Return a sentence if the policy store has changed since the last load, otherwise ""."""
    digests = [str(one.details.get("policy", "")) for one in entries if one.what is not HistoryEvent.CONFIRM]
    if not digests or not digests[-1]:
        return ""
    try:
        present = sha256(Store(session.settings.root).policy().read_bytes())
    except (OSError, StateError):
        return ""
    if present == digests[-1]:
        return ""
    return "the policy store has changed since the last version was loaded (a package, a boolean or another module)"
