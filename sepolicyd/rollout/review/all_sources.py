"""Judge every denial of a log: each source as a service of its own, unless the profile describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rollout.review.queue import judge
from sepolicyd.rollout.session import Session
from sepolicyd.rules.assess.assess import Assessed
from sepolicyd.rules.evidence import Evidence
from sepolicyd.rules.guard.generic_profile import neutral_profile
from sepolicyd.rules.guard.type_facts import facts_of_policy


def judge_all(
    session: Session, evidence: Mapping[Access, Evidence], policy_index: Optional[PolicyIndex], *, foreign: bool = False
) -> list[Assessed]:
    """Candidates of every source, most urgent first.

    A source that the profile names as a domain of its service is judged by the profile, every other one neutrally: the
    profile's knowledge says nothing of it, and a rule for it is not a rule for somebody else's domain.

    :param foreign: the policy is another machine's, so that this machine's file contexts say nothing
    """
    by_source: dict[str, dict[Access, Evidence]] = {}
    own = set(session.profile.domains)
    for access, seen in evidence.items():
        by_source.setdefault("" if access.source in own else access.source, {})[access] = seen
    facts = facts_of_policy(policy_index)
    found = []
    for source, part in sorted(by_source.items()):
        chosen = session if not source else replace(session, profile=neutral_profile(source, facts))
        found += judge(chosen, part, policy_index, foreign=foreign)
    return sorted(found, key=lambda item: item.order)
