"""Collect and order the fixes of a candidate: the first is proposed, the others are alternatives."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from sepolicyd.rules.fixes import fix
from sepolicyd.rules.fixes.allow import interface_exact, interface_wider, narrow
from sepolicyd.rules.fixes.booleans import booleans_of_others, is_named_for, is_own, is_small, switch
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.fixes.capabilities import owner_or_mode, owner_unknown, smaller_capability
from sepolicyd.rules.fixes.contexts import constraint, errors
from sepolicyd.rules.fixes.detail import NewLabels, labels_of
from sepolicyd.rules.fixes.domains import own_domain
from sepolicyd.rules.fixes.dontaudit import leak, noise, precedent, precedent_too, probe, silence
from sepolicyd.rules.fixes.fix import Fix, FixKind
from sepolicyd.rules.fixes.labels import (
    associate,
    by_likeness,
    by_name,
    log_label,
    other_mount,
    own_tree,
    sibling,
    tree_label,
    wrong_label,
)
from sepolicyd.rules.fixes.own_types import own_type, own_type_too
from sepolicyd.rules.fixes.ports import port_label
from sepolicyd.rules.fixes.programs import (
    better_domain,
    foreign_program,
    new_domain,
    other_domain,
    other_domain_too,
    program_by_name,
    program_label,
)
from sepolicyd.rules.vocabulary import vocabulary

# kinds that are variants of the same answer
FAMILIES = {
    FixKind.ALLOW: "rule",
    FixKind.INTERFACE: "rule",
    FixKind.RELABEL: "label",
    FixKind.OWN_TYPE: "label",
}
OPENING = (FixKind.ALLOW, FixKind.BOOLEAN, FixKind.INTERFACE)


def fixes(question: Question) -> list[Fix]:
    """Return all applicable fixes, best first; never empty. Refused candidates get no allow rule, boolean or interface."""
    known = list(application(question))
    refused = f"do not allow it ({_codes(question)})"
    if question.is_error:
        return [*known, *errors(question)]
    if question.unknown:
        unknown = Fix(FixKind.UNKNOWN, _unknown_text(question))
        shown = [*constraint(question), *associate(question), *wrong_label(question), *program_label(question)]
        return [*known, *shown, *([fix.refuse(refused)] if question.refused else []), unknown, *booleans_of_others(question)]
    found = [one for step in STEPS for one in step(question)]
    if question.refused:
        known = [one for one in known if not _withheld(question, one)]
        found = [*(one for one in found if not _withheld(question, one)), fix.refuse(refused)]
    elif question.user_only and question.source in question.profile.service_domains:
        found = [one for one in found if one.kind not in OPENING]
        found.append(fix.refuse("do not allow it for the service's own domain, since only users' code requested it"))
        known = [*own_domain(question), *known]  # advice on the service does not apply to what its users run
    elif question.obstacles and not question.mendable:
        found = [one for one in found if one.kind not in OPENING]
        found.append(fix.refuse(f"do not add a rule, it would have no effect. {question.obstacles[0]}"))
    kept: dict[tuple[FixKind, tuple[str, ...]], Fix] = {}
    for one in (*known, *found):
        kept.setdefault((one.kind, one.commands), one)
    wide = {one.commands for one in _boolean_wide(question)} - {one.commands for one in _boolean_own(question)}
    return _varied([one for one in kept.values() if one.commands not in wide], [kept[key] for key in kept if key[1] in wide])


def _varied(found: list[Fix], last: list[Fix]) -> list[Fix]:
    """Move the first fix of each family before further ones of the same family, so that alternatives differ in kind.

    :param last: fixes that stay at the end
    """
    first: dict[str, Fix] = {}
    for one in found:
        first.setdefault(FAMILIES.get(one.kind, one.kind.value), one)
    leading = list(first.values())
    return [*leading, *(one for one in found if not any(one is other for other in leading)), *last]


def _unknown_text(question: Question) -> str:
    text = f"cannot be assessed: the policy does not define {', '.join(question.unknown)}"
    if any("." in name for name in question.unknown):
        text += "; a name with a dot belongs to a CIL block: write the rule in CIL (for udica: --append-rules)"
    return text


def _withheld(question: Question, one: Fix) -> bool:
    """Tell whether a fix must not be offered for a refused candidate. A boolean of a reverse proxy only concerns the proxy."""
    if one.kind is FixKind.BOOLEAN and question.source in question.profile.clients:
        return question.attacked
    return one.kind in OPENING or (one.kind is FixKind.DONTAUDIT and question.attacked)


def _codes(question: Question) -> str:
    return ", ".join(dict.fromkeys(finding.code for finding in question.findings if finding.level == "refuse"))


def application(question: Question) -> Iterator[Fix]:
    """Return the fixes of known denials, with PATH replaced by the denied paths."""
    for one in question.known:
        if question.allowed and any(known.kind is FixKind.ALLOW for known in one.fixes):
            continue  # the rule exists already
        for known in one.fixes:
            if known.kind is FixKind.ALLOW:
                yield replace(known, commands=fix.rules_of(question.accesses))
            elif known.kind is FixKind.DONTAUDIT and not known.commands:
                yield replace(known, commands=fix.rules_of(question.accesses, "dontaudit"))
            else:
                yield _about(known, question.paths)


def _about(known: Fix, paths: Sequence[str]) -> Fix:
    if not paths or known.kind not in (FixKind.RELABEL, FixKind.OWN_TYPE):
        return known
    commands = tuple(
        command.replace("'PATH'", shlex.quote(re.escape(path))).replace("PATH", shlex.quote(path))
        for command in known.commands
        for path in (paths[:3] if "PATH" in command else ("",))
    )
    contexts = tuple(
        replace(one, pattern=re.escape(path) if one.pattern == "PATH" else one.pattern)
        for one in labels_of(known.detail).contexts
        for path in (paths if one.pattern == "PATH" else ("",))
    )
    return replace(known, commands=commands, detail=NewLabels(tuple(paths), contexts))


def _boolean_small(question: Question) -> Iterator[Fix]:
    """Propose a boolean with small side effects, or one for mounts without labels, which is inherently broad."""
    mount = question.is_unlabelled_mount
    return (one for one, effect in switch(question) if mount or is_small(question, effect))


def _boolean_named(question: Question) -> Iterator[Fix]:
    """Find a boolean of the service itself for this access, and those that open less, but none instead of a port's label."""
    if question.silenced or ("name_bind" in question.permissions and question.target in vocabulary().ports):
        return
    own = [(one, effect) for one, effect in switch(question) if is_own(question, effect)]
    last = max((place for place, (_, effect) in enumerate(own) if is_named_for(question, effect)), default=-1)
    for place, (one, effect) in enumerate(own):
        if place <= last or (is_small(question, effect) and "name_bind" not in question.permissions):
            yield one


def _boolean_own(question: Question) -> Iterator[Fix]:
    """Propose a boolean of the service itself, even with broad side effects for the service."""
    return (one for one, effect in switch(question) if is_own(question, effect))


def _boolean_wide(question: Question) -> Iterator[Fix]:
    mount = question.is_unlabelled_mount
    return (one for one, effect in switch(question) if not (mount or is_small(question, effect)))


STEPS: Sequence[Callable[[Question], Iterator[Fix]]] = (
    associate,
    own_domain,
    constraint,
    noise,
    wrong_label,
    own_tree,
    sibling,
    by_name,
    program_by_name,
    log_label,
    _boolean_named,
    port_label,
    leak,
    probe,
    silence,
    _boolean_small,
    program_label,
    other_mount,
    own_type,
    other_domain,
    owner_or_mode,
    better_domain,
    precedent,
    smaller_capability,
    interface_exact,
    narrow,
    _boolean_own,
    foreign_program,
    precedent_too,
    other_domain_too,
    owner_unknown,
    own_type_too,
    by_likeness,
    tree_label,
    new_domain,
    interface_wider,
    _boolean_wide,
)
