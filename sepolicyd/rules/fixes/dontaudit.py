"""Fixes that leave an access denied and stop logging it: noise, inherited descriptors, looks, and precedents of the policy."""

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
    """What libraries ask of every program, and do without; the rule first where the policy gives it to most who ask."""
    if question.noise:
        if _is_given(question):
            yield from narrow(question)
        yield fix.dontaudit(question.accesses, "programs ask this of themselves and go on without: deny it and do not log it")


def silence(question: Question) -> Iterator[Fix]:
    """What the policy denies without a word, by a rule for this very domain."""
    if question.silenced:
        text = "the policy denies it without a word, by a rule for this domain itself; nothing to do unless something fails"
        yield fix.dontaudit(question.accesses, text)


def leak(question: Question) -> Iterator[Fix]:
    """A descriptor that the parent left open: denied at execve, of a file that the new program never opened."""
    if is_leak(question):
        stdio = question.target in vocabulary().service_manager and question.is_common(COMMON)  # what systemd connects
        if stdio or _is_given(question):
            yield from narrow(question)
        text = "the program inherited an open file and does not need it: do not log it, or mend the leak"
        yield fix.dontaudit(question.accesses, text)


def is_leak(question: Question) -> bool:
    """Whether all of it is the use of an inherited descriptor."""
    words = vocabulary()
    if question.tclass not in words.descriptors or not question.permissions <= words.inherited:
        return False
    if question.candidate.target == "self":
        return False
    if question.tclass == "fd":
        return True
    return bool(question.seen.syscalls) and set(question.seen.syscalls) <= words.execve


def probe(question: Question) -> Iterator[Fix]:
    """Nothing but a look: programs go on without the answer. Where most who ask may look, it is allowed instead."""
    known = any(one.kind is FixKind.DONTAUDIT for known in question.known for one in known.fixes)
    if is_probe(question) and not known:
        if _may_look(question):
            yield from narrow(question)
        yield fix.dontaudit(question.accesses, "it only looked: deny it and do not log it")


def _may_look(question: Question) -> bool:
    """Whether a look is given rather than silenced.

    A service with a profile is known: of what it only looks at, it needs what nearly every domain may look at. For others
    the policy's precedents decide, which silence a look for few domains.
    """
    share = _precedents(question) if question.tclass == "filesystem" else 0
    if share >= FILE_SYSTEM:
        return False
    if question.profile.directory == NOWHERE and not question.refused:
        return question.tclass == "filesystem" or not _silenced_more(question)
    return question.is_common(COMMON) or question.tclass == "filesystem"


def _is_given(question: Question) -> bool:
    """Whether the policy gives it to several domains, and to more than it silences it for; no answer for a known service."""
    if question.policy is None or question.unknown or question.profile.directory != NOWHERE:
        return False
    several = all(len(question.holders(permission)) >= FEW for permission in question.permissions)
    return several and not _silenced_more(question)


def _silenced_more(question: Question) -> bool:
    """Whether the policy silences one of the permissions for at least half as many domains as it gives it to."""
    policy = question.policy
    if policy is None:
        return False
    target = question.candidate.target
    silenced = {one: precedents.silenced_for(policy, question.tclass, one, target) for one in question.permissions}
    return any(number >= FEW and OFTEN * number >= len(question.holders(one)) for one, number in silenced.items())


def is_probe(question: Question) -> bool:
    """Whether all of it only looks."""
    words = vocabulary()
    if not question.permissions <= words.probes or question.walked or question.candidate.target == "self":
        return False
    if question.is_unlabelled_mount:
        return False  # a home or a data set lies there: who looks wants to go on
    syscalls = set(question.seen.syscalls)
    # what users run looks around; a service that searches a directory wants what lies in it, if no system call says otherwise
    told = bool(syscalls) or question.source in question.profile.user_domains
    if "search" in question.permissions and not (told and syscalls <= words.looks):
        return False  # on its way to open, connect or run something
    return not (question.is_own(question.target) and question.source not in question.profile.user_domains)


def precedent(question: Question) -> Iterator[Fix]:
    """What the policy silences for other domains about as often as it gives it."""
    if _memory(question) or (question.tclass == "capability" and _precedents(question) >= MANY):
        yield fix.dontaudit(question.accesses, _text(question))


def precedent_too(question: Question) -> Iterator[Fix]:
    """The same behind the rule, where some domains go without, or where nothing failed."""
    if _went_on(question):
        yield fix.dontaudit(question.accesses, "the system call succeeded although this was denied: do not log it")
    elif _precedents(question) > (0 if question.tclass in PRECEDENT_CLASSES else SOME):
        yield fix.dontaudit(question.accesses, _text(question))


def _text(question: Question) -> str:
    if question.permissions & MEMORY:
        return "libraries ask for executable memory and go on without (PCRE: pcre_jit off): deny it, unless something fails"
    return "other domains are denied this in silence and go on without: deny it and do not log it, unless something fails"


def _memory(question: Question) -> bool:
    """Executable memory, asked by a program that is no compiler at run time."""
    if question.tclass != "process" or not question.permissions <= MEMORY or question.candidate.target != "self":
        return False
    if question.source in question.profile.user_domains:
        return False  # what users run there is not known
    names = {*question.seen.comms, *(path.rpartition("/")[2] for path in question.seen.exes)}
    return not any(fnmatchcase(name, glob) for name in names for glob in vocabulary().machine_code)


def _precedents(question: Question) -> float:
    """Domains that are denied it in silence, as a share of those that may do it; the least of the permissions."""
    policy = question.policy
    if policy is None or question.allowed or question.unknown:
        return 0.0
    shares = []
    for permission in question.permissions:
        silenced = precedents.silenced_for(policy, question.tclass, permission, question.candidate.target)
        shares.append(silenced / max(1, len(question.holders(permission))) if silenced >= FEW else 0.0)
    return min(shares, default=0.0)


def _went_on(question: Question) -> bool:
    """Whether every event of the evidence was denied in enforcing mode, and its system call succeeded."""
    samples = question.seen.samples
    outcomes = [_OUTCOME.search(sample) for sample in samples]
    enforced = question.seen.count > 0 and all("permissive=0" in sample for sample in samples)
    return bool(samples) and enforced and all(one is not None and one[1] == "yes" for one in outcomes)
