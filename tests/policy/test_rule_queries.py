"""Queries by rule group, compared with the same query over all rules."""

from __future__ import annotations

from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.rule_queries import permissions_between, rules_of_class, targets_of, types_that_hold

SOURCES = frozenset({"sshd_t", "syslogd_t", "domain", "no_such_type"})
TARGETS = ("var_log_t", "etc_t", "file_type", "no_such_type")


def test_rules_of_class(distribution: PolicyIndex) -> None:
    expected = sorted((key[0], key[1], sorted(held)) for key, held, _ in distribution.rules("allow") if key[2] == "dbus")
    assert expected
    assert sorted((source, target, sorted(held)) for source, target, held in rules_of_class(distribution, "dbus")) == expected
    assert not list(rules_of_class(distribution, "no_such_class"))


def test_targets_of(distribution: PolicyIndex) -> None:
    expected = {key[1] for key, _, _ in distribution.rules("allow", ["sshd_t"]) if key[2] == "tcp_socket"}
    assert expected
    assert targets_of(distribution, "sshd_t", "tcp_socket") == expected
    assert not targets_of(distribution, "no_such_type", "tcp_socket")


def test_types_that_hold(distribution: PolicyIndex) -> None:
    expected: set[str] = set()
    for (source, target, tclass), held, _ in distribution.rules("allow"):
        if target in TARGETS and tclass == "file" and "read" in held:
            expected |= distribution.types_of(source)
    assert expected
    assert types_that_hold(distribution, TARGETS, "file", "read") == sorted(expected)
    assert types_that_hold(distribution, TARGETS, "file", "no_such_permission") == []


def test_permissions_between(distribution: PolicyIndex) -> None:
    expected: set[str] = set()
    for (source, target, tclass), held, _ in distribution.rules("allow"):
        if source in SOURCES and target in TARGETS and tclass == "file":
            expected |= held
    assert expected
    assert permissions_between(distribution, SOURCES, TARGETS, "file") == expected
