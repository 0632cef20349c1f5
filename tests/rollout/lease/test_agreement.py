"""Consistency of kernel, store and boot policy after restores and foreign modules, with real files and real semodule."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sepolicyd.kernel.boot_policy import BootPolicy
from sepolicyd.kernel.policy_image import parse_head, render_ebitmap
from sepolicyd.rollout.lease import lifecycle as leases
from sepolicyd.rollout.lease.end import end_due
from sepolicyd.settings import Settings
from tests.rollout.lease.cuts.machine import CutMachine, can_trace
from tests.rollout.lease.fakes import Machine
from tests.rollout.lease.test_cuts import COMMANDS, ONE_SHOT, bare
from tests.rollout.lease.test_lease import PROFILE, settings, start

__all__ = ["bare", "settings"]

real = pytest.mark.skipif(not can_trace(), reason="needs root, mount namespaces, gcc, semodule, and no SELinux of its own")
ETC = "root/etc/selinux"


@pytest.fixture
def leased(bare: CutMachine, tmp_path: Path) -> CutMachine:
    """A machine with an open lease, and a copy of its /etc from that time beside it."""
    machine = bare.copy(tmp_path / "machine")
    machine.open_lease(due=False, hidden=False)
    shutil.copytree(machine.place / ETC, tmp_path / "etc")
    shutil.copytree(machine.place / "fs", tmp_path / "fs")
    return machine


def ended(machine: CutMachine) -> None:
    code, said = machine.run(COMMANDS, "stop")
    assert (code, machine.left()) == (0, []), said


def restore(machine: CutMachine, kept: Path, name: str) -> None:
    shutil.rmtree(machine.place / name)
    shutil.copytree(kept, machine.place / name)


@real
@pytest.mark.toolchain
@pytest.mark.parametrize("state", ["kept", "gone"])
def test_etc_restored_without_var(leased: CutMachine, tmp_path: Path, state: str) -> None:
    """Without a state directory the one-shot knows by the files: the boot policy is the store's in all but one type."""
    ended(leased)
    restore(leased, tmp_path / "etc", ETC)
    if state == "gone":
        shutil.rmtree(leased.place / "state/rollout")
    leased.power_on()
    assert leased.kernel_open
    assert leased.starts("sepolicyd-boot.service")
    code, said = leased.run(ONE_SHOT)
    assert (code, leased.left()) == (0, []), said
    assert "svc_t" not in said or "left over from" in said
    assert leased.run(ONE_SHOT) == (0, "")


@real
@pytest.mark.toolchain
def test_memory_restored_from_the_time_of_a_lease(leased: CutMachine, tmp_path: Path) -> None:
    ended(leased)
    restore(leased, tmp_path / "fs", "fs")
    assert leased.kernel_open
    assert leased.starts("sepolicyd-lease.service")
    code, said = leased.run(ONE_SHOT)
    assert (code, leased.left()) == (0, []), said


@real
@pytest.mark.toolchain
def test_a_machine_that_never_had_a_lease_is_left_alone(bare: CutMachine, tmp_path: Path) -> None:
    """Its policy file was made by other tools than semodule, and has a permissive type."""
    machine = bare.copy(tmp_path / "machine")
    path = machine.boot_policy.newest()
    policy = path.read_bytes()
    head = parse_head(policy)
    opened = policy[: head.span[0]] + render_ebitmap({head.types["svc_t"]}) + policy[head.span[1] :] + b"other"
    path.write_bytes(opened)
    machine.power_on()
    assert not machine.starts("sepolicyd-lease.service")
    assert machine.run(ONE_SHOT) == (0, "")
    assert path.read_bytes() == opened
    assert machine.kernel_open


@real
@pytest.mark.toolchain
def test_a_type_that_the_administrator_made_permissive_stays_so_and_is_reported_once(
    leased: CutMachine, tmp_path: Path
) -> None:
    module = tmp_path / "permissive_svc_t.cil"
    module.write_text("(typepermissive svc_t)\n")
    subprocess.run(["/usr/sbin/semodule", *leased.store.argv("-X", "400", "-i", str(module))[1:]], check=True)
    code, said = leased.run(COMMANDS, "stop")
    assert (code, leased.opened_by_boot) == (0, True), said
    assert not list(leased.book.undo_dir.iterdir())
    leased.power_on()
    assert leased.run(ONE_SHOT) == (0, "")
    assert leased.kernel_open


@real
@pytest.mark.toolchain
def test_every_policy_file_that_a_boot_could_take_is_closed(leased: CutMachine) -> None:
    newest = leased.boot_policy.newest()
    shutil.copy(newest, newest.with_name("policy.31"))
    ended(leased)
    assert parse_head(newest.with_name("policy.31").read_bytes()).permissive == frozenset()


@real
@pytest.mark.toolchain
def test_without_semodule_the_policy_file_is_closed_and_the_record_kept(leased: CutMachine) -> None:
    (leased.tools / "semodule").write_text("#!/bin/sh\nexit 1\n")
    (leased.tools / "semodule").chmod(0o755)
    try:
        code, said = leased.run(COMMANDS, "stop")
        assert code != 0, said
        assert not leased.opened_by_boot
        assert not leased.kernel_open
        assert [path.name for path in leased.book.undo_dir.iterdir()] == ["hub.json"]
    finally:
        (leased.tools / "semodule").unlink()
    leased.power_on()
    assert not leased.kernel_open
    assert leased.run(ONE_SHOT)[0] == 0
    assert leased.left() == []


@real
@pytest.mark.toolchain
def test_only_previous_is_left_and_no_record(leased: CutMachine) -> None:
    leased.store.active.rename(leased.store.directory / "previous")
    shutil.rmtree(leased.place / "state/rollout")
    leased.power_on()
    code, said = leased.run(ONE_SHOT)
    assert (code, leased.left()) == (0, []), said


def test_the_file_keeps_its_mode(tmp_path: Path) -> None:
    found = sorted(Path("/etc/selinux").glob("*/policy/policy.[0-9]*"))
    if not found:
        pytest.skip("no policy on this machine")
    policy = found[-1].read_bytes()
    head = parse_head(policy)
    name = sorted(head.types)[0]
    path = tmp_path / "policy.33"
    path.write_bytes(policy[: head.span[0]] + render_ebitmap({head.types[name]}) + policy[head.span[1] :])
    path.chmod(0o644)
    boot = BootPolicy(tmp_path)
    assert boot.permissive_types() == {name}
    boot.close_types([name])
    assert boot.permissive_types() == frozenset()
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["policy.33"]


def resumed(machine: Machine, act: Callable[[], object]) -> None:
    """Do something, then put the kernel back to where it was before: memory is restored, the disk is not."""
    kept = (machine.enforcing, machine.loaded_permissive, machine.boottime, machine.loads, dict(machine.timers))
    act()
    machine.enforcing, machine.loaded_permissive, machine.boottime, machine.loads, machine.timers = kept


@pytest.mark.parametrize("whole", [False, True])
def test_memory_from_the_time_of_a_lease_is_closed_within_a_minute(settings: Settings, whole: bool) -> None:
    machine = Machine()
    start(machine, settings, whole_system=whole)
    machine.pass_time(10)

    def stop() -> None:
        machine.pass_time(100)
        leases.stop(settings, PROFILE, by="ada", world=machine.world())

    resumed(machine, stop)
    assert machine.open_types
    (found,) = end_due(machine.world())
    assert (found.closed, found.done) == (True, True)
    assert not machine.open_types
    assert "memory" in machine.shouts[-1]


def test_a_setenforce_of_the_administrator_after_a_lease_is_not_taken_for_restored_memory(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings, whole_system=True)
    leases.stop(settings, PROFILE, by="ada", world=machine.world())
    machine.pass_time(100)
    machine.enforcing = False
    assert end_due(machine.world()) == []
    assert not machine.enforcing


def test_a_boot_policy_that_cannot_be_repaired_keeps_the_record_and_is_reported(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings)
    machine.broken = frozenset({"boot.close_types", "semodule.install_policy"})
    machine.pass_time(600)
    (found, *_) = end_due(machine.world())
    assert (found.closed, found.done) == (True, False)
    assert machine.undo
    assert "boot policy" in machine.shouts[-1]
    machine.broken = frozenset()
    machine.reboot()
    assert all(item.done for item in end_due(machine.world()))
    assert not machine.open_types
    assert not machine.booted_permissive


def test_the_clock_of_a_guest_that_was_resumed_is_set(settings: Settings) -> None:
    """Disk and memory are both of the time of the lease; the wall clock is then set to the present."""
    machine = Machine()
    start(machine, settings)
    machine.wall += 86400
    (found,) = end_due(machine.world())
    assert found.done
