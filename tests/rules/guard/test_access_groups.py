"""Grouping of refused accesses into rules, and parsing these rules as overrides."""

from __future__ import annotations

from itertools import product

from sepolicyd.access import Access
from sepolicyd.rules.guard.access_groups import as_rules
from sepolicyd.rules.guard.override import parse_overrides

HOMES = [
    Access.of("user_t", target, tclass, permission)
    for target, tclass, permission in product(("nfs_t", "cifs_t"), ("file", "dir"), ("write", "rename"))
]


def test_targets_and_classes_with_the_same_permissions_become_one_rule() -> None:
    assert as_rules(HOMES) == ["user_t { cifs_t nfs_t }:{ dir file } { rename write }"]
    more = [*HOMES, Access.of("user_t", "nfs_t", "file", "unlink"), Access.of("user_t", "user_t", "process", "ptrace")]
    assert as_rules(more) == [
        "user_t cifs_t:file { rename write }",
        "user_t nfs_t:file { rename unlink write }",
        "user_t self:process ptrace",
        "user_t { cifs_t nfs_t }:dir { rename write }",
    ]


def test_what_is_shown_can_be_written_as_an_override() -> None:
    found, wrong = parse_overrides([{"access": rule, "reason": "homes", "by": "root"} for rule in as_rules(HOMES)])
    assert not wrong
    assert {override.access for override in found} == set(HOMES)


def test_a_rule_without_permissions_is_no_override() -> None:
    for text in ("user_t nfs_t:file", "user_t nfs_t:file { }", "{ } nfs_t:file read", ""):
        found, wrong = parse_overrides([{"access": text, "reason": "x", "by": "root"}])
        assert not found
        assert len(wrong) == 1
