"""The effect of a rule, from facts of the installed policy: other domains with the access, and the extent of the type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.profiles import Profile
from sepolicyd.rules.fixes import capabilities
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.guard.guard import Guard
from sepolicyd.rules.guard.rule import About, Finding

MAX_NAMES = 5
WRITES = frozenset({"write", "append", "create", "rename", "link"})
RUNS = frozenset({"execute", "execute_no_trans", "execmod", "entrypoint"})
READS = frozenset({"read", "open", "write", "append", "map", "create", "link", "rename", "unlink", "relabelto", "relabelfrom"})
INTO_MEMORY = frozenset({"ptrace", "getcap", "share", "transition", "dyntransition"})
# An access of no other domain is rarer than one of a single domain. Without a policy, the middle of the order is used.
UNJUDGED = 10**6


def rarity(question: Question) -> int:
    """Return the number of confined domains with the rarest of the permissions, by which the queue is sorted."""
    if question.policy is None or question.unknown:
        return UNJUDGED
    return min((len(question.holders(permission)) for permission in question.permissions), default=UNJUDGED)


def opens(question: Question) -> list[str]:
    """Return sentences on the effect of a rule, the rarest permission first."""
    policy = question.policy
    if policy is None:
        return []
    sentences = _rarity(question, policy)
    if question.candidate.target != "self":
        sentences.extend(_reach(question))
    if question.target in question.profile.secrets:
        sentences.append(f"{question.target} contains the service's secrets: read access allows impersonating any of its users")
    sentences.extend(question.obstacles)
    sentences.extend(text for text in (capabilities.about(question),) if text)
    return sentences


def _rarity(question: Question, policy: PolicyIndex) -> list[str]:
    confined = len(policy.domains - policy.unconfined)
    groups: dict[tuple[str, ...], list[str]] = {}
    for permission in sorted(question.permissions):
        groups.setdefault(question.holders(permission), []).append(permission)
    sentences = []
    for names, permissions in sorted(groups.items(), key=lambda item: (len(item[0]), item[1])):
        what = f"{question.tclass} {' '.join(permissions)} on {question.candidate.target}"
        shown = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
        sentences.append(f"{len(names)} of {confined} confined domains may do this: {what}" + (f" ({shown})" if names else ""))
    return sentences


def _reach(question: Question) -> list[str]:
    if question.labels is None:
        return []
    reach = question.labels.reach(question.target)
    sentences = []
    if reach.patterns:
        examples = ", ".join(reach.examples[:3])
        sentences.append(
            f"{question.target} covers {_count(reach.patterns, 'pattern')} of file_contexts, "
            f"{_count(reach.trees, 'whole tree')} among them: {examples}"
        )
    if reach.ports:
        shown = ", ".join(_port(item.protocol, item.low, item.high) for item in reach.ports[:MAX_NAMES])
        sentences.append(f"{question.target} is {_count(len(reach.ports), 'range')} of ports: {shown}")
    if reach.writers and question.permissions & RUNS:
        names = ", ".join(reach.writers[:MAX_NAMES])
        sentences.append(f"{_count(len(reach.writers), 'confined domain')} may write {question.target}: {names}")
    return sentences


def write_and_run(accesses: Iterable[Access], policy: Optional[PolicyIndex]) -> dict[tuple[str, str], str]:
    """Return (source, target) of files that a domain could write and execute, with the permissions involved.

    The accesses and the permissions that the domain already has count together.
    """
    writes: dict[tuple[str, str], set[str]] = {}
    runs: dict[tuple[str, str], set[str]] = {}
    for access in accesses:
        if access.tclass == "file":
            place = (access.source, access.target_type)
            if access.permission in WRITES:
                writes.setdefault(place, set()).add(access.permission)
            elif access.permission in RUNS:
                runs.setdefault(place, set()).add(access.permission)
    found = {}
    for place in writes.keys() | runs.keys():
        held = _held(place, policy)
        if (writes.get(place) or held & WRITES) and (runs.get(place) or held & RUNS):
            asked = " ".join(sorted(writes.get(place, set()) | runs.get(place, set())))
            before = " ".join(sorted(held & (WRITES | RUNS)))
            found[place] = f"{asked} requested" + (f", {before} already allowed" if before else "")
    return found


def _held(place: tuple[str, str], policy: Optional[PolicyIndex]) -> frozenset[str]:
    if policy is None or place[0] not in policy.types or place[1] not in policy.types:
        return frozenset()
    return policy.pair(place[0], place[1], "file").permissions


def secrets(question: Question, guard: Guard) -> list[Finding]:
    """Return findings for access to the service's secrets or its main process's memory by any other process."""
    profile = question.profile
    main = profile.roles[0].domains[:1]
    if question.source in main or not main:
        return []
    if question.target in profile.secrets and question.permissions & READS:
        text = f"new access to the service's secrets: {question.source} to {question.target}"
        return [guard.finding(About.SECRETS, text)]
    if question.target in main and question.tclass == "process" and question.permissions & INTO_MEMORY:
        text = f"new access to the service's main process: {question.source} to {question.target}"
        return [guard.finding(About.SECRETS, text)]
    return []


def who_asked(question: Question, guard: Guard) -> list[Finding]:
    """Return a finding if only user code requested the access."""
    profile: Profile = question.profile
    if not question.user_only:
        return []
    roles = " and ".join(question.seen.roles)
    if question.source in profile.service_domains:
        text = (
            f"only user code requested it ({roles}), so it is not allowed for {question.source}, a domain of the service itself"
        )
        return [guard.finding(About.USER_CODE_IN_SERVICE, text)]
    return [guard.finding(About.USER_CODE, f"only user code requested it ({roles}), in its own domain")]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _port(protocol: str, low: int, high: int) -> str:
    return f"{protocol} {low}" if low == high else f"{protocol} {low}-{high}"
