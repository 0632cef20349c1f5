"""Fixes for a denied execution: the domain of the program, or the label of a file that should be a program."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rules.fixes import fix, precedents
from sepolicyd.rules.fixes.booleans import into_domain
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.fixes.detail import PathLabel
from sepolicyd.rules.fixes.fix import Fix
from sepolicyd.rules.vocabulary import vocabulary

RUN = frozenset({"execute", "execute_no_trans"})
LIBRARY = re.compile(r"\.so(\.[0-9.]+)?\Z")
MAX_PATHS = 5


def other_domain(question: Question) -> Iterator[Fix]:
    """A program that has a domain of its own should run in it."""
    domain = _own_domain(question)
    if not domain:
        return
    if question.policy is None or _leaves(question.policy, question):
        yield from into_domain(question, domain)
        text = f"run {question.target} in its own domain {domain} instead of {question.source}"
        yield fix.transition(question.source, question.target, domain, text)


def foreign_program(question: Question) -> Iterator[Fix]:
    """The process runs a program of another domain: it should have left its own when it started it."""
    policy, labels = question.policy, question.labels
    if policy is None or labels is None or question.unknown or question.source in question.profile.user_domains:
        return
    programs = {labels.lookup(exe) or "" for exe in question.seen.exes}
    if len(programs) != 1:
        return
    program = policy.resolve(programs.pop())
    domain = precedents.domain_of_program(policy, program) if program in policy.types and program.endswith("_exec_t") else ""
    if domain and domain != question.source and not policy.grants(question.source, program, "file", "entrypoint"):
        exe = fix.shortlist(question.seen.exes)
        text = f"{exe} runs in {question.source}, and {domain} is the domain of this program: let it start there"
        yield fix.transition(question.source, program, domain, text)


def other_domain_too(question: Question) -> Iterator[Fix]:
    """The same behind the rule, where most other domains run the program without leaving their own."""
    domain = _own_domain(question)
    if domain and question.policy is not None and not _leaves(question.policy, question):
        text = f"run {question.target} in its own domain {domain}; most domains run it without leaving their own"
        yield fix.transition(question.source, question.target, domain, text)


def _own_domain(question: Question) -> str:
    """The domain that the program starts, "" where it has none or the source is that domain."""
    program = question.target
    if question.tclass != "file" or not question.permissions & RUN or program in vocabulary().programs:
        return ""
    if not program.endswith("_exec_t"):
        return ""
    if question.policy is None or program not in question.policy.types:
        domain = f"{precedents.stem(program)}_t"
        return domain if domain != question.source and "execute_no_trans" in question.permissions else ""
    domain = precedents.domain_of_program(question.policy, question.policy.resolve(program))
    return "" if domain == question.source else domain


def _leaves(policy: PolicyIndex, question: Question) -> bool:
    """Whether domains leave their own for this program at least as often as they stay in it."""
    return precedents.starters(policy, question.target) >= precedents.runners(policy, question.target)


def program_label(question: Question) -> Iterator[Fix]:
    """A file that is executed and whose type is not one of programs gets the label of its neighbours, or bin_t."""
    policy = question.policy
    if policy is None or question.tclass != "file" or not question.permissions & RUN:
        return
    target = question.target
    if precedents.is_program(policy, target) or question.is_declared(target) or target in policy.domains:
        return
    if policy.attributes_of(target) & {"tmpfile", "tmpfsfile"} or question.is_unlabelled_mount:
        return
    run = "execute_no_trans" in question.permissions
    if target in ("bin_t", "shell_exec_t") or (target == "lib_t" and not run):
        return
    paths = question.paths[:MAX_PATHS]
    names = paths or question.seen.names
    library = bool(names) and not run and all(LIBRARY.search(name) for name in names)
    label = "lib_t" if library else _neighbours(question, paths) or "bin_t"
    if label == target:
        return
    what = "a library" if library else "a program"
    text = f"{target} is not a type of programs: {question.source} executes it, so label {fix.shortlist(names)} as {what}"
    contexts = [PathLabel(re.escape(path).replace(r"\-", "-"), label, "--") for path in paths]
    if contexts:
        yield fix.relabel(paths, text, contexts)
    else:
        name = names[0] if names else "PATH"
        yield Fix(fix.FixKind.RELABEL, f"{text} (the record gives no path)", (f"semanage fcontext -a -t {label} '.../{name}'",))


def _neighbours(question: Question, paths: tuple[str, ...]) -> str:
    """The program type that file_contexts gives other files of the same directory, where it is one alone."""
    labels, policy = question.labels, question.policy
    if labels is None or labels.files is None or policy is None or not paths:
        return ""
    directory = paths[0].rpartition("/")[0] + "/"
    near = {
        spec.type for spec in labels.files.by_parent(directory) if not spec.tree and precedents.is_program(policy, spec.type)
    }
    mine = {name for name in near if precedents.domain_of_program(policy, name) == ""}
    return next(iter(mine)) if len(mine) == 1 else ""
