"""Fixes that give a service a type of its own instead of a generic one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rules.fixes import fix, precedents
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.fixes.detail import CreatedLabel, OwnType, PathLabel
from sepolicyd.rules.fixes.fix import Fix, FixKind
from sepolicyd.rules.fixes.labels import mislabelled
from sepolicyd.rules.fixes.precedents import stem
from sepolicyd.rules.vocabulary import vocabulary

MAX_PATHS = 5
MAKES = frozenset({"write", "append", "create", "link", "add_name", "rename"})
SEVERAL = 5  # number of domains from which a directory counts as shared by services
DEFAULT_ENDING = "var_lib_t"
MEMORY = ("/memfd:", "/dev/shm/", "/SYSV", "/dev/zero (")  # noqa: S108
ENDINGS = ("runtime_t", "var_run_t", "tmp_t", "tmpfs_t", "log_t", "var_lib_t", "spool_t", "cache_t", "lock_t", "home_t")


def own_type(question: Question) -> Iterator[Fix]:
    """Propose a type of its own for files that the service changes under a generic label."""
    if not question.is_file or question.source not in question.profile.domains:
        return  # files of another domain should not get a type of this service
    if question.owned and not question.is_own(question.target):
        return
    words = vocabulary()
    if question.target in words.generic and _makes(question) and not mislabelled(question):
        yield _new_type(question)


def own_type_too(question: Question) -> Iterator[Fix]:
    """Propose the same after the rule, for a directory of another service, or one shared by several domains."""
    policy = question.policy
    if policy is None or not question.is_file or question.target in vocabulary().generic or not question.permissions & MAKES:
        return
    if question.is_own(question.target) or question.is_unlabelled_mount or policy.is_unconfined(question.source):
        return
    name = _own_of_kind(policy, question.source, question.target)
    if name and name != question.target and policy.grants(question.source, name, question.tclass, "write"):
        text = f"{question.target} belongs to another service: files that {question.source} creates there should be {name}"
        yield _created(question, name, text, known=True)
    elif not name and precedents.makers_apart(policy, question.target) >= SEVERAL:
        number = precedents.makers_apart(policy, question.target)
        name = f"{stem(question.source)}_{_ending(question.target)}"
        text = f"{number} domains have types of their own for files that they create in {question.target}: use {name}"
        yield _created(question, name, text, known=name in policy.types)


def _ending(target: str) -> str:
    return next((ending for ending in ENDINGS if target.endswith(f"_{ending}")), DEFAULT_ENDING)


def _own_of_kind(policy: PolicyIndex, source: str, target: str) -> str:
    """Return the source's own type with the suffix of another type, such as xdm_runtime_t for user_runtime_t; "" for none."""
    for ending in ENDINGS:
        name = f"{stem(source)}_{ending}"
        if target.endswith(f"_{ending}") and name in policy.types:
            return name
    return ""


def _makes(question: Question) -> bool:
    """Tell whether the service creates or changes files there (not if it only removes an entry).

    Named memory (memfd_create(2), shared memory) was created by the process itself or one of the same kind.
    """
    if question.tclass == "file" and any(path.startswith(MEMORY) for path in question.seen.paths):
        return True
    return bool(question.permissions & MAKES) or (question.tclass == "file" and "unlink" in question.permissions)


def _new_type(question: Question) -> Fix:
    """Return a fix with a type_transition for new files in a shared directory, and exact paths for other files.

    Trees are never derived from the log, since a path such as /etc/x would include /etc. A type that neither the policy nor the
    base module defines is shown, but must be added by hand.
    """
    name, known = _own_name(question)
    text = f"{question.target} is a generic label: files that {question.source} creates there should be {name}"
    text += "" if known else " (a new type, for the base module)"
    if question.target in vocabulary().shared_directories or not question.paths:
        return _created(question, name, text, known=known)
    contexts = [PathLabel(re.escape(path).replace(r"\-", "-"), name) for path in question.paths[:MAX_PATHS]]
    shown = fix.relabel(question.paths[:MAX_PATHS], text, contexts, FixKind.OWN_TYPE)
    return shown if known else replace(shown, detail=OwnType())


def _created(question: Question, name: str, text: str, *, known: bool) -> Fix:
    made = ("file", "dir") if question.tclass == "dir" and "create" not in question.permissions else (question.tclass,)
    rules = tuple(f"type_transition {question.source} {question.target}:{one} {name};" for one in made)
    created = tuple(CreatedLabel(question.source, question.target, one, name) for one in made)
    # creating a file there needs write access to the shared directory, regardless of the file's label
    words = vocabulary()
    entries = [one for one in question.accesses if question.tclass == "dir" and one.permission in words.entries]
    detail = OwnType(created=created, allowed=tuple(one.permission for one in entries)) if known else OwnType()
    return Fix(FixKind.OWN_TYPE, text, (*rules, *fix.rules_of(entries)), detail)


def _own_name(question: Question) -> tuple[str, bool]:
    """Return the type, and whether the base module or the policy defines it for this domain."""
    endings = vocabulary().own_endings.get(question.target, (DEFAULT_ENDING,))
    base = stem(question.source)
    names = [f"{name}_{ending}" for ending in endings for name in (base, question.profile.name)]
    for name in names:
        if question.is_own(name):
            return name, True
    policy = question.policy
    for name in (f"{base}_{ending}" for ending in endings):
        if policy is not None and name in policy.types and policy.grants(question.source, name, question.tclass, "write"):
            return name, True
    return f"{base}_{endings[0]}", False
