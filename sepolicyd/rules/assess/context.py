"""Input facts of an assessment: those shared by all candidates, and those of one candidate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.audit.model import Context
from sepolicyd.policy import explain as policy_explain
from sepolicyd.policy.explain import Why
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.interfaces import Interfaces
from sepolicyd.policy.labels import Labels
from sepolicyd.policy.model import VerdictKind
from sepolicyd.profiles import Profile
from sepolicyd.rules.assess import risk
from sepolicyd.rules.assess.bursts import Burst, bursts
from sepolicyd.rules.assess.consequences import cascades, walked
from sepolicyd.rules.candidate import Candidate
from sepolicyd.rules.evidence import Evidence
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.fixes.dontaudit import COMMON
from sepolicyd.rules.fixes.known_denials import KnownDenial, matching
from sepolicyd.rules.guard.guard import Guard
from sepolicyd.rules.guard.level import GuardLevel
from sepolicyd.rules.guard.override import Override
from sepolicyd.rules.guard.rule import Finding


class Guarded:
    """Findings of the guard on single accesses, cached."""

    def __init__(self, guard: Guard, profile: Profile, policy: Optional[PolicyIndex]) -> None:
        self._guard = guard
        self._profile = profile
        self._policy = policy
        self._found: dict[Access, tuple[Finding, ...]] = {}

    def findings(self, access: Access) -> tuple[Finding, ...]:
        """Return the findings on an access, the most severe first."""
        found = self._found.get(access)
        if found is None:
            found = self._found[access] = tuple(self._guard.judge_access(access, self._profile, self._policy))
        return found

    def refuses(self, access: Access) -> bool:
        return any(finding.level is GuardLevel.REFUSE for finding in self.findings(access))


@dataclass(frozen=True)
class SharedFacts:
    """Facts derived from the evidence of several candidates. They need no explanation of candidates, so they are cheap."""

    walked: frozenset[str] = frozenset()
    """Ids of candidates for directories that are only on the way to another denial."""
    cascades: Mapping[str, str] = field(default_factory=dict)
    """Candidate id to the id of the candidate of which it is a consequence."""
    pairs: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(source, target) of files that could be both written and executed, to the permissions involved."""
    bursts: tuple[Burst, ...] = ()


@dataclass(frozen=True)
class AssessmentContext:
    """Everything that is the same for all candidates of one assessment."""

    profile: Profile
    guard: Guard
    guarded: Guarded
    shared: SharedFacts
    policy_index: Optional[PolicyIndex] = None
    labels: Optional[Labels] = None
    known_denials: tuple[KnownDenial, ...] = ()
    overrides: Mapping[Access, Override] = field(default_factory=dict)
    interfaces: Optional[Interfaces] = None

    def bursts_of(self, seen: Evidence) -> tuple[Burst, ...]:
        """Return the bursts of the processes in this evidence."""
        return tuple(burst for burst in self.shared.bursts if burst.pid in seen.pids)

    def freezing(self, seen: Evidence) -> tuple[Burst, ...]:
        """Return the bursts that put a candidate on hold: those of its processes and of its roles."""
        return tuple(
            burst for burst in self.shared.bursts if burst.pid in seen.pids or not set(burst.roles).isdisjoint(seen.roles)
        )


def shared_facts(
    candidates: Sequence[Candidate], profile: Profile, guarded: Guarded, policy_index: Optional[PolicyIndex] = None
) -> SharedFacts:
    """Return the facts shared by all pending candidates, for the parameter ``shared`` of :func:`assess`."""
    accesses = [access for candidate in candidates for access in candidate.evidence]
    common = frozenset(one.id for one in candidates if Question(one, profile, policy_index).is_common(COMMON))
    return SharedFacts(
        walked=walked(candidates),
        cascades=cascades(candidates, common),
        pairs=risk.write_and_run(accesses, policy_index),
        bursts=tuple(bursts(_attempts(candidates, guarded))),
    )


def _attempts(candidates: Iterable[Candidate], guarded: Guarded) -> dict[Access, Evidence]:
    """Return the accesses that are refused because of their effect."""
    return {
        access: seen
        for candidate in candidates
        for access, seen in candidate.evidence.items()
        if any(finding.level is GuardLevel.REFUSE and finding.attack for finding in guarded.findings(access))
    }


def facts_of(candidate: Candidate, context: AssessmentContext) -> Question:
    """Return the facts of one candidate, without findings. Each access is explained once."""
    policy, profile = context.policy_index, context.profile
    return Question(
        candidate=candidate,
        profile=profile,
        policy=policy,
        labels=context.labels,
        known=tuple(matching(context.known_denials, candidate, profile, policy)),
        whys={} if policy is None else {one: explain_seen(policy, one, candidate.evidence[one]) for one in candidate.accesses},
        walked=candidate.id in context.shared.walked,
    )


def explain_seen(policy: PolicyIndex, access: Access, seen: Evidence) -> Why:
    """Explain an access in the contexts of its evidence, preferably in a context that a constraint denies."""
    contexts = [(Context.parse(source), Context.parse(target)) for source, target in seen.contexts] or [(None, None)]
    found = policy_explain.explain(policy, access, *contexts[0])
    for scontext, tcontext in contexts[1:]:
        if found.constraints or found.roles:
            break
        found = policy_explain.explain(policy, access, scontext, tcontext)
    return found


def allowed_now(policy: PolicyIndex, evidence: Mapping[Access, Evidence]) -> frozenset[Access]:
    """Return the accesses that the policy now allows, including constraints, in every context in which they were denied."""
    return frozenset(
        access
        for access, seen in evidence.items()
        if policy.allowed(access).kind is VerdictKind.ALLOWED and explain_seen(policy, access, seen).allowed
    )
