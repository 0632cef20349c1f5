"""Fixes for denials that no allow rule can fix: ranges, users, roles and bounds of two contexts, and SELINUX_ERR records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional

from sepolicyd.audit.model import Context, ErrorOperation
from sepolicyd.policy.constraints import ContextPart
from sepolicyd.policy.labels import FILE_CLASSES
from sepolicyd.rules.fixes import fix
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.fixes.detail import ConfigurationLine, DomainTransition
from sepolicyd.rules.fixes.fix import Fix, FixKind

_CATEGORY = re.compile(r"c(\d+)(?:\.c(\d+))?\Z")
RANGE = frozenset({ContextPart.SENSITIVITY, ContextPart.CATEGORIES})
MAX_CATEGORIES = 1024


def errors(question: Question) -> Iterator[Fix]:
    """Propose fixes for the transition or context that an SELINUX_ERR record refused."""
    operation = next((found for name in question.permissions if (found := ErrorOperation.of(name))), None)
    if operation is ErrorOperation.BOUNDED_TRANSITION:
        yield from _bounded(question)
    elif operation is ErrorOperation.COMPUTE_SID:
        yield from _invalid(question)
    elif operation is ErrorOperation.VALIDATE_TRANSITION:
        text = f"a validatetrans constraint forbids the label {question.target}: change only one of user, role and range"
        yield Fix(FixKind.CONTEXT, text)


def _bounded(question: Question) -> Iterator[Fix]:
    old, new = question.source, question.target
    text = (
        f"the process stayed in {old}: with NoNewPrivileges (or on a nosuid mount), the transition to {new} needs "
        f"nnp_transition, or {new} must be bounded by {old}"
    )
    rules = (f"allow {old} {new}:process2 {{ nnp_transition nosuid_transition }};",)
    yield Fix(FixKind.TRANSITION, text, rules, DomainTransition("", new))
    line = "NoNewPrivileges=no"
    text = "or start the unit without NoNewPrivileges and without options that imply it (see systemd.exec(5))"
    yield Fix(FixKind.APPLICATION, text, (line,), ConfigurationLine("the unit", line))


def _invalid(question: Question) -> Iterator[Fix]:
    for source, target in _pairs(question)[:1]:
        user, role, name = target.user, target.role, target.type
        policy = question.policy
        roles = () if policy is None else policy.users.get(user, frozenset())
        types = frozenset[str]() if policy is None else policy.roles.get(role, frozenset())
        if policy is not None and name in policy.types and role in policy.roles and name not in types:
            text = f"{target} is not valid: role {role} is not authorized for {name}, to which {source.type} has a transition"
            yield Fix(FixKind.CONTEXT, text, (f"role {role} types {name};",))
        elif policy is not None and roles and role not in roles:
            text = f"{target} is not valid: user {user} is not authorized for the role {role}"
            yield Fix(FixKind.CONTEXT, text, (f"semanage user -m -R '{' '.join(sorted({*roles, role}))}' {user}",))
        else:
            text = f"{target} is not valid: authorize role {role} for the type, or user {user} for the role or range"
            yield Fix(FixKind.CONTEXT, text, (f"role {role} types {name};", f"semanage user -m -r RANGE {user}"))


def constraint(question: Question) -> Iterator[Fix]:
    """Propose to change the range, user or role that a constraint compares, if the two contexts differ in it."""
    denied = [one for why in question.whys.values() for one in (*why.constraints, *why.possible_constraints)]
    parts = frozenset(part for one in denied for part in one.parts)
    role = next((why.role_failure for why in question.whys.values() if why.role_failure is not None), None)
    if role is not None:
        rule = f"role {role.target_role} types {role.type};" if role.type else f"allow {role.source_role} {role.target_role};"
        yield Fix(FixKind.CONTEXT, f"an allow rule has no effect: {role}", (rule,))
        return
    for source, target in _pairs(question):
        if parts & RANGE and source.range != target.range:
            yield _range(question, source, target)
        elif ContextPart.USER in parts and source.user != target.user:
            yield _user(question, source, target)
        elif ContextPart.ROLE in parts and source.role != target.role:
            text = f"an allow rule has no effect: a constraint compares the roles {source.role} and {target.role}"
            yield Fix(FixKind.CONTEXT, text, (f"runcon -r {target.role} COMMAND",))
        elif question.unknown and not parts and _is_separated(source.range, target.range):
            yield _range(question, source, target)
        else:
            continue
        return


def _range(question: Question, source: Context, target: Context) -> Fix:
    mine, theirs = _level(source.range), _level(target.range)
    text = f"an allow rule has no effect: {source.type} runs at {source.range}, but {target.type} is at {target.range}; "
    if question.tclass in FILE_CLASSES:
        text += "give the file the categories of the process (for a container's volume, mount it with :Z or :z)"
        place = fix.shortlist(question.paths, 1) or "PATH"
        return Fix(FixKind.CONTEXT, text, (f"chcon -l {mine} {place}",))
    text += "start the process with a range that contains both"
    return Fix(FixKind.CONTEXT, text, (f"semanage login -m -r {mine}-{theirs} LOGIN", f"runcon -l {theirs} COMMAND"))


def _user(question: Question, source: Context, target: Context) -> Fix:
    text = f"an allow rule has no effect: a constraint compares the users {source.user} and {target.user}"
    if question.tclass in FILE_CLASSES:
        place = fix.shortlist(question.paths, 1) or "PATH"
        return Fix(FixKind.CONTEXT, text, (f"restorecon -F -v {place}", f"chcon -u {source.user} {place}"))
    return Fix(FixKind.CONTEXT, f"{text}: start both as the same user", (f"runcon -u {target.user} COMMAND",))


def _pairs(question: Question) -> list[tuple[Context, Context]]:
    pairs = ((Context.parse(source), Context.parse(target)) for source, target in question.seen.contexts)
    return [(source, target) for source, target in pairs if source is not None and target is not None]


def _level(text: str) -> str:
    """Return the high level of a range."""
    return text.rpartition("-")[2]


def _is_separated(source: str, target: str) -> bool:
    """Tell whether a process does not dominate an object's range; False if a range cannot be parsed.

    Policies compare categories only for processes that have some: containers, virtual machines, sandboxes.
    """
    mine, theirs = _categories(_level(source)), _categories(_level(target))
    return bool(mine) and theirs is not None and mine is not None and not theirs <= mine


def _categories(level: str) -> Optional[frozenset[int]]:
    _, colon, names = level.partition(":")
    if not colon:
        return frozenset() if level else None
    found: set[int] = set()
    for part in names.split(","):
        match = _CATEGORY.match(part)
        if match is None or int(match[2] or match[1]) >= MAX_CATEGORIES:
            return None
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(found)
