"""A question about a file in, the labels out that would answer it: restorecon, the service's own tree, a type of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sepolicyd.rules.fixes import fix
from sepolicyd.rules.fixes.detail import ConfigurationLine, CreatedLabel, OwnType, PathLabel
from sepolicyd.rules.fixes.fix import Fix, FixKind
from sepolicyd.rules.fixes.question import Question

# Without these a type is the mark of a missing label; a rule on it would open whatever else lost its label.
UNLABELLED = ("unlabeled_t", "default_t", "file_t")
GENERIC = ("var_t", "var_lib_t", "var_log_t", "var_run_t", "var_spool_t", "var_lock_t", "usr_t", "etc_t", "tmp_t", "tmpfs_t",
           "home_root_t", "user_home_t", "user_home_dir_t", "srv_t", "mnt_t", "src_t", "admin_home_t", "cache_home_t",
           "config_home_t", "data_home_t", "gconf_home_t", "home_bin_t")  # fmt: skip
CHANGES = {"write", "append", "create", "unlink", "link", "rename", "setattr", "add_name", "remove_name", "rmdir", "reparent"}
ENTRIES = {"search", "getattr", "write", "add_name", "remove_name"}
OWN_SUFFIX = {"var_lib_t": "var_lib_t", "var_log_t": "log_t", "var_run_t": "runtime_t", "etc_t": "etc_t",
              "usr_t": "var_lib_t", "var_t": "var_lib_t", "srv_t": "var_lib_t", "tmp_t": "tmp_t", "tmpfs_t": "tmpfs_t",
              "var_spool_t": "var_lib_t"}  # fmt: skip
SHARED_PLACES = ("tmp_t", "tmpfs_t", "var_run_t", "var_log_t", "var_lib_t")


def wrong_label(question: Question) -> Iterator[Fix]:
    """The path has another label in file_contexts than the file carries."""
    if not question.is_file or is_unlabelled_mount(question):
        return
    wrong = _mislabelled(question)
    if wrong:
        types = ", ".join(sorted(set(wrong.values())))
        yield fix.relabel(
            sorted(wrong),
            f"the label is wrong: file_contexts gives {_some(sorted(wrong))} the type {types}, not {question.target}",
        )
    elif question.target in UNLABELLED:
        yield fix.relabel(
            question.paths,
            f"{question.target} is no label: give the file the one of its place, with an fcontext rule where there is none",
            _contexts(question),
        )


def _mislabelled(question: Question) -> dict[str, str]:
    labels, own = question.labels, question.profile.own_types
    if labels is None or labels.is_customizable(question.target):
        return {}
    found: dict[str, str] = {}
    for path in question.paths:
        expected = labels.lookup(path, question.tclass)
        # a label of the service's own is never wrong for a policy that does not have its base module yet
        if question.target in own and expected not in own:
            continue
        if expected and expected != question.target and not _same(question, expected):
            found[path] = expected
    # A few among many are files that somebody moved, or names through a link (a PATH record holds the name as it was asked
    # for: /usr/lib/ssl/openssl.cnf is /etc/ssl/openssl.cnf): the rule would be asked for the others all the same.
    return found if 4 * len(found) >= 3 * len(question.paths) else {}


def _same(question: Question, expected: str) -> bool:
    return question.policy is not None and question.policy.resolve(expected) == question.policy.resolve(question.target)


def is_unlabelled_mount(question: Question) -> bool:
    """Whether the target is the one label of a mount whose files have none (NFS, CIFS, FUSE): restorecon has nothing to set."""
    return question.is_file and question.has("P-009")


def other_mount(question: Question) -> Iterator[Fix]:
    """A mount without labels is given one when it is mounted."""
    if is_unlabelled_mount(question):
        text = f"{question.target} is every mount of this kind: give this one a label of its own when it is mounted"
        yield Fix(
            FixKind.APPLICATION,
            text,
            ("mount -o context=system_u:object_r:TYPE:s0 ...",),
            ConfigurationLine("/etc/fstab", "context="),
        )


def own_tree(question: Question) -> Iterator[Fix]:
    """A path that the service owns: the type of its tree."""
    if not question.is_file or is_unlabelled_mount(question):
        return
    if question.owned and question.target not in question.profile.own_types:
        contexts = _contexts(question)
        types = ", ".join(sorted({one.type for one in contexts}))
        yield fix.relabel(
            sorted(question.owned),
            f"the service owns {_some(sorted(question.owned))}: label it {types}",
            contexts,
            FixKind.OWN_TYPE,
        )


def own_type(question: Question) -> Iterator[Fix]:
    """One under a label that covers a whole tree: a type of its own, where no switch of the policy is made for it."""
    if not question.is_file or question.source not in question.profile.domains:
        return  # a type of ours for what another's domain makes is no answer
    if question.owned and question.target not in question.profile.own_types:
        return
    if question.target in GENERIC and question.permissions & CHANGES and not _mislabelled(question):
        yield _new_type(question)


def _contexts(question: Question) -> list[PathLabel]:
    trees = dict.fromkeys(question.owned.values())
    return [PathLabel(tree.pattern, tree.type) for tree in trees]


def _new_type(question: Question) -> Fix:
    """What is made in a shared directory gets its type by a type_transition, other files by their exact paths.

    Never by a tree of the log's choosing: a path like /etc/x would take /etc along. A type that the base module does not
    have yet is shown, and left to a person.
    """
    name = _own_name(question)
    known = name in question.profile.own_types
    text = f"{question.target} covers a whole tree: what {question.source} makes there should be {name}"
    text += "" if known else " (a new type, for the base module)"
    if question.target in SHARED_PLACES:
        made = ("file", "dir") if question.tclass == "dir" and "create" not in question.permissions else (question.tclass,)
        rules = tuple(f"type_transition {question.source} {question.target}:{one} {name};" for one in made)
        created = tuple(CreatedLabel(question.source, question.target, one, name) for one in made)
        # whoever makes a file there writes its name into the shared directory, whatever label the file gets
        entries = [one for one in question.accesses if question.tclass == "dir" and one.permission in ENTRIES]
        detail = OwnType(created=created, allowed=tuple(one.permission for one in entries)) if known else OwnType()
        return Fix(FixKind.OWN_TYPE, text, (*rules, *fix.rules_of(entries)), detail)
    contexts = [PathLabel(re.escape(path).replace("\\-", "-"), name) for path in question.paths[:5]]
    shown = fix.relabel(question.paths[:5], text, contexts, FixKind.OWN_TYPE)
    return shown if known else replace(shown, detail=OwnType())


def _own_name(question: Question) -> str:
    suffix = OWN_SUFFIX.get(question.target, "var_lib_t")
    stem = re.sub(r"_t\Z", "", question.source)
    for name in (f"{stem}_{suffix}", f"{question.profile.name}_{suffix}"):
        if name in question.profile.own_types:
            return name
    return f"{stem}_{suffix}"


def _some(values: Sequence[str], limit: int = 2) -> str:
    shown = ", ".join(values[:limit])
    return f"{shown} and {len(values) - limit} more" if len(values) > limit else shown
