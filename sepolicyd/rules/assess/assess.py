"""Assess candidates: facts, findings and fixes of each, in review order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.interfaces import Interfaces, Offer
from sepolicyd.policy.labels import Labels
from sepolicyd.profiles import Profile
from sepolicyd.rules.assess import findings, risk
from sepolicyd.rules.assess.bursts import Burst
from sepolicyd.rules.assess.context import AssessmentContext, Guarded, SharedFacts, facts_of, shared_facts
from sepolicyd.rules.assess.summary import sentence
from sepolicyd.rules.candidate import Candidate
from sepolicyd.rules.fixes import known_denials, order_fixes
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.fixes.detail import OnlyPermissions
from sepolicyd.rules.fixes.fix import Fix, FixKind, rules_of
from sepolicyd.rules.guard.guard import Guard
from sepolicyd.rules.guard.level import GuardLevel, worst
from sepolicyd.rules.guard.override import Override
from sepolicyd.rules.guard.rule import About, Finding

RULES = (FixKind.ALLOW, FixKind.INTERFACE)
# fixes that grant nothing to the domain
CLOSED = (
    FixKind.APPLICATION, FixKind.CONTEXT, FixKind.DONTAUDIT, FixKind.OWNER, FixKind.REFUSE, FixKind.RELABEL, FixKind.UNKNOWN,
)  # fmt: skip


@dataclass(frozen=True)
class Assessed:
    """One candidate with everything that a reviewer needs to answer it.

    ``opens`` and ``sentence`` contain raw log text: escape them before display.
    """

    candidate: Candidate
    level: GuardLevel
    findings: tuple[Finding, ...]
    fix: Fix
    """The proposed fix."""
    alternatives: tuple[Fix, ...]
    """Other fixes, best first."""
    opens: tuple[str, ...]
    """Sentences on the effect of a rule, from facts of the installed policy."""
    sentence: str
    why_not: str = ""
    """The reason why the candidate cannot be approved, "" if it can."""
    roles: tuple[str, ...] = ()
    frozen: tuple[Burst, ...] = ()
    """Bursts that put the candidates of this role on hold."""
    cascade_of: str = ""
    """Id of the candidate of which this one is a consequence."""
    rarity: int = risk.UNJUDGED

    @property
    def approvable(self) -> bool:
        return not self.why_not

    @property
    def needs_reason(self) -> bool:
        """Whether an approval requires a reason."""
        return self.approvable and self.level is GuardLevel.REVIEW

    @property
    def ruled(self) -> tuple[Access, ...]:
        """The accesses that the proposed fix allows by a rule; () if it is not a rule or cannot be approved."""
        allowed = any(finding.about is About.ALLOWED for finding in self.findings)
        if self.fix.kind not in RULES or not self.approvable or allowed:
            return ()
        detail = self.fix.detail
        if isinstance(detail, OnlyPermissions):
            return tuple(access for access in self.candidate.accesses if access.permission in detail.permissions)
        return self.candidate.accesses

    @property
    def order(self) -> tuple[int, int, str, str, str, str]:
        """Sort key of the queue: by level, then by rarity."""
        candidate = self.candidate
        return (self.level.rank, self.rarity, candidate.source, candidate.target, candidate.tclass, candidate.facet)


def assess(
    candidates: Sequence[Candidate],
    *,
    profile: Profile,
    guard: Guard,
    policy_index: Optional[PolicyIndex] = None,
    labels: Optional[Labels] = None,
    overrides: Sequence[Override] = (),
    interfaces: Optional[Interfaces] = None,
    shared: Optional[SharedFacts] = None,
    ids: Sequence[str] = (),
) -> list[Assessed]:
    """Assess candidates, most urgent first.

    Without a policy, nothing can be approved, and fixes are based on names only.

    :param shared: facts shared by all pending candidates, if ``candidates`` are only some of them
    :param ids: prefixes of the ids to assess; () for all. The other candidates only contribute to the shared facts.
    :raises InputError: errors in the profile's known denials
    """
    guarded = Guarded(guard, profile, policy_index)
    context = AssessmentContext(
        profile=profile,
        guard=guard,
        guarded=guarded,
        shared=shared or shared_facts(candidates, profile, guarded, policy_index),
        policy_index=policy_index,
        labels=labels,
        known_denials=known_denials.load(profile.directory),
        overrides={override.access: override for override in overrides},
        interfaces=interfaces,
    )
    wanted = [candidate for candidate in candidates if not ids or candidate.id.startswith(tuple(ids))]
    return sorted((assess_one(candidate, context) for candidate in wanted), key=lambda item: item.order)


def assess_one(candidate: Candidate, context: AssessmentContext) -> Assessed:
    """Assess one candidate: facts, findings, fixes, and whether it can be approved."""
    question = _with_findings(facts_of(candidate, context), context)
    overridden = [context.overrides[access] for access in candidate.accesses if access in context.overrides]
    complete = len(overridden) == len(candidate.accesses)
    fixes = [fix for fix in order_fixes.fixes(question) if findings.may_offer(question, context, fix)]
    if complete and not any(fix.kind is FixKind.ALLOW for fix in fixes):
        text = f"allow it although the guard refuses it, because of the override by {overridden[0].by}"
        fixes.append(Fix(FixKind.ALLOW, text, rules_of(candidate.accesses)))
    found = question.findings
    if fixes[0].kind not in CLOSED and not question.allowed:
        found = _second_look(found)
    level = worst(finding.level for finding in found if not finding.remark or finding.level is GuardLevel.REVIEW)
    frozen = context.freezing(question.seen)
    why_not = _why_not(question, level, frozen, fixes, overridden=complete)
    return Assessed(
        candidate=candidate,
        level=level,
        findings=found,
        fix=fixes[0],
        alternatives=tuple(fixes[1:]),
        opens=(*risk.opens(question), *(f"overridden by {one.by}: {one.reason}" for one in overridden[:1])),
        sentence=sentence(question),
        why_not=why_not,
        roles=question.seen.roles,
        frozen=frozen,
        cascade_of=context.shared.cascades.get(candidate.id, ""),
        rarity=risk.rarity(question),
    )


def _with_findings(question: Question, context: AssessmentContext) -> Question:
    """Return the question with its findings and the interfaces that may be offered."""
    by_guard = findings.guard_findings(question, context)
    question = replace(question, findings=by_guard)
    found = findings.ordered(iter((*by_guard, *findings.other_findings(question, context))))
    question = replace(question, findings=found, noise=findings.prefers_dontaudit(question, context))
    return replace(question, offers=_offers(question, context))


def _second_look(found: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Raise the note on user code to review, because the proposed fix would grant user code an access."""
    return tuple(
        replace(finding, level=GuardLevel.REVIEW) if finding.about is About.USER_CODE else finding for finding in found
    )


def _offers(question: Question, context: AssessmentContext) -> tuple[Offer, ...]:
    """Return the interfaces that cover the question without adding an access that the guard refuses."""
    policy = context.policy_index
    if context.interfaces is None or policy is None or question.refused or question.unknown or question.allowed:
        return ()
    if question.obstacles or question.source not in context.profile.domains:
        return ()
    if any(finding.about is About.USER_CODE_IN_SERVICE for finding in question.findings):
        return ()
    return tuple(context.interfaces.covering(policy, question.accesses, refuses=context.guarded.refuses))


def _why_not(question: Question, level: GuardLevel, frozen: Sequence[Burst], fixes: Sequence[Fix], *, overridden: bool) -> str:
    """Return the reason why the candidate cannot be approved, "" if it can."""
    if question.policy is None:
        return "it was not assessed against a policy"
    if any(fix.kind is FixKind.UNKNOWN for fix in fixes):
        return next(fix.text for fix in fixes if fix.kind is FixKind.UNKNOWN)
    if overridden:
        return ""
    if level is GuardLevel.REFUSE:
        codes = ", ".join(one.code for one in question.findings if one.level is GuardLevel.REFUSE)
        return f"the guard refuses it ({codes})"
    if question.obstacles and not question.mendable and fixes[0].kind in (FixKind.REFUSE, FixKind.ALLOW, FixKind.CONTEXT):
        return question.obstacles[0]
    if any(finding.about is About.USER_CODE_IN_SERVICE for finding in question.findings):
        return f"only user code requested it, but {question.source} is a domain of the service itself"
    if frozen:
        roles = " and ".join(frozen[0].roles) or "this process"
        return f"candidates of {roles} are on hold until this burst has been reviewed: {frozen[0]}"
    return fixes[0].text if fixes[0].kind is FixKind.REFUSE else ""
