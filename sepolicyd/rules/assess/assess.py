"""Candidates in, each with its cause, fixes, findings and risk out, in the order in which a person should look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from sepolicyd.access import Access
from sepolicyd.audit.model import Context
from sepolicyd.policy import explain as policy_why
from sepolicyd.policy.explain import Why
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.interfaces import Interfaces, Offer
from sepolicyd.policy.labels import Labels
from sepolicyd.policy.model import VerdictKind
from sepolicyd.profiles import Profile
from sepolicyd.rules.assess import risk
from sepolicyd.rules.assess.bursts import Burst, bursts
from sepolicyd.rules.assess.consequences import cascades, walked
from sepolicyd.rules.assess.summary import sentence
from sepolicyd.rules.candidate import Candidate
from sepolicyd.rules.evidence import Evidence
from sepolicyd.rules.fixes import known_denials as known_advice
from sepolicyd.rules.fixes import ladder
from sepolicyd.rules.fixes.booleans import MAX_OPENED, is_small, opens, partly, switch
from sepolicyd.rules.fixes.detail import BooleanSetting
from sepolicyd.rules.fixes.fix import Fix, FixKind, rules_of
from sepolicyd.rules.fixes.known_denials import Advice
from sepolicyd.rules.fixes.labels import is_unlabelled_mount
from sepolicyd.rules.fixes.question import Question
from sepolicyd.rules.guard.guard import LEVELS, NOTE, REVIEW, Finding, Guard, worst
from sepolicyd.rules.guard.guard import REFUSE as REFUSED
from sepolicyd.rules.guard.override import Override

REMARKS = ("W-004", "W-002", "U-002", "U-005")
# fixes that give the domain nothing
CLOSED = (FixKind.APPLICATION, FixKind.DONTAUDIT, FixKind.REFUSE, FixKind.RELABEL, FixKind.UNKNOWN)


@dataclass(frozen=True)
class Assessed:
    """One candidate with everything that a person needs to answer it.

    ``fix`` is proposed, ``alternatives`` follow it in order. ``opens``: sentences of fact. ``approvable`` False has its reason
    in ``why_not``. ``frozen``: the bursts that stop this role's queue. ``sentence`` and ``opens`` hold text of the log and
    are NOT escaped. ``order`` sorts the queue: refuse, review, then by rarity.
    """

    candidate: Candidate
    level: str
    findings: tuple[Finding, ...]
    fix: Fix
    alternatives: tuple[Fix, ...]
    opens: tuple[str, ...]
    sentence: str
    approvable: bool
    why_not: str = ""
    roles: tuple[str, ...] = ()
    frozen: tuple[Burst, ...] = ()
    cascade_of: str = ""
    rarity: int = risk.UNJUDGED

    @property
    def order(self) -> tuple[int, int, str, str, str, str]:
        candidate = self.candidate
        return (LEVELS.index(self.level), self.rarity, candidate.source, candidate.target, candidate.tclass, candidate.facet)


@dataclass(frozen=True)
class AssessmentContext:
    """What is the same for all candidates of one call."""

    profile: Profile
    guard: Guard
    policy_index: Optional[PolicyIndex]
    labels: Optional[Labels]
    advice: tuple[Advice, ...]
    walked: frozenset[str]
    cascades: Mapping[str, str]
    pairs: Mapping[tuple[str, str], str]
    bursts: tuple[Burst, ...]
    overrides: Mapping[Access, Override]
    interfaces: Optional[Interfaces]


def assess(
    candidates: Sequence[Candidate],
    *,
    profile: Profile,
    guard: Guard,
    policy_index: Optional[PolicyIndex] = None,
    labels: Optional[Labels] = None,
    overrides: Sequence[Override] = (),
    interfaces: Optional[Interfaces] = None,
) -> list[Assessed]:
    """Judge all candidates together (pairs, cascades and bursts are between them).

    Without a policy nothing can be approved: fixes come from names alone and U-002 says so.

    :raises InputError: the profile's advice has mistakes
    """
    accesses = [access for candidate in candidates for access in candidate.evidence]
    around = AssessmentContext(
        profile=profile,
        guard=guard,
        policy_index=policy_index,
        labels=labels,
        advice=known_advice.load(profile.directory),
        walked=walked(candidates),
        cascades=cascades(candidates, _common(candidates, profile, policy_index)),
        pairs=risk.write_and_run(accesses, policy_index),
        bursts=tuple(bursts(_refused(candidates, profile, guard, policy_index))),
        overrides={override.access: override for override in overrides},
        interfaces=interfaces,
    )
    return sorted((_one(candidate, around) for candidate in candidates), key=lambda item: item.order)


def allowed_now(policy: PolicyIndex, evidence: Mapping[Access, Evidence]) -> frozenset[Access]:
    """Those that the policy allows by now, constraints included, in every context in which they were denied."""
    return frozenset(
        access
        for access, seen in evidence.items()
        if policy.allowed(access).kind is VerdictKind.ALLOWED and _why(policy, access, seen).allowed
    )


def _common(candidates: Sequence[Candidate], profile: Profile, policy_index: Optional[PolicyIndex]) -> frozenset[str]:
    """Ids of candidates that ask what nearly every confined domain may do."""
    return frozenset(
        candidate.id for candidate in candidates if Question(candidate, profile, policy_index).is_common(ladder.COMMON)
    )


def _refused(
    candidates: Sequence[Candidate], profile: Profile, guard: Guard, policy_index: Optional[PolicyIndex]
) -> dict[Access, Evidence]:
    """Accesses refused for what they open; R-017 alone (another's domain) is no attack."""
    return {
        access: seen
        for candidate in candidates
        for access, seen in candidate.evidence.items()
        if any(f.level == REFUSED and f.code != "R-017" for f in guard.judge_access(access, profile, policy_index))
    }


def _one(candidate: Candidate, around: AssessmentContext) -> Assessed:
    policy, profile = around.policy_index, around.profile
    whys = {access: _why(policy, access, candidate.evidence[access]) for access in candidate.accesses} if policy else {}
    advice = tuple(known_advice.advice_for(around.advice, candidate, profile, policy))
    question = Question(
        candidate=candidate,
        profile=profile,
        policy=policy,
        labels=around.labels,
        advice=advice,
        whys=whys,
        walked=candidate.id in around.walked,
    )
    mine = tuple(burst for burst in around.bursts if burst.pid in question.seen.pids)
    findings = _findings(question, around, mine)
    question = Question(**{**_fields(question), "findings": findings, "noise": _is_noise(question, around)})
    question = Question(**{**_fields(question), "offers": _offers(question, around)})
    frozen = tuple(burst for burst in around.bursts if burst in mine or set(burst.roles) & set(question.seen.roles))
    overridden = [around.overrides[access] for access in candidate.accesses if access in around.overrides]
    complete = len(overridden) == len(candidate.accesses)
    found = [fix for fix in ladder.fixes(question) if _may_switch(question, around.guard, fix)]
    if complete and not any(fix.kind is FixKind.ALLOW for fix in found):
        found.append(
            Fix(FixKind.ALLOW, f"allow it in spite of the guard, as {overridden[0].by} wrote", rules_of(candidate.accesses))
        )
    if found[0].kind not in CLOSED and not question.allowed:
        findings = _second_look(findings)
    # a consequence or a silent policy makes nothing worse than it is
    level = worst(finding.level for finding in findings if finding.code not in REMARKS or finding.level == REVIEW)
    why_not = _why_not(question, level, frozen, found, overridden=complete)
    return Assessed(
        candidate=candidate,
        level=level,
        findings=findings,
        fix=found[0],
        alternatives=tuple(found[1:]),
        opens=(*risk.opens(question), *(f"overridden by {one.by}: {one.reason}" for one in overridden[:1])),
        sentence=sentence(question),
        approvable=not why_not,
        why_not=why_not,
        roles=question.seen.roles,
        frozen=frozen,
        cascade_of=around.cascades.get(candidate.id, ""),
        rarity=risk.rarity(question),
    )


def _second_look(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """What opens something to students' code is nobody's note: no rule of theirs is approved unread."""
    return tuple(replace(finding, level=REVIEW) if finding.code == "W-002" else finding for finding in findings)


def _is_noise(question: Question, around: AssessmentContext) -> bool:
    """Whether the guard prefers a dontaudit for every one of the accesses."""
    guard, profile = around.guard, around.profile
    return all(
        any(
            guard.rule(finding.code).prefer == FixKind.DONTAUDIT
            for finding in guard.judge_access(access, profile, question.policy)
        )
        for access in question.accesses
    )


def _offers(question: Question, around: AssessmentContext) -> tuple[Offer, ...]:
    """Interfaces that cover it and whose surplus the guard does not refuse."""
    policy, profile, guard = around.policy_index, around.profile, around.guard
    if around.interfaces is None or policy is None or question.refused or question.unknown or question.allowed:
        return ()
    if question.obstacles or question.source not in profile.domains or question.has("W-001"):
        return ()

    def refuses(access: Access) -> bool:
        return worst(finding.level for finding in guard.judge_access(access, profile, policy)) == REFUSED

    return tuple(around.interfaces.covering(policy, question.accesses, refuses=refuses))


def _fields(question: Question) -> dict[str, Any]:
    return {name: getattr(question, name) for name in Question.__dataclass_fields__}


def _why(policy: PolicyIndex, access: Access, seen: Evidence) -> Why:
    """Judged with the contexts of the evidence: the ones that a constraint denies, if any does."""
    contexts = [(Context.parse(source), Context.parse(target)) for source, target in seen.contexts] or [(None, None)]
    found = policy_why.explain(policy, access, *contexts[0])
    for scontext, tcontext in contexts[1:]:
        if found.constraints or found.roles or found.te.kind is VerdictKind.UNKNOWN:
            break
        found = policy_why.explain(policy, access, scontext, tcontext)
    return found


def _findings(question: Question, around: AssessmentContext, mine: Sequence[Burst]) -> tuple[Finding, ...]:
    """All remarks, the heaviest first, each code once."""
    found = _by_guard(question, around)
    question = Question(**{**_fields(question), "findings": tuple(found)})
    found = [*found, *_by_policy(question, around.guard), *_by_evidence(question, around, mine)]
    kept: dict[str, Finding] = {}
    for finding in found:
        kept.setdefault(finding.code, finding)
    return tuple(sorted(kept.values(), key=lambda finding: (LEVELS.index(finding.level), finding.code)))


def _by_guard(question: Question, around: AssessmentContext) -> list[Finding]:
    """One finding for each line that fits, with all the permissions that it fits."""
    guard = around.guard
    permissions: dict[str, list[str]] = {}
    for access in question.accesses:
        for finding in guard.judge_access(access, question.profile, question.policy):
            permissions.setdefault(finding.code, []).append(access.permission)
    found = []
    for code, asked in permissions.items():
        rule = guard.rule(code)
        level = rule.level
        if code == "P-003" and ladder.is_random(question):
            level = REVIEW  # a random port cannot be labelled
        candidate = question.candidate
        what = f"{candidate.source} {candidate.target}:{candidate.tclass} {' '.join(asked)}"
        found.append(Finding(code, level, f"{rule.title} ({what}): {rule.reason}"))
    pair = around.pairs.get((question.source, question.target))
    if pair and question.tclass == "file" and question.permissions & (risk.WRITES | risk.RUNS):
        found.append(guard.finding("V-002", f"{question.source} may write {question.target} files and run them: {pair}"))
    return found


def _by_policy(question: Question, guard: Guard) -> list[Finding]:
    if question.policy is None:
        return [guard.finding("U-002")]
    if question.unknown:
        return [guard.finding("U-001", f"this policy does not have {', '.join(question.unknown)}")]
    found = []
    if question.allowed:
        found.append(guard.finding("U-005", "the policy allows it by now"))
    found.extend(guard.finding("U-003", text) for text in question.obstacles[:1])
    switches = [effect for _, effect in switch(question)]
    if switches and not any(is_small(question, effect) for effect in switches) and not is_unlabelled_mount(question):
        found.append(guard.finding("P-004", f"a boolean allows it, with a wide side effect: {switches[0]}"))
    elif switches:
        heavy = _heavier(question, guard, switches[0].settings, REFUSED, REVIEW)
        found.append(guard.finding("U-004", f"a boolean allows it: {switches[0]}{heavy}", REVIEW if heavy else ""))
    elif partly(question):
        found.append(guard.finding("U-004", f"a boolean allows part of it: {partly(question)}"))
    if question.policy.is_unconfined(question.source) and question.target not in question.profile.domains:
        found.append(guard.finding("U-006", f"{question.source} is unconfined: its denials teach little of the service"))
    return found


def _heavier(question: Question, guard: Guard, settings: tuple[tuple[str, bool], ...], *levels: str) -> str:
    """What booleans set so open for the service besides, and would need a second look (or be refused) by itself.

    Of a wide one (P-004) nothing is told here: nobody reads a thousand lines, and apply judges each before it is set.
    """
    more = opens(question, settings)
    for access in sorted(more) if len(more) <= MAX_OPENED else ():
        if access.source in question.profile.domains:
            for finding in guard.judge_access(access, question.profile, question.policy):
                if finding.level in levels:
                    return f"; it opens too {access} ({finding.code})"
    return ""


def _may_switch(question: Question, guard: Guard, fix: Fix) -> bool:
    """Whether a fix is no boolean, or one that opens the service nothing that the guard refuses: apply would not set it."""
    detail = fix.detail
    if not isinstance(detail, BooleanSetting):
        return True
    return not _heavier(question, guard, ((detail.boolean, detail.value),), REFUSED)


def _by_evidence(question: Question, around: AssessmentContext, mine: Sequence[Burst]) -> list[Finding]:
    guard = around.guard
    found = [*risk.who_asked(question, guard), *risk.secrets(question, guard)]
    for advice in question.advice:
        code = "D-002" if advice.level == REFUSED else "D-001"
        found.append(
            guard.finding(
                code, f"{advice.name}: {advice.why}" + (f" ({advice.link})" if advice.link else ""), advice.level or NOTE
            )
        )
    if ladder.is_leak(question):
        found.append(guard.finding("P-005"))
    elif ladder.is_probe(question):
        found.append(guard.finding("P-006"))
    found.extend(guard.finding("W-003", f"this looks like an attack: {burst}") for burst in mine[:1])
    parent = around.cascades.get(question.candidate.id)
    if parent:
        found.append(guard.finding("W-004", f"perhaps only a consequence of {parent}: settle that one first"))
    return found


def _why_not(question: Question, level: str, frozen: Sequence[Burst], found: Sequence[Fix], *, overridden: bool) -> str:
    """Why it cannot be approved, "" where it can."""
    if question.policy is None:
        return "it was not judged against a policy"
    if any(fix.kind is FixKind.UNKNOWN for fix in found):
        return next(fix.text for fix in found if fix.kind is FixKind.UNKNOWN)
    if overridden:
        return ""
    if level == REFUSED:
        return f"the guard refuses it ({', '.join(f.code for f in question.findings if f.level == REFUSED)})"
    if question.obstacles and not question.mendable and found[0].kind in (FixKind.REFUSE, FixKind.ALLOW):
        return question.obstacles[0]
    if question.has("W-001"):
        return f"only user code asked for it, and {question.source} is a domain of the service itself"
    if frozen:
        return (
            f"the questions of {' and '.join(frozen[0].roles) or 'this process'} wait until the burst is looked at: {frozen[0]}"
        )
    if found[0].kind is FixKind.REFUSE:
        return found[0].text
    return ""
