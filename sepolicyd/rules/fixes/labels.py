"""Fixes that correct the label of a file: restorecon, a file_contexts rule, or a mount option."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Optional

from sepolicyd.rules.fixes import fix, precedents
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.fixes.detail import ConfigurationLine, PathLabel
from sepolicyd.rules.fixes.fix import Fix, FixKind
from sepolicyd.rules.vocabulary import vocabulary

MANY = 3, 4  # share of the paths that must have a wrong label
MIN_LIKE = 4  # minimum length of the common prefix of two neighbours' names
MIN_ENDING = 6
LOG_TYPE = "var_log_t"
LOG = re.compile(r"(?:\.(?:log|out|err)(?:[.-][0-9]+)?(?:\.(?:gz|xz|bz2|zst))?\Z)|/logs?/")
MAX_PATHS = 5
BOOT_PLACES = ("/run/", "/var/run/", "/tmp/", "/dev/shm/")  # noqa: S108


def wrong_label(question: Question) -> Iterator[Fix]:
    """Propose restorecon if file_contexts has another label for the path."""
    if not question.is_file or question.is_unlabelled_mount:
        return
    wrong = mislabelled(question)
    if wrong:
        types = ", ".join(sorted(set(wrong.values())))
        places = sorted(wrong)
        text = f"wrong label: in file_contexts, {fix.shortlist(places)} has the type {types} instead of {question.target}"
        temporary = [path for path in places if path.startswith(BOOT_PLACES)]
        if temporary:
            text += "; since it is created anew at each start, set the label by a file transition or a line in tmpfiles.d (Z)"
        shown = fix.relabel(places, text)
        lines = tuple(f"Z {path} - - - -    # in /etc/tmpfiles.d/local.conf" for path in temporary)
        yield replace(shown, commands=(*shown.commands, *lines))
    elif question.target in vocabulary().unlabelled:
        yield from _unlabelled(question)


def mislabelled(question: Question) -> dict[str, str]:
    """Return the paths whose type differs from file_contexts and would be changed by restorecon, with the correct type."""
    labels = question.labels
    if labels is None or labels.is_customizable(question.target):
        return {}
    found: dict[str, str] = {}
    words = vocabulary()
    for path in question.paths:
        expected = labels.lookup(path, question.tclass)
        # a type of the service itself is correct, even if the policy does not contain its base module yet
        if not expected or (question.is_own(question.target) and not question.is_own(expected)):
            continue
        if expected in words.generic and (question.target in words.transient or path.startswith(BOOT_PLACES)):
            continue  # the label of a whole tree, on what is made anew at each start with the label of its maker
        if expected not in words.unlabelled and expected != question.target and not _same(question, expected):
            found[path] = expected
    # A few among many paths are moved files, or names through a link (a PATH record contains the requested name:
    # /usr/lib/ssl/openssl.cnf is /etc/ssl/openssl.cnf). The others would still need the rule.
    part, whole = MANY
    return found if whole * len(found) >= part * len(question.paths) else {}


def _same(question: Question, expected: str) -> bool:
    return question.policy is not None and question.policy.resolve(expected) == question.policy.resolve(question.target)


def _unlabelled(question: Question) -> Iterator[Fix]:
    """Propose a label for an unlabelled file without a rule in file_contexts."""
    contexts = owned_contexts(question)
    if contexts or question.labels is None:
        text = f"{question.target} means a missing label: restore the label of the path, with an fcontext rule if there is none"
        yield fix.relabel(question.paths, text, contexts)
        return
    name = own_file_type(question)
    text = (
        f"{question.target} is a missing label, but file_contexts has none for {fix.shortlist(question.paths) or 'the path'}: "
    )
    stem = precedents.stem(question.source)
    named = any(precedents.related(stem, part) >= MIN_LIKE for path in question.paths for part in path.split("/"))
    if name and named:
        rules = [PathLabel(pattern(path, question.tclass), name) for path in question.paths[:MAX_PATHS]]
        yield fix.relabel(
            question.paths[:MAX_PATHS], f"{text}add a rule with {name}, to which {question.source} has access", rules
        )
        return
    place = pattern(question.paths[0], question.tclass) if question.paths else "PATH(/.*)?"
    commands = (f"semanage fcontext -a -t TYPE '{place}'", f"restorecon -Rv {question.paths[0] if question.paths else 'PATH'}")
    yield Fix(FixKind.RELABEL, f"{text}choose the type of a directory with the same use", commands)


def pattern(path: str, tclass: str) -> str:
    """Return a file_contexts expression for a path, including the tree below a directory."""
    escaped = re.escape(path).replace(r"\-", "-")
    return f"{escaped}(/.*)?" if tclass == "dir" else escaped


def own_file_type(question: Question) -> str:
    """Return the file type named after the source to which it has the denied access, "" for none."""
    policy = question.policy
    if policy is None or question.unknown:
        return ""
    mine = precedents.stem(question.source)
    found = [
        name
        for name in policy.types_of("file_type")
        if name.startswith(f"{mine}_")
        and not precedents.is_program(policy, name)
        and all(policy.grants(question.source, name, question.tclass, one) for one in question.permissions)
    ]
    return min(found, key=lambda name: (len(name), name), default="")


def sibling(question: Question) -> Iterator[Fix]:
    """Propose, for a path with a generic label, the label of a neighbouring path of the same service."""
    policy, labels = question.policy, question.labels
    if policy is None or labels is None or labels.files is None or question.unknown or not question.is_file:
        return
    if question.target not in vocabulary().generic or question.owned or mislabelled(question):
        return
    rules: dict[PathLabel, str] = {}
    for path in question.paths[:MAX_PATHS]:
        found = _sibling_type(question, path)
        if found:
            rules[found] = path
    if rules:
        types = ", ".join(sorted({rule.type for rule in rules}))
        text = f"{question.target} is a generic label; neighbouring files of {question.source} have the type {types}"
        yield fix.relabel(list(rules.values()), text, list(rules))


def _sibling_type(question: Question, path: str) -> Optional[PathLabel]:
    """Return a rule for the nearest parent directory with a neighbour of similar name that belongs to the source."""
    if question.labels is None or question.labels.files is None:
        return None
    parts = path.split("/")
    for depth in range(len(parts), 2, -1):
        parent, name = "/".join(parts[: depth - 1]) + "/", parts[depth - 1]
        for spec in question.labels.files.by_parent(parent):
            other = spec.stem[len(parent) :].split("/")[0]
            alike = precedents.related(other, name) >= min(MIN_LIKE, len(other)) and other and other != name
            if alike and _usable(question, spec.type):
                place = re.escape(parent + name).replace(r"\-", "-")
                return PathLabel(f"{place}(/.*)?" if depth < len(parts) or question.tclass == "dir" else place, spec.type)
    return None


def _usable(question: Question, name: str) -> bool:
    return precedents.related(precedents.stem(question.source), name) >= MIN_LIKE and _holds(question, name)


def by_name(question: Question) -> Iterator[Fix]:
    """Propose, for a record with a name but no path, the path in file_contexts with this name and an accessible type."""
    policy, labels, words = question.policy, question.labels, vocabulary()
    if policy is None or labels is None or labels.files is None or question.tclass != "file":
        return
    if question.paths or question.unknown or question.target in words.generic or question.is_own(question.target):
        return
    for name in question.seen.names[:MAX_PATHS]:
        specs = [spec for spec in labels.files.by_last(name) if spec.type not in {*words.generic, question.target}]
        specs = [spec for spec in specs if not precedents.is_program(policy, spec.type)]
        specs = [spec for spec in specs if _holds(question, spec.type)]
        if specs:
            place = specs[0].stem
            watch = f"auditctl -w {place.rpartition('/')[0] or '/'}"
            text = (
                f"in file_contexts, a file of this name is {place} with the type {specs[0].type}, which {question.source} may "
                f"use: relabel it there (no path was recorded; to record paths, run: {watch})"
            )
            yield Fix(FixKind.RELABEL, text, (f"restorecon -v {place}",))


def by_likeness(question: Question) -> Iterator[Fix]:
    """Propose the type of a file with a similar name, such as that of resolv.conf for no-stub-resolv.conf."""
    policy, labels, words = question.policy, question.labels, vocabulary()
    if policy is None or labels is None or labels.files is None or question.tclass != "file" or question.unknown:
        return
    for name in dict.fromkeys(path.rpartition("/")[2] for path in (*question.paths, *question.seen.names)):
        for ending in _endings(name):
            specs = [one for one in labels.files.by_last(ending) if one.type not in {*words.generic, question.target}]
            specs = [one for one in specs if not precedents.is_program(policy, one.type) and _holds(question, one.type)]
            if specs:
                text = f"{specs[0].stem} has the type {specs[0].type}, to which {question.source} has access: use it for {name}"
                places = [path for path in question.paths if path.endswith(f"/{name}")]
                rules = [PathLabel(pattern(path, question.tclass), specs[0].type) for path in places]
                shown = (f"semanage fcontext -a -t {specs[0].type} '.../{name}'",)
                yield fix.relabel(places, text, rules) if places else Fix(FixKind.RELABEL, text, shown)
                return


def _endings(name: str) -> Iterator[str]:
    """Yield the suffixes of a file name that begin at a hyphen or underscore and have a minimum length."""
    for place, letter in enumerate(name):
        if letter in "-_" and len(name) - place > MIN_ENDING:
            yield name[place + 1 :]


def log_label(question: Question) -> Iterator[Fix]:
    """Relabel a log whose type is not a log type, for a program that handles logs, such as logrotate."""
    policy, words = question.policy, vocabulary()
    if policy is None or question.unknown or question.tclass != "file" or question.is_own(question.target):
        return
    names = question.paths or question.seen.names
    if not names or not all(LOG.search(name) for name in names) or not _holds(question, LOG_TYPE):
        return
    if policy.attributes_of(question.target) & {"logfile"} or question.source in question.profile.user_domains:
        return
    if question.target not in words.generic and not precedents.is_configuration(policy, question.target):
        return
    text = f"{fix.shortlist(names)} is a log and has the label {question.target}: label it {LOG_TYPE}, as other logs"
    rules = [PathLabel(pattern(path, question.tclass), LOG_TYPE) for path in question.paths[:MAX_PATHS]]
    shown = Fix(FixKind.RELABEL, text, (f"semanage fcontext -a -t {LOG_TYPE} '.../{names[0]}'",))
    yield fix.relabel(question.paths[:MAX_PATHS], text, rules) if rules else shown


def tree_label(question: Question) -> Iterator[Fix]:
    """Propose, after the rule, a specific type for a file with a generic label that the source only reads."""
    words = vocabulary()
    if question.tclass != "file" or question.allowed or question.target not in words.generic - {"etc_t", "usr_t"}:
        return
    if not question.paths or question.permissions & words.changes or mislabelled(question) or question.owned:
        return
    place = pattern(question.paths[0], question.tclass)
    text = f"{question.target} is a generic label: give {fix.shortlist(question.paths)} the type of the service that creates it"
    yield Fix(FixKind.RELABEL, text, (f"semanage fcontext -a -t TYPE '{place}'", f"restorecon -v {question.paths[0]}"))


def _holds(question: Question, name: str) -> bool:
    policy = question.policy
    if policy is None:
        return False
    return all(policy.grants(question.source, name, question.tclass, one) for one in question.permissions)


def associate(question: Question) -> Iterator[Fix]:
    """Propose fixes for a file label that a file system does not accept (the source is a file type, not a domain)."""
    if question.tclass != "filesystem" or "associate" not in question.permissions:
        return
    names = fix.shortlist(question.paths or question.seen.names)
    text = (
        f"{question.source} is the intended label of the file {names or 'in question'}, not a domain, and the file system "
        f"({question.target}) does not accept it: give the file a label that exists in this policy (restorecon, or the label "
        "in its image or archive), or mount the file system with a context"
    )
    commands = tuple(f"restorecon -v {path}" for path in question.paths[:2])
    yield Fix(FixKind.RELABEL, text, commands)


def other_mount(question: Question) -> Iterator[Fix]:
    """Propose a mount option with a label for a file system without labels."""
    if question.is_unlabelled_mount:
        text = f"{question.target} covers all mounts of this kind: give this mount a label of its own"
        line = "mount -o context=system_u:object_r:TYPE:s0 ..."
        yield Fix(FixKind.APPLICATION, text, (line,), ConfigurationLine("/etc/fstab", "context="))


def own_tree(question: Question) -> Iterator[Fix]:
    """Propose the type of the service's own tree for a path inside it."""
    if not question.is_file or question.is_unlabelled_mount:
        return
    if question.owned and not question.is_own(question.target):
        contexts = owned_contexts(question)
        types = ", ".join(sorted({one.type for one in contexts}))
        text = f"{fix.shortlist(sorted(question.owned))} belongs to the service: label it {types}"
        yield fix.relabel(sorted(question.owned), text, contexts, FixKind.OWN_TYPE)


def owned_contexts(question: Question) -> list[PathLabel]:
    """Return the profile's rules for the trees that contain the denied paths."""
    trees = dict.fromkeys(question.owned.values())
    return [PathLabel(tree.pattern, tree.type) for tree in trees]
