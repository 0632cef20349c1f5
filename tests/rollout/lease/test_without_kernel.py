"""Removal of the package on a machine that was booted without SELinux leaves no lease in the module store."""

from __future__ import annotations

import pytest

from sepolicyd.rollout.lease import lifecycle as leases
from sepolicyd.rollout.lease.without_kernel import end_all_in_store
from tests.rollout.lease.fakes import Machine
from tests.rollout.lease.test_lease import PROFILE, Confined
from tests.rollout.lease.test_promise import BY_HAND


def booted_without_selinux(*, hidden: bool = False) -> Machine:
    """A lease was opened; then the machine was started with selinux=0."""
    machine = Machine()
    leases.start(BY_HAND, PROFILE, 600, by="ada", hidden=hidden, world=machine.world(), policy=Confined())
    machine.enabled = False
    return machine


@pytest.mark.parametrize("hidden", [False, True])
def test_module_and_record_go_and_nothing_is_loaded(hidden: bool) -> None:
    machine = booted_without_selinux(hidden=hidden)
    machine.trace.clear()
    assert end_all_in_store(machine.world(), 1.0) == []
    assert (machine.modules, machine.undo, machine.public) == ({}, {}, None)
    assert not machine.booted_permissive
    assert not machine.dontaudit_off
    assert not [name for name in machine.trace if name.startswith("kernel.")]


def test_a_damaged_record_goes_with_every_lease_module() -> None:
    machine = booted_without_selinux()
    machine.undo = dict.fromkeys(machine.undo, "{")
    assert end_all_in_store(machine.world(), 1.0) == []
    assert (machine.modules, machine.undo) == ({}, {})


def test_what_could_not_be_removed_keeps_its_record() -> None:
    machine = booted_without_selinux()
    machine.broken = frozenset({"store.remove_for_next_boot"})
    errors = end_all_in_store(machine.world(), 1.0)
    assert errors
    assert machine.undo
    machine.broken = frozenset()
    assert end_all_in_store(machine.world(), 1.0) == []
    assert not machine.undo


def test_without_a_lease_there_is_nothing_to_do() -> None:
    machine = Machine(enabled=False)
    assert end_all_in_store(machine.world(), 1.0) == []
    assert "store.remove_for_next_boot" not in machine.trace
