"""Fixes for a denied execution: the program's domain, or a program label for the file."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sepolicyd.audit.model import Kind
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rules.fixes import fix, precedents
from sepolicyd.rules.fixes.booleans import into_domain
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.fixes.detail import PathLabel
from sepolicyd.rules.fixes.fix import Fix
from sepolicyd.rules.vocabulary import vocabulary

RUN = frozenset({"execute", "execute_no_trans"})
USERS = frozenset({"userdomain", "login_userdomain", "unpriv_userdomain"})  # domains whose users run anything
OBJECT_MANAGERS = ("dbus", "service", "passwd", "nscd")  # classes of objects that user space manages
BEFORE = frozenset({"getattr"})
LIBRARY = re.compile(r"\.so(\.[0-9.]+)?\Z")
MAX_PATHS = 5


def other_domain(question: Question) -> Iterator[Fix]:
    """Propose to run a program in its own domain."""
    domain = _own_domain(question)
    if not domain:
        return
    if question.policy is None or _leaves(question.policy, question):
        yield from into_domain(question, domain)
        text = f"run {question.target} in its own domain {domain} instead of {question.source}"
        yield fix.transition(question.source, question.target, domain, text)


def better_domain(question: Question) -> Iterator[Fix]:
    """Propose a transition if the process runs a program of another domain that is allowed all denied accesses."""
    program, domain = _program_of_process(question)
    policy = question.policy
    if policy is None or not domain or policy.attributes_of(question.source) & USERS:
        return
    target = domain if question.candidate.target == "self" else question.target
    if all(policy.grants(domain, target, question.tclass, one) for one in question.permissions):
        yield _let_it_start(question, program, domain, f"{domain} is allowed this access")


def foreign_program(question: Question) -> Iterator[Fix]:
    """Propose a transition if the process runs a program that has another domain."""
    program, domain = _program_of_process(question)
    if domain:
        yield _let_it_start(question, program, domain, "start it there")


def _let_it_start(question: Question, program: str, domain: str, end: str) -> Fix:
    exe = fix.shortlist(question.seen.exes)
    text = f"{exe} runs in {question.source}, and {domain} is the domain of this program: {end}"
    return fix.transition(question.source, program, domain, text)


def _program_of_process(question: Question) -> tuple[str, str]:
    """Return the type of the process's program and the program's own domain if it differs; ("", "") otherwise.

    In a record of a user-space object manager (USER_AVC), exe is the manager, not the process.
    """
    policy, labels = question.policy, question.labels
    if policy is None or labels is None or question.unknown or question.source in question.profile.user_domains:
        return "", ""
    programs = {labels.lookup(exe) or "" for exe in question.seen.exes}
    if len(programs) != 1 or Kind.USER_AVC.value in question.seen.kinds or question.tclass in OBJECT_MANAGERS:
        return "", ""
    program = policy.resolve(programs.pop())
    if program not in policy.types or not program.endswith("_exec_t") or program in vocabulary().programs:
        return "", ""
    domain = precedents.domain_of_program(policy, program)
    if not domain or domain == question.source or policy.grants(question.source, program, "file", "entrypoint"):
        return "", ""
    return (program, domain) if precedents.is_of_program(domain, program) else ("", "")


def other_domain_too(question: Question) -> Iterator[Fix]:
    """Propose the same after the rule, if most domains run the program in their own domain, or for a mere probe."""
    policy = question.policy
    domain = _own_domain(question, RUN | BEFORE)
    if not domain or policy is None or (question.permissions & RUN and _leaves(policy, question)):
        return
    why = (
        "most domains run it in their own domain"
        if question.permissions & RUN
        else "a probe of a program usually precedes its execution"
    )
    text = f"run {question.target} in its own domain {domain}; {why}"
    yield fix.transition(question.source, question.target, domain, text)


def new_domain(question: Question) -> Iterator[Fix]:
    """Propose a domain of its own for an unlabelled program that a confined domain may not execute."""
    policy = question.policy
    if policy is None or question.tclass != "file" or "execute" not in question.permissions or question.unknown:
        return
    if question.target not in vocabulary().programs or not policy.domains - policy.unconfined >= {question.source}:
        return
    names = [*question.paths, *question.seen.names]
    if names and not any(LIBRARY.search(name) for name in names):
        text = f"or give {fix.shortlist(names, 1)} a program type and a domain of its own, started by {question.source}"
        yield Fix(fix.FixKind.TRANSITION, text, ("sepolicyd init --new NAME",))


def _own_domain(question: Question, asked: frozenset[str] = RUN) -> str:
    """Return the domain of the program, "" if it has none or the source is that domain."""
    program = question.target
    if question.tclass != "file" or not question.permissions & asked or program in vocabulary().programs:
        return ""
    if not program.endswith("_exec_t"):
        return ""
    if question.policy is None or program not in question.policy.types:
        domain = f"{precedents.stem(program)}_t"
        return domain if domain != question.source and "execute_no_trans" in question.permissions else ""
    domain = precedents.domain_of_program(question.policy, question.policy.resolve(program))
    return "" if domain == question.source else domain


def _leaves(policy: PolicyIndex, question: Question) -> bool:
    """Tell whether at least as many domains have a transition for this program as run it in their own domain."""
    return precedents.starters(policy, question.target) >= precedents.runners(policy, question.target)


def program_by_name(question: Question) -> Iterator[Fix]:
    """Propose the program type that file_contexts has for the name of a program without a path in the record."""
    policy, labels, words = question.policy, question.labels, vocabulary()
    if policy is None or labels is None or labels.files is None or question.tclass != "file" or question.paths:
        return
    if question.target not in words.programs | words.generic or not question.permissions & RUN:
        return
    for name in question.seen.names[:MAX_PATHS]:
        for spec in labels.files.by_last(name):
            if spec.type not in words.programs and precedents.is_program(policy, spec.type):
                text = f"{spec.stem} has the type {spec.type} in file_contexts, not {question.target}: relabel it"
                yield fix.relabel([spec.stem], text)
                return


def program_label(question: Question) -> Iterator[Fix]:
    """Propose the label of neighbouring programs, or bin_t, for an executed file without a program type."""
    policy = question.policy
    if policy is None or question.tclass != "file" or not question.permissions & RUN:
        return
    if not _takes_a_program_label(question, policy):
        return
    target = question.target
    run = "execute_no_trans" in question.permissions
    paths = question.paths[:MAX_PATHS]
    names = paths or question.seen.names
    library = bool(names) and not run and all(LIBRARY.search(name) for name in names)
    if target == "bin_t" and not library:
        return
    label = "lib_t" if library else _neighbours(question, paths) or "bin_t"
    if label == target or (target == "lib_t" and not run):
        return
    what = "a library" if library else "a program"
    kind = "libraries" if library else "programs"
    text = f"{target} is not a type of {kind}: {question.source} executes it, so label {fix.shortlist(names)} as {what}"
    contexts = [PathLabel(re.escape(path).replace(r"\-", "-"), label, "--") for path in paths]
    if contexts:
        yield fix.relabel(paths, text, contexts)
    else:
        name = names[0] if names else "PATH"
        yield Fix(
            fix.FixKind.RELABEL, f"{text} (the record contains no path)", (f"semanage fcontext -a -t {label} '.../{name}'",)
        )


def _takes_a_program_label(question: Question, policy: PolicyIndex) -> bool:
    """Tell whether a file of the target's type may be a mislabelled program."""
    target = question.target
    if target == "shell_exec_t" or (target not in ("bin_t",) and precedents.is_program(policy, target)):
        return False
    if question.is_declared(target) or target in policy.domains or question.is_unlabelled_mount:
        return False
    return not policy.attributes_of(target) & {"tmpfile", "tmpfsfile"}


def _neighbours(question: Question, paths: tuple[str, ...]) -> str:
    """Return the program type of other files in the same directory in file_contexts, if there is only one."""
    labels, policy = question.labels, question.policy
    if labels is None or labels.files is None or policy is None or not paths:
        return ""
    directory = paths[0].rpartition("/")[0] + "/"
    near = {
        spec.type for spec in labels.files.by_parent(directory) if not spec.tree and precedents.is_program(policy, spec.type)
    }
    mine = {name for name in near if precedents.domain_of_program(policy, name) == ""}
    return next(iter(mine)) if len(mine) == 1 else ""
