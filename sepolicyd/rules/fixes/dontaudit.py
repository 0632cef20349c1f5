"""Fixes that deny an access without logging: noise, inherited descriptors, probes, and precedents in the policy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from sepolicyd.rules.fixes import fix, precedents
from sepolicyd.rules.fixes.allow import narrow
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.fixes.fix import Fix, FixKind
from sepolicyd.rules.guard.generic_profile import NOWHERE
from sepolicyd.rules.vocabulary import vocabulary

COMMON = 0.4  # share of the confined domains that may do it, from which a look is allowed
MEMORY = frozenset({"execmem", "execstack", "execheap"})
FILE_SYSTEM = 0.08  # the same for a look at a file system, which most domains may have
FEW, SOME, MANY = 5, 0.02, 0.5  # precedents that count; their share of those who may: named, and put first
OFTEN = 2  # domains that may do it for each that is silenced, from which the rule comes first
PRECEDENT_CLASSES = ("capability", "capability2", "cap_userns", "cap2_userns", "process", "filesystem", "security", "system")
_OUTCOME = re.compile(r"\bsuccess=(yes|no)\b")


def noise(question: Question) -> Iterator[Fix]:
    """Propose dontaudit for requests by libraries that work without; the rule comes first if the policy usually allows it."""
    if question.noise:
        if _is_given(question):
            yield from narrow(question)
        yield fix.dontaudit(question.accesses, "libraries request this and work without it: deny it without logging")


def silence(question: Question) -> Iterator[Fix]:
    """Report accesses that the policy's own dontaudit rule for this domain covers."""
    if question.silenced:
        text = "the policy has a dontaudit rule for this domain and access; nothing to do unless something fails"
        yield fix.dontaudit(question.accesses, text)


def leak(question: Question) -> Iterator[Fix]:
    """Propose dontaudit for an inherited descriptor, denied at execve for a file that the new program did not open."""
    if is_leak(question):
        stdio = question.target in vocabulary().service_manager and question.is_common(COMMON)  # what systemd connects
        if stdio or _is_given(question):
            yield from narrow(question)
        text = "the program inherited an open file that it does not need: deny it without logging, or correct the leak"
        yield fix.dontaudit(question.accesses, text)


def is_leak(question: Question) -> bool:
    """Tell whether all accesses are uses of an inherited descriptor."""
    words = vocabulary()
    if question.tclass not in words.descriptors or not question.permissions <= words.inherited:
        return False
    if question.candidate.target == "self":
        return False
    if question.tclass == "fd":
        return True
    return bool(question.seen.syscalls) and set(question.seen.syscalls) <= words.execve


def probe(question: Question) -> Iterator[Fix]:
    """Propose dontaudit for probes, since programs continue without them; if the policy usually allows it, propose a rule."""
    known = any(one.kind is FixKind.DONTAUDIT for known in question.known for one in known.fixes)
    if is_probe(question) and not known:
        if _may_look(question):
            yield from narrow(question)
        yield fix.dontaudit(question.accesses, "only a probe: deny it without logging")


def _may_look(question: Question) -> bool:
    """Tell whether a probe should be allowed instead of silenced.

    For a service with a profile, a probe is allowed if nearly every domain may do it. For others, the policy's precedents
    decide.
    """
    share = _precedents(question) if question.tclass == "filesystem" else 0
    if share >= FILE_SYSTEM:
        return False
    if question.profile.directory == NOWHERE and not question.refused:
        return question.tclass == "filesystem" or not _silenced_more(question)
    return question.is_common(COMMON) or question.tclass == "filesystem"


def _is_given(question: Question) -> bool:
    """Tell whether the policy allows it for several domains, and for more than it silences (without a profile only)."""
    if question.policy is None or question.unknown or question.profile.directory != NOWHERE:
        return False
    several = all(len(question.holders(permission)) >= FEW for permission in question.permissions)
    return several and not _silenced_more(question)


def _silenced_more(question: Question) -> bool:
    """Tell whether the policy silences a permission for at least half as many domains as it allows it for."""
    policy = question.policy
    if policy is None:
        return False
    target = question.candidate.target
    silenced = {one: precedents.silenced_for(policy, question.tclass, one, target) for one in question.permissions}
    return any(number >= FEW and OFTEN * number >= len(question.holders(one)) for one, number in silenced.items())


def is_probe(question: Question) -> bool:
    """Tell whether all accesses are probes."""
    words = vocabulary()
    if not question.permissions <= words.probes or question.walked or question.candidate.target == "self":
        return False
    if question.is_unlabelled_mount:
        return False  # homes or data sets: a probe there is followed by further accesses
    syscalls = set(question.seen.syscalls)
    # users' programs probe; a service that searches a directory wants to use its content, unless a system call shows otherwise
    told = bool(syscalls) or question.source in question.profile.user_domains
    if "search" in question.permissions and not (told and syscalls <= words.looks):
        return False  # part of an open, connect or exec
    return not (question.is_own(question.target) and question.source not in question.profile.user_domains)


def precedent(question: Question) -> Iterator[Fix]:
    """Propose dontaudit if the policy silences the access for other domains about as often as it allows it."""
    if _memory(question) or (question.tclass == "capability" and _precedents(question) >= MANY):
        yield fix.dontaudit(question.accesses, _text(question))


def precedent_too(question: Question) -> Iterator[Fix]:
    """Propose the same after the rule, if some domains work without it, or if nothing failed."""
    if _went_on(question):
        yield fix.dontaudit(question.accesses, "the system call succeeded although this was denied: deny it without logging")
    elif _precedents(question) > (0 if question.tclass in PRECEDENT_CLASSES else SOME):
        yield fix.dontaudit(question.accesses, _text(question))


def _text(question: Question) -> str:
    if question.permissions & MEMORY:
        return "libraries request executable memory and work without it (PCRE: pcre_jit off): deny it, unless something fails"
    return "the policy denies this to other domains without logging: do the same, unless something fails"


def _memory(question: Question) -> bool:
    """Tell whether executable memory was requested by a program that is not a JIT compiler."""
    if question.tclass != "process" or not question.permissions <= MEMORY or question.candidate.target != "self":
        return False
    if question.source in question.profile.user_domains:
        return False  # users' programs are unknown
    names = {*question.seen.comms, *(path.rpartition("/")[2] for path in question.seen.exes)}
    return not any(fnmatchcase(name, glob) for name in names for glob in vocabulary().machine_code)


def _precedents(question: Question) -> float:
    """Return the ratio of silenced to allowed domains, the minimum over the permissions."""
    policy = question.policy
    if policy is None or question.allowed or question.unknown:
        return 0.0
    shares = []
    for permission in question.permissions:
        silenced = precedents.silenced_for(policy, question.tclass, permission, question.candidate.target)
        shares.append(silenced / max(1, len(question.holders(permission))) if silenced >= FEW else 0.0)
    return min(shares, default=0.0)


def _went_on(question: Question) -> bool:
    """Tell whether every sample event was denied in enforcing mode although its system call succeeded."""
    samples = question.seen.samples
    outcomes = [_OUTCOME.search(sample) for sample in samples]
    enforced = question.seen.count > 0 and all("permissive=0" in sample for sample in samples)
    return bool(samples) and enforced and all(one is not None and one[1] == "yes" for one in outcomes)
