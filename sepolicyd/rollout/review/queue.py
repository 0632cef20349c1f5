"""The queue of pending candidates of a profile, assessed and sorted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.errors import SepolicydError, UsageError
from sepolicyd.policy import labels as policy_labels
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.interfaces import Interfaces
from sepolicyd.rollout.learning.coverage import assign_exercises
from sepolicyd.rollout.learning.taint import LearningRecords, Taint, annotate, read_records
from sepolicyd.rollout.review.reopened import reopened
from sepolicyd.rollout.session import Session, open_policy
from sepolicyd.rollout.setup import base_dontaudit
from sepolicyd.rules.assess.assess import Assessed, assess
from sepolicyd.rules.assess.context import allowed_now
from sepolicyd.rules.candidate import group
from sepolicyd.rules.evidence import Evidence
from sepolicyd.rules.guard.override import parse_overrides
from sepolicyd.state.decisions import Decision, pending
from sepolicyd.state.evidence_reader import Snapshot

ONE_HOST = ":one-host"


@dataclass(frozen=True)
class Queue:
    """Pending candidates in review order, and the data from which they were computed.

    ``solved`` counts accesses that were denied earlier and are now allowed by the policy.
    """

    items: tuple[Assessed, ...]
    snapshot: Snapshot
    decided: Mapping[Access, Decision]
    policy_note: str = ""
    solved: int = 0
    records: LearningRecords = field(default_factory=LearningRecords)
    taints: tuple[Taint, ...] = ()

    def find(self, ids: Sequence[str]) -> list[Assessed]:
        """Return the candidates with these ids (a unique prefix suffices; the revision in ID@REVISION must be current).

        :raises UsageError: no such candidate, an ambiguous prefix, or an outdated revision
        """
        return [self._find(text) for text in ids]

    def _find(self, text: str) -> Assessed:
        start, _, revision = text.partition("@")
        found = [item for item in self.items if item.candidate.id.startswith(start)] if start else []
        if not found:
            raise UsageError(f"no pending candidate {text}", "run: sepolicyd list")
        if len(found) > 1:
            raise UsageError(f"{text} is a prefix of {len(found)} candidate ids", "give more characters of the id")
        if revision and found[0].candidate.revision != revision:
            raise UsageError(
                f"candidate {start} has changed since {text}: it now requests {' '.join(found[0].candidate.permissions)}",
                f"look at it again: sepolicyd show {start}",
            )
        return found[0]


def queue(session: Session, policy_file: Optional[Path] = None, *, everything: bool = False, ids: Sequence[str] = ()) -> Queue:
    """Return the pending candidates, assessed; with ``everything`` also those already decided.

    :param ids: assess only the candidates with these ids (or prefixes, or ID@REVISION); () for all
    """
    snapshot = session.snapshot()
    store = session.decisions()
    try:
        decided = store.decided()
    finally:
        store.close()
    policy_index, note = open_policy(session.settings, policy_file)
    evidence, solved = undecided(session, snapshot, decided, policy_index, everything=everything)
    records = read_records(session.settings, session.profile.name)
    found = records.taints(snapshot.remarks)
    if not snapshot.hosts:  # merged evidence already contains the exercises of each host
        evidence = assign_exercises(evidence, session.marks())
    evidence = annotate(evidence, found, session.profile.domains, hosts=len(snapshot.hosts))
    items = judge(session, evidence, policy_index, foreign=policy_file is not None, ids=ids)
    return Queue(tuple(items), snapshot, decided, note, solved, records, found)


def undecided(
    session: Session,
    snapshot: Snapshot,
    decided: Mapping[Access, Decision],
    policy_index: Optional[PolicyIndex],
    *,
    everything: bool = False,
) -> tuple[dict[Access, Evidence], int]:
    """Return (the accesses that wait for a decision, the number of those that the policy allows or silences by now).

    :param everything: with the decided ones
    """
    evidence = dict(snapshot.evidence) if everything else pending(snapshot.evidence, decided)
    evidence.update(reopened(session.settings, session.profile.name, snapshot.evidence, decided))
    if policy_index is None or everything:
        return evidence, 0
    # denials covered by the base module's dontaudit rules are logged only while a lease has disabled dontaudit
    quiet = base_dontaudit.read(session.settings, session.profile.name).among(evidence, policy_index)
    solved = allowed_now(policy_index, evidence) | quiet
    return {access: seen for access, seen in evidence.items() if access not in solved}, len(solved)


def judge(
    session: Session,
    evidence: Mapping[Access, Evidence],
    policy_index: Optional[PolicyIndex],
    *,
    foreign: bool = False,
    ids: Sequence[str] = (),
) -> list[Assessed]:
    """Return the assessed candidates of the evidence.

    :param foreign: the policy belongs to another machine, so this machine's file contexts do not apply
    :param ids: as for :func:`queue`
    :raises UsageError: an override in the configuration is invalid
    """
    guard = session.guard()
    labels = None if policy_index is None or foreign else policy_labels.open_labels(session.settings, policy_index)
    overrides, wrong = parse_overrides(session.settings.overrides)
    if wrong:
        raise UsageError(f"{session.settings.config}: {'; '.join(wrong)}", "correct or remove them")
    candidates = group(evidence, _facets(guard.facets(evidence, session.profile), evidence))
    found = assess(
        candidates, profile=session.profile, guard=guard, policy_index=policy_index, labels=labels, overrides=overrides,
        ids=[text.partition("@")[0] for text in ids],
    )  # fmt: skip
    if labels is not None:
        labels.keep()
    return found


def _facets(facets: Mapping[Access, str], evidence: Mapping[Access, Evidence]) -> dict[Access, str]:
    """Return facets in which accesses claimed by a single host of merged evidence form candidates of their own."""
    return {
        **facets,
        **{access: facets.get(access, "") + ONE_HOST for access, seen in evidence.items() if seen.hosts == 1},
    }


def with_interfaces(session: Session, item: Assessed, policy_file: Optional[Path] = None) -> Assessed:
    """Return the candidate with the reference policy's interfaces added to its fixes, if the interface files are installed.

    Called for one candidate at a time because it takes 80 ms; a list of all candidates does without interfaces.
    """
    policy_index, _ = open_policy(session.settings, policy_file)
    interfaces = open_interfaces(session.settings.policy_headers / "include")
    if policy_index is None or interfaces is None or not item.approvable:
        return item
    refined = assess(
        [item.candidate], profile=session.profile, guard=session.guard(), policy_index=policy_index, interfaces=interfaces,
        labels=None if policy_file is not None else policy_labels.open_labels(session.settings, policy_index),
    )[0]  # fmt: skip
    return replace(item, fix=refined.fix, alternatives=refined.alternatives)


@lru_cache(maxsize=1)
def open_interfaces(include: Path) -> Optional[Interfaces]:
    """Return the interfaces of the reference policy below a directory, None if they are not installed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sepolicyd"
    try:
        return Interfaces.load(cache, include)
    except SepolicydError:
        return None  # without the interface files, no interface is offered
