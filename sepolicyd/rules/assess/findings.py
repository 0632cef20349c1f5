"""Findings on one candidate, from the guard, the policy and the evidence."""

from __future__ import annotations

from collections.abc import Iterator

from sepolicyd.rules.assess import risk
from sepolicyd.rules.assess.context import AssessmentContext
from sepolicyd.rules.fixes.booleans import MAX_OPENED, is_small, opened_beyond, opens, partly, switch
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.fixes.detail import booleans_of
from sepolicyd.rules.fixes.dontaudit import is_leak, is_probe
from sepolicyd.rules.fixes.fix import Fix, FixKind
from sepolicyd.rules.fixes.ports import is_random
from sepolicyd.rules.guard.guard import heaviest_first
from sepolicyd.rules.guard.level import GuardLevel
from sepolicyd.rules.guard.rule import About, Finding


def guard_findings(question: Question, context: AssessmentContext) -> tuple[Finding, ...]:
    """Return one finding for each matching rule, with all permissions that it matches."""
    permissions: dict[str, list[str]] = {}
    foreseen = _is_foreseen(question)
    for access in question.accesses:
        for finding in context.guarded.findings(access):
            if foreseen and _is_doubt(finding, context):
                continue
            permissions.setdefault(finding.code, []).append(access.permission)
    found = []
    for code, asked in permissions.items():
        rule = context.guard.rule(code)
        # a random port cannot be labelled
        level = GuardLevel.REVIEW if rule.about is About.UNNAMED_PORT and is_random(question) else rule.level
        candidate = question.candidate
        what = f"{candidate.source} {candidate.target}:{candidate.tclass} {' '.join(asked)}"
        found.append(rule.finding(f"{rule.title} ({what}): {rule.reason}", level))
    pair = context.shared.pairs.get((question.source, question.target))
    if pair and question.tclass == "file" and question.permissions & (risk.WRITES | risk.RUNS):
        text = f"{question.source} could write and execute {question.target} files: {pair}"
        found.append(context.guard.finding(About.WRITE_AND_RUN, text))
    return tuple(found)


def _is_foreseen(question: Question) -> bool:
    """Tell whether the service's profile or module covers the access, by a port number or a boolean of its own module."""
    if question.numbers and all(question.own_port(number) is not None for number in question.numbers):
        return True
    own = f"{question.profile.name}_"
    return any(name.startswith(own) for _, effect in switch(question) for name, _ in effect.settings)


def _is_doubt(finding: Finding, context: AssessmentContext) -> bool:
    """Tell whether a finding only states that nothing supports the access."""
    return finding.about is About.DOUBT or context.guard.rule(finding.code).doubt


def other_findings(question: Question, context: AssessmentContext) -> Iterator[Finding]:
    """Yield the findings from the policy and the evidence; ``question`` has the guard's findings."""
    yield from _policy_findings(question, context)
    yield from _evidence_findings(question, context)


def ordered(findings: Iterator[Finding]) -> tuple[Finding, ...]:
    """Return the findings, the most severe first, each code once."""
    kept: dict[str, Finding] = {}
    for finding in findings:
        kept.setdefault(finding.code, finding)
    return tuple(sorted(kept.values(), key=heaviest_first))


def prefers_dontaudit(question: Question, context: AssessmentContext) -> bool:
    """Tell whether the guard prefers a dontaudit rule for all accesses."""
    return all(
        any(context.guard.rule(finding.code).prefer == FixKind.DONTAUDIT for finding in context.guarded.findings(access))
        for access in question.accesses
    )


def _policy_findings(question: Question, context: AssessmentContext) -> Iterator[Finding]:
    guard = context.guard
    if question.policy is None:
        yield guard.finding(About.NO_POLICY)
        return
    if question.unknown:
        yield guard.finding(About.UNKNOWN_NAME, f"this policy does not have {', '.join(question.unknown)}")
        return
    if question.allowed:
        yield guard.finding(About.ALLOWED, "the policy now allows it")
    for text in question.obstacles[:1]:
        yield guard.finding(About.OBSTACLE, text)
    yield from _boolean_findings(question, context)
    if question.policy.is_unconfined(question.source) and question.target not in question.profile.domains:
        text = f"{question.source} is unconfined, so its denials say little about the service"
        yield guard.finding(About.UNCONFINED, text)


def _boolean_findings(question: Question, context: AssessmentContext) -> Iterator[Finding]:
    guard = context.guard
    effects = [effect for _, effect in switch(question)]
    if effects and not any(is_small(question, effect) for effect in effects) and not question.is_unlabelled_mount:
        yield guard.finding(About.WIDE_BOOLEAN, f"a boolean allows it, with broad side effects: {effects[0]}")
    elif effects:
        heavy = _heavier(question, context, effects[0].settings, GuardLevel.REVIEW)
        level = GuardLevel.REVIEW if heavy else None
        yield guard.finding(About.BOOLEAN, f"a boolean allows it: {effects[0]}{heavy}", level)
    elif partly(question):
        yield guard.finding(About.BOOLEAN, f"a boolean allows part of it: {partly(question)}")


def _heavier(question: Question, context: AssessmentContext, settings: tuple[tuple[str, bool], ...], least: GuardLevel) -> str:
    """Return the additional access of a boolean for the service that has this level or a more severe one, "" if none has.

    Booleans with broad side effects are skipped, because ``apply`` checks each access before it sets them.
    """
    foreseen = all(name.startswith(f"{question.profile.name}_") for name, _ in settings)
    few = opened_beyond(question, settings) <= MAX_OPENED
    for access in sorted(opens(question, settings)) if few else ():
        if access.source in question.profile.domains:
            for finding in context.guarded.findings(access):
                if finding.level <= least and not (foreseen and _is_doubt(finding, context)):
                    return f"; it also allows {access} ({finding.code})"
    return ""


def may_offer(question: Question, context: AssessmentContext, fix: Fix) -> bool:
    """Tell whether a fix may be offered: a boolean must not allow the service an access that the guard refuses."""
    settings = tuple((one.boolean, one.value) for one in booleans_of(fix.detail))
    return not settings or not _heavier(question, context, settings, GuardLevel.REFUSE)


def _evidence_findings(question: Question, context: AssessmentContext) -> Iterator[Finding]:
    guard = context.guard
    yield from risk.who_asked(question, guard)
    yield from risk.secrets(question, guard)
    for one in question.known:
        about = About.KNOWN_REFUSED if one.level == GuardLevel.REFUSE else About.KNOWN
        text = f"{one.name}: {one.why}" + (f" ({one.link})" if one.link else "")
        yield guard.finding(about, text, GuardLevel(one.level or GuardLevel.NOTE))
    if is_leak(question):
        yield guard.finding(About.LEAK)
    elif is_probe(question):
        yield guard.finding(About.PROBE)
    for burst in context.bursts_of(question.seen)[:1]:
        yield guard.finding(About.BURST, f"this looks like an attack: {burst}")
    parent = context.shared.cascades.get(question.candidate.id)
    if parent:
        yield guard.finding(About.CONSEQUENCE, f"possibly only a consequence of {parent}: decide on that one first")
