"""Assess every denial of a log, treating each source type outside the profile as a service of its own."""

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
    """Return the candidates of every source type, most urgent first.

    Source types that the profile lists as domains of its service are assessed with the profile. All others are assessed with a
    generic profile, because the profile's knowledge does not apply to them.

    :param foreign: the policy belongs to another machine, so this machine's file contexts do not apply
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
