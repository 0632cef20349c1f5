"""Fixes that move a part of the service into a domain of its own."""

from __future__ import annotations

from collections.abc import Iterator

from sepolicyd.rules.fixes import fix
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.fixes.fix import Fix
from sepolicyd.rules.fixes.precedents import stem
from sepolicyd.rules.guard.rule import About


def own_domain(question: Question) -> Iterator[Fix]:
    """Propose a domain of its own for user code that shares the service's domain, and for a role that needs execmem."""
    domains = sorted(question.profile.user_domains)
    if question.noise and question.target in question.profile.domains:
        return  # the access belongs to the transition into that domain
    if question.is_about(About.MACHINE_CODE):
        yield from _own_domain_of_role(question)
    if question.user_only and question.source in question.profile.service_domains and domains:
        text = f"give users' code its own domain ({domains[0]}): only {_roles(question)} requested this in {question.source}"
        yield fix.transition(question.source, _program_of(question, domains[0]), domains[0], text)


def _program_of(question: Question, domain: str) -> str:
    """Return the service's own program type that starts a domain, "" if the base module has none of that name."""
    program = f"{stem(domain)}_exec_t"
    return program if question.is_own(program) else ""


def _own_domain_of_role(question: Question) -> Iterator[Fix]:
    roles = [role for role in question.profile.roles if role.name in question.seen.roles]
    domains = {role.domains[0] for role in roles if role.domains}
    if len(domains) != 1 or question.source in domains or any(role.user_code for role in roles):
        return
    domain = domains.pop()
    program = _program_of(question, domain)
    if question.source in question.profile.domains and program:
        text = f"only {_roles(question)} requested this: run it in its own domain {domain} instead of {question.source}"
        yield fix.transition(question.source, program, domain, text)


def _roles(question: Question) -> str:
    return " and ".join(question.seen.roles) or "user code"
