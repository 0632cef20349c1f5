"""Leases and lost state, a full disk, a busy store, and a kernel that refuses policy loads."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from sepolicyd.cli.main import run_cli
from sepolicyd.errors import RefusedError, StateError, ToolError
from sepolicyd.rollout.lease import lifecycle as leases
from sepolicyd.rollout.lease import status
from sepolicyd.rollout.lease.end import end_due
from sepolicyd.rollout.lease.lease_records import LeaseBook
from sepolicyd.settings import Settings
from tests.rollout.lease.fakes import Machine
from tests.rollout.lease.test_lease import PROFILE, Confined, left_behind, refused, settings, start

__all__ = ["settings"]


@pytest.mark.parametrize("name", ["leases.jsonl", "leases.head"])
def test_a_history_that_cannot_be_written_keeps_nothing_open(settings: Settings, tmp_path: Path, name: str) -> None:
    """Reverting comes first: the chain is written after it, and whatever the disk says."""
    machine = Machine()
    world = replace(machine.world(), book=LeaseBook(tmp_path / "rollout"))
    leases.start(settings, PROFILE, 600, world=world, by="ada", policy=Confined())
    path = tmp_path / "rollout" / name
    path.unlink()
    path.mkdir()
    machine.pass_time(600)
    ended = end_due(replace(machine.world(), book=world.book))[0]
    assert ended.done
    assert any(name in error for error in ended.errors)
    assert not machine.open_types
    assert world.book.all() == []


def test_a_renewal_that_the_history_does_not_hold_is_none(settings: Settings) -> None:
    machine = Machine()
    old = start(machine, settings, 600)
    machine.broken = frozenset({"book.record"})
    with pytest.raises(ToolError):
        leases.renew(settings, PROFILE, 3600, world=machine.world())
    assert list(machine.timers) == [old.unit]
    assert machine.world().book.of("hub") == replace(old)


def test_a_lease_whose_state_directory_is_gone_is_ended_by_the_undo_in_its_timer(settings: Settings) -> None:
    machine = Machine()
    lease = start(machine, settings, 600, whole_system=True, hidden=True)
    machine.undo.clear()
    machine.history.clear()
    assert machine.timers[lease.unit].id == lease.id
    machine.pass_time(300)
    assert end_due(machine.world(), carried=lease) == []
    assert not machine.enforcing, "renewed leases leave their first timer behind when a command is killed"
    machine.pass_time(300)
    (ended,) = end_due(machine.world(), carried=lease)
    assert ended.done
    assert left_behind(machine) == []
    machine.enforcing = False  # by another hand, later
    assert end_due(machine.world(), carried=lease) == []
    assert not machine.enforcing


def test_a_disk_that_takes_no_lock_keeps_nothing_open(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings, whole_system=True)
    machine.broken = frozenset({"book.lock", "book.write", "book.record", "book.remove"})
    machine.pass_time(600)
    (ended, *_) = end_due(machine.world())
    assert ended.closed
    assert machine.enforcing


@pytest.mark.parametrize("whole", [False, True])
def test_a_kernel_that_takes_no_policy(settings: Settings, whole: bool) -> None:
    machine = Machine(secure_mode=True)
    assert "secure_mode_policyload" in refused(machine, settings, whole_system=whole)
    machine.secure_mode = False
    start(machine, settings, whole_system=whole)
    machine.secure_mode = True  # switched on in the middle
    assert any("secure_mode_policyload" in text for text in status.status(settings, PROFILE, world=machine.world()).problems)
    machine.pass_time(600)
    (ended,) = end_due(machine.world())
    if whole:  # a permissive kernel lets `setenforce 1` pass all the same
        assert (ended.closed, ended.done, machine.enforcing) == (True, True, True)
        return
    assert (ended.closed, ended.done) == (False, False)
    assert machine.stopped == ["hub.service"]
    assert "REBOOT NOW" in machine.shouts[-1]
    assert machine.modules == {}, "the next boot enforces"
    machine.reboot()
    assert not machine.open_types
    assert all(item.done for item in end_due(machine.world()))
    assert left_behind(machine) == []


def test_a_package_that_rebuilds_the_store_after_the_kernel_was_closed(settings: Settings) -> None:
    """The store could not be changed (locked), so that its next load opens the domain again: until the next minute."""
    machine = Machine()
    start(machine, settings)
    machine.pass_time(600)
    machine.broken = frozenset({"store.remove"})
    assert [item.closed for item in end_due(machine.world())] == [True]
    machine.rebuild()
    assert machine.open_types
    (ended,) = end_due(machine.world())
    assert (ended.closed, ended.seconds_to_closed) == (True, 0.0)
    assert not machine.open_types


def test_the_end_of_one_lease_does_not_open_another_that_could_not_be_removed(settings: Settings) -> None:
    """Removing one module loads the store, in which the other still stands."""
    machine = Machine(modules={"sepolicyd_lease_aaa": ("other_t",)})
    lease = start(machine, settings)
    machine.modules["sepolicyd_lease_aaa"] = ("other_t",)
    world = machine.world()
    world.book.write(replace(lease, profile="aaa", id="first", module="sepolicyd_lease_aaa", domains=("other_t",)))
    machine.rebuild()
    machine.pass_time(600)
    real = world.store.remove

    def remove(module: str, priority: int) -> None:
        if module == "sepolicyd_lease_aaa":
            raise ToolError("locked")
        real(module, priority)

    world.store.remove = remove  # type: ignore[method-assign]
    assert [(item.closed, item.done) for item in end_due(world)] == [(True, False), (True, True)]
    assert machine.modules == {"sepolicyd_lease_aaa": ("other_t",)}
    assert not machine.open_types


@pytest.mark.parametrize("undo", ["torn", "removed"])
def test_without_undo_and_without_semodule_the_kernel_is_closed(settings: Settings, undo: str) -> None:
    machine = Machine()
    start(machine, settings)
    machine.history.clear()
    machine.undo = {"hub": "{"} if undo == "torn" else {}
    machine.broken = frozenset({"store.remove"})
    assert not end_due(machine.world())[0].done
    assert not machine.open_types


def test_enforce_and_stop_close_the_kernel_before_they_wait(settings: Settings) -> None:
    for act in (leases.enforce, leases.stop):
        machine = Machine()
        start(machine, settings)
        machine.lock_held = True
        with pytest.raises(RefusedError, match="is enforcing in the kernel"):
            act(settings, PROFILE, by="ada", world=machine.world())
        assert not machine.open_types


def test_enforce_does_not_wait_for_the_list_of_what_is_pending(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings, whole_system=True)
    with pytest.raises(ZeroDivisionError):
        leases.enforce(settings, PROFILE, pending=lambda: 1 // 0, world=machine.world())
    assert left_behind(machine) == []


def test_without_selinux_enforce_says_so(settings: Settings) -> None:
    with pytest.raises(RefusedError, match="disabled"):
        leases.enforce(settings, PROFILE, world=Machine(enabled=False).world())


def test_a_disk_that_is_full_at_each_write_of_an_opening(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was written by then: nothing is open that no undo on the disk knows, and by the deadline nothing is."""
    real = os.write
    full_from, writes = 10**6, [0]

    def write(fd: int, data: bytes) -> int:
        writes[0] += 1
        if writes[0] >= full_from:
            if writes[0] == full_from and len(data) > 1:
                return real(fd, bytes(data[: len(data) // 2]))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    def play(number: int) -> tuple[Machine, LeaseBook, bool]:
        machine, book = Machine(), LeaseBook(tmp_path / str(number))
        world = replace(machine.world(), book=book)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            try:
                leases.start(settings, PROFILE, 600, whole_system=number % 2 == 0, world=world, by="ada", policy=Confined())
            except StateError:
                return machine, book, False
        return machine, book, True

    assert play(0)[2]
    total = writes[0]
    assert total >= 8
    for number in range(1, total + 1):
        full_from, writes[0] = number, 0
        machine, book, opened = play(number)
        assert not opened or number == total  # the last write is the head's second, and the lease stands without it
        assert opened or not machine.open_types or book.all(), number
        full_from = 10**6
        machine.pass_time(600)
        end_due(replace(machine.world(), book=book))
        assert left_behind(machine) == [], number
        assert book.all() == [], number
        assert book.verify() == [], number


def test_enforce_does_not_say_enforcing_where_a_domain_is_open(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine()
    start(machine, settings)
    machine.broken = frozenset({"store.remove", "kernel.close_types"})
    real = leases.enforce
    monkeypatch.setattr(leases, "enforce", lambda *words, **more: real(settings, PROFILE, by="ada", world=machine.world()))
    monkeypatch.setenv("SEPOLICYD_STATE", str(settings.state))
    assert run_cli(["enforce"]) == 3
    said = capsys.readouterr()
    assert "could NOT be ended" in said.out
    assert "NOT everything is enforced" in said.out
    assert "\nenforcing" not in said.out
    assert said.err.count("kernel.close_types is broken") == 1


def test_a_broken_undo_that_cannot_be_removed_is_not_done(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings)
    machine.undo["hub"] = "{"
    machine.broken = frozenset({"book.remove"})
    (ended,) = end_due(machine.world())
    assert (ended.closed, ended.done) == (True, False)
    assert "retried each minute" in machine.shouts[-1]
    machine.broken = frozenset()
    assert end_due(machine.world())[0].done
    machine.timers.clear()  # its own timer fires once more at the deadline, and finds nothing
    assert left_behind(machine) == []
