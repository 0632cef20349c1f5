"""The pending candidates of a profile, judged."""

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
    """What waits for a person, in the order to look at it, and what it was made of.

    ``solved`` counts accesses that were denied once and that the policy allows by now: no question any more.
    """

    items: tuple[Assessed, ...]
    snapshot: Snapshot
    decided: Mapping[Access, Decision]
    policy_note: str = ""
    solved: int = 0
    records: LearningRecords = field(default_factory=LearningRecords)
    taints: tuple[Taint, ...] = ()

    def find(self, ids: Sequence[str]) -> list[Assessed]:
        """The candidates of these ids (unique beginnings suffice; ID@REVISION must be the present one).

        :raises UsageError: no such candidate, several, or another revision by now
        """
        return [self._find(text) for text in ids]

    def _find(self, text: str) -> Assessed:
        start, _, revision = text.partition("@")
        found = [item for item in self.items if item.candidate.id.startswith(start)] if start else []
        if not found:
            raise UsageError(f"no pending candidate {text}", "`sepolicyd list` shows those that are")
        if len(found) > 1:
            raise UsageError(f"{text} is the beginning of {len(found)} candidates", "give more of the id")
        if revision and found[0].candidate.revision != revision:
            raise UsageError(
                f"candidate {start} has changed since {text}: it now asks {' '.join(found[0].candidate.permissions)}",
                f"look at it again: sepolicyd show {start}",
            )
        return found[0]


def queue(session: Session, policy_file: Optional[Path] = None, *, everything: bool = False, ids: Sequence[str] = ()) -> Queue:
    """The pending candidates, judged; with ``everything`` those already decided too.

    :param ids: judge only the candidates of these ids (or beginnings, or ID@REVISION); () for all
    """
    snapshot = session.snapshot()
    store = session.decisions()
    try:
        decided = store.decided()
    finally:
        store.close()
    evidence = dict(snapshot.evidence) if everything else pending(snapshot.evidence, decided)
    evidence.update(reopened(session.settings, session.profile.name, snapshot.evidence, decided))
    policy_index, note = open_policy(session.settings, policy_file)
    solved: frozenset[Access] = frozenset()
    if policy_index is not None and not everything:
        # what the base module answers in silence is asked only because a lease has made it loud
        quiet = base_dontaudit.read(session.settings, session.profile.name).among(evidence, policy_index)
        solved = allowed_now(policy_index, evidence) | quiet
    evidence = {access: seen for access, seen in evidence.items() if access not in solved}
    records = read_records(session.settings, session.profile.name)
    found = records.taints(snapshot.remarks)
    if not snapshot.hosts:  # a merge holds the exercises of each host already
        evidence = assign_exercises(evidence, session.marks())
    evidence = annotate(evidence, found, session.profile.domains, hosts=len(snapshot.hosts))
    items = judge(session, evidence, policy_index, foreign=policy_file is not None, ids=ids)
    return Queue(tuple(items), snapshot, decided, note, len(solved), records, found)


def judge(
    session: Session,
    evidence: Mapping[Access, Evidence],
    policy_index: Optional[PolicyIndex],
    *,
    foreign: bool = False,
    ids: Sequence[str] = (),
) -> list[Assessed]:
    """Candidates of the evidence with everything known of them.

    :param foreign: the policy is another machine's, so that this machine's file contexts say nothing
    :param ids: as for :func:`queue`
    :raises UsageError: an override in the configuration cannot be used
    """
    guard = session.guard()
    labels = None if policy_index is None or foreign else policy_labels.open_labels(session.settings, policy_index)
    overrides, wrong = parse_overrides(session.settings.overrides)
    if wrong:
        raise UsageError(f"{session.settings.config}: {'; '.join(wrong)}", "mend or remove them")
    candidates = group(evidence, _facets(guard.facets(evidence, session.profile), evidence))
    found = assess(
        candidates, profile=session.profile, guard=guard, policy_index=policy_index, labels=labels, overrides=overrides,
        ids=[text.partition("@")[0] for text in ids],
    )  # fmt: skip
    if labels is not None:
        labels.keep()
    return found


def _facets(facets: Mapping[Access, str], evidence: Mapping[Access, Evidence]) -> dict[Access, str]:
    """Facets that also separate what one host of a merge alone has claimed, so that no common answer allows it."""
    return {
        **facets,
        **{access: facets.get(access, "") + ONE_HOST for access, seen in evidence.items() if seen.hosts == 1},
    }


def with_interfaces(session: Session, item: Assessed, policy_file: Optional[Path] = None) -> Assessed:
    """The same candidate with the reference policy's interfaces among its fixes, where they are installed.

    Asked for one candidate at a time (80 ms each): a list of all would wait for what nobody looks at.
    """
    policy_index, _ = open_policy(session.settings, policy_file)
    interfaces = _interfaces(session.settings.policy_headers / "include")
    if policy_index is None or interfaces is None or not item.approvable:
        return item
    refined = assess(
        [item.candidate], profile=session.profile, guard=session.guard(), policy_index=policy_index, interfaces=interfaces,
        labels=None if policy_file is not None else policy_labels.open_labels(session.settings, policy_index),
    )[0]  # fmt: skip
    return replace(item, fix=refined.fix, alternatives=refined.alternatives)


@lru_cache(maxsize=1)
def _interfaces(include: Path) -> Optional[Interfaces]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sepolicyd"
    try:
        return Interfaces.load(cache, include)
    except SepolicydError:
        return None  # no headers here: none is offered
