"""Property: one tick after the deadline, kernel, store and boot policy enforce, or a record remains that ends the lease later.

Faults: any call fails (before or after its effect), the process dies at any call or between semodule's renames, clocks jump,
the machine reboots, timers are stopped, the module or the lease record is removed, /etc is restored from the time of an ended
lease.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sepolicyd.errors import SepolicydError
from sepolicyd.rollout.lease import lifecycle as leases
from sepolicyd.rollout.lease.end import end_due
from sepolicyd.settings import Settings
from tests.rollout.lease.fakes import Killed, Machine
from tests.rollout.lease.test_lease import PROFILE, Confined

TICK_S = 60.0
BY_HAND = Settings(state=Path("/nonexistent"))


def try_start(machine: Machine, seconds: float = 600, *, whole: bool = False, hidden: bool = False) -> Optional[BaseException]:
    try:
        leases.start(
            BY_HAND, PROFILE, seconds, whole_system=whole, hidden=hidden, by="ada", world=machine.world(), policy=Confined()
        )
    except (SepolicydError, Killed) as error:
        return error
    return None


def tick(machine: Machine) -> None:
    """What systemd does once a minute, and when a transient timer fires: run the one-shot; it may die or fail."""
    for unit, lease in list(machine.timers.items()):
        if lease.is_due(machine.now):
            machine.restarting.append(machine.timers.pop(unit))
    for carried in [*machine.restarting, None]:
        with suppress(SepolicydError, Killed):
            if all(ended.done for ended in end_due(machine.world(), carried=carried)) and carried is not None:
                machine.restarting.remove(carried)
        machine.dead = False


def run_on(machine: Machine, seconds: float) -> None:
    """Let time pass with a tick each minute, faults over."""
    machine.fail_at = machine.kill_at = None
    machine.broken = frozenset()
    passed = 0.0
    while passed < seconds:
        machine.pass_time(TICK_S)
        passed += TICK_S
        tick(machine)


def calls_of_a_start(**options: bool) -> int:
    machine = Machine()
    assert try_start(machine, **options) is None
    return machine.calls


def calls_of_an_end(**options: bool) -> int:
    machine = Machine()
    try_start(machine, **options)
    machine.pass_time(600)
    before = machine.calls
    tick(machine)
    return machine.calls - before


KINDS = [{}, {"hidden": True}, {"whole": True}, {"whole": True, "hidden": True}]


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("how", ["fail_at", "kill_at"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_opening_interrupted_at_every_call(options: dict[str, bool], how: str, after: bool) -> None:
    total = calls_of_a_start(**options)
    assert total >= 6
    for number in range(1, total + 1):
        machine = Machine(**{how: number, how.replace("_at", "_after"): after})  # type: ignore[arg-type]
        outcome = try_start(machine, **options)
        if how == "fail_at" and outcome is not None:
            # it said that it failed, so nothing is open now (not only at the deadline), or the undo stands and works
            assert not machine.open_types or machine.undo, machine.trace
        assert machine.undo or not (machine.open_types or machine.modules or machine.orphan), (number, machine.trace)
        assert machine.undo or not machine.booted_permissive, (number, machine.trace)
        run_on(machine, 600 + TICK_S)
        assert_closed(machine, f"call {number} of {machine.trace}")


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("how", ["fail_at", "kill_at"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_ending_interrupted_at_every_call(options: dict[str, bool], how: str, after: bool) -> None:
    total = calls_of_an_end(**options)
    assert total >= 6
    for number in range(1, total + 1):
        machine = Machine()
        assert try_start(machine, **options) is None
        machine.pass_time(600)
        setattr(machine, how, machine.calls + number)
        setattr(machine, how.replace("_at", "_after"), after)
        tick(machine)
        assert machine.undo or not (machine.open_types or machine.modules or machine.booted_permissive), machine.trace
        run_on(machine, TICK_S)
        assert_closed(machine, f"call {number} of {machine.trace}")


@pytest.mark.parametrize("how", ["fail_at", "kill_at"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("command", ["renew", "tick"])
def test_the_repair_of_a_restored_disk_interrupted_at_every_call(how: str, after: bool, command: str) -> None:
    """/etc of a lease that is over comes back, and what closes it is cut off: no later tick finds a permissive type in it."""

    def restored() -> Machine:
        machine = Machine()
        assert try_start(machine) is None
        machine.pass_time(600)
        tick(machine)
        machine.booted_permissive, machine.boot_is_store = frozenset(json.loads(machine.history[0])["domains"]), False
        return machine

    def run(machine: Machine) -> None:
        if command == "tick":
            tick(machine)
        else:
            with suppress(SepolicydError, Killed):
                leases.renew(BY_HAND, PROFILE, 600, world=machine.world())
        machine.dead = False

    machine = restored()
    before = machine.calls
    run(machine)
    total = machine.calls - before
    assert "store.rebuild" in machine.trace[before:]
    for number in range(1, total + 1):
        machine = restored()
        setattr(machine, how, machine.calls + number)
        setattr(machine, how.replace("_at", "_after"), after)
        run(machine)
        run_on(machine, TICK_S)
        assert_closed(machine, f"call {number} of {machine.trace[before:]}")


def test_a_repair_that_never_succeeds_is_recorded_once() -> None:
    machine = Machine()
    assert try_start(machine) is None
    machine.pass_time(600)
    tick(machine)
    machine.booted_permissive, machine.boot_is_store = frozenset(json.loads(machine.history[0])["domains"]), False
    machine.broken = frozenset({"store.rebuild"})
    for _ in range(5):
        machine.pass_time(TICK_S)
        tick(machine)
    assert [json.loads(line)["what"] for line in machine.history].count("repairing") == 1
    run_on(machine, TICK_S)
    assert_closed(machine)
    assert json.loads(machine.history[-1])["what"] == "repaired"


def assert_closed(machine: Machine, note: str = "") -> None:
    """Nothing of a lease is left anywhere."""
    assert machine.enforcing, note
    assert not machine.open_types, note
    assert not machine.modules, note
    assert not machine.undo, note
    assert not machine.dontaudit_off, note
    assert not machine.booted_permissive - machine.foreign, note
    assert machine.boot_is_store, note
    assert machine.public is None, note


BREAKABLE = [
    *(
        "kernel.close_types",
        "kernel.permissive_types",
        "kernel.set_enforcing",
        "kernel.enforcing",
        "store.open",
        "store.remove",
    ),
    *("store.restore_dontaudit", "store.lease_modules", "timers.arm", "timers.armed", "timers.disarm", "timers.stop_services"),
    *("book.write", "book.record", "book.remove", "book.lock", "store.reload", "store.module_types"),
    *("boot.permissive_types", "boot.close_types", "store.permissive_types", "store.rebuild"),
]
# With one of these broken the kernel can still be closed by another way.
SURVIVABLE = [
    *("store.remove", "kernel.close_types", "store.restore_dontaudit", "store.lease_modules", "timers.disarm"),
    *("timers.stop_services", "book.write", "book.record", "book.remove", "book.lock", "book.publish"),
    *("boot.permissive_types", "boot.close_types", "store.permissive_types", "store.rebuild"),
]


@pytest.mark.parametrize("broken", SURVIVABLE)
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_one_tool_that_never_works_does_not_keep_it_open(broken: str, options: dict[str, bool]) -> None:
    machine = Machine()
    assert try_start(machine, **options) is None
    machine.broken = frozenset({broken})
    machine.pass_time(600)
    tick(machine)
    assert machine.enforcing
    assert not machine.open_types


class Promise(RuleBasedStateMachine):
    """Anything may happen; one tick after the deadline the model looks."""

    @initialize(whole=st.booleans(), hidden=st.booleans())
    def boot(self, whole: bool, hidden: bool) -> None:
        self.machine = Machine()
        self.options = {"whole": whole, "hidden": hidden}
        self.lost = self.restored = False
        self.deadline: Optional[float] = None  # boottime by which it must be over

    @rule(seconds=st.sampled_from([60, 300, 3600]), at=st.integers(0, 40), kill=st.booleans(), after=st.booleans())
    def start(self, seconds: int, at: int, kill: bool, after: bool) -> None:
        had = self._lease_id()
        self._arm_fault(at, kill, after)
        outcome = try_start(self.machine, seconds, **self.options)
        self._disarm_fault()
        if self._lease_id() != had:
            self.deadline = self.machine.boottime + seconds
        if outcome is None:
            assert self.machine.open_types

    @rule(seconds=st.sampled_from([30, 600]), at=st.integers(0, 20), kill=st.booleans(), after=st.booleans())
    def renew(self, seconds: int, at: int, kill: bool, after: bool) -> None:
        before = dict(self.machine.undo)
        self._arm_fault(at, kill, after)
        with suppress(SepolicydError, Killed):
            leases.renew(BY_HAND, PROFILE, seconds, world=self.machine.world())
        self._disarm_fault()
        if self.machine.undo != before and self.deadline is not None:
            self.deadline = max(self.deadline, self.machine.boottime + seconds)

    @rule(at=st.integers(0, 20), kill=st.booleans(), after=st.booleans())
    def stop(self, at: int, kill: bool, after: bool) -> None:
        self._arm_fault(at, kill, after)
        with suppress(SepolicydError, Killed):
            leases.stop(BY_HAND, PROFILE, by="ada", world=self.machine.world())
        self._disarm_fault()

    @rule(seconds=st.sampled_from([1.0, 30.0, 60.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.machine.pass_time(seconds)

    @rule(at=st.integers(0, 30), kill=st.booleans(), after=st.booleans())
    def one_shot(self, at: int, kill: bool, after: bool) -> None:
        self._arm_fault(at, kill, after)
        tick(self.machine)
        self._disarm_fault()

    @rule(jump=st.sampled_from([-1e6, -3600.0, 3600.0, 1e6]))
    def set_the_clock(self, jump: float) -> None:
        self.machine.wall += jump

    @rule()
    def reboot(self) -> None:
        self.machine.reboot()
        if self.deadline is not None:
            self.deadline = self.machine.boottime  # a reboot ends it
        if self.lost:  # the timer that knew of hidden denials is gone too; they are no opening, and doctor tells of them
            self.machine.dontaudit_off = False
        tick(self.machine)  # sepolicyd-boot.service, before any other service

    @rule(what=st.sampled_from(BREAKABLE))
    def something_breaks(self, what: str) -> None:
        self.machine.broken |= {what}

    @rule()
    def mend(self) -> None:
        self.machine.broken = frozenset()

    @precondition(lambda self: self.machine.timers and not self.lost)
    @rule()
    def state_directory_removed(self) -> None:
        """Undo and history are gone: the lease's own timer, which carries the undo, is all that knows of it."""
        self.machine.undo.clear()
        self.machine.history.clear()
        self.lost = True
        # hidden denials, which no module in the store tells of, wait for that timer
        self.deadline = max(lease.deadline_boottime for lease in self.machine.timers.values())

    @precondition(lambda self: not self.lost)  # with both gone nothing of ours is left
    @rule()
    def timers_stopped_by_hand(self) -> None:
        self.machine.timers.clear()

    @rule()
    def module_removed_by_hand(self) -> None:
        self.machine.modules.clear()
        self.machine.rebuild()

    @precondition(lambda self: self.machine.history and not self.lost)
    @rule()
    def etc_restored(self) -> None:
        """/etc comes back from the time of a lease, /var does not: the next boot is permissive, and the store is not."""
        entry = json.loads(self.machine.history[0])
        self.machine.booted_permissive |= frozenset(entry.get("domains", ()))
        self.machine.boot_is_store &= bool(self.machine.booted_permissive == self.machine.built_permissive)
        self.restored = True

    @rule()
    def another_rebuilds_the_store(self) -> None:
        self.machine.rebuild()

    @precondition(lambda self: "hub" in self.machine.undo)
    @rule(torn=st.booleans())
    def undo_lost(self, torn: bool) -> None:
        if torn:
            self.machine.undo["hub"] = '{"schema": 1'
        else:
            del self.machine.undo["hub"]
        self.deadline = self.machine.boottime

    @rule()
    def look_after_the_deadline(self) -> None:
        """Faults are mended, the deadline passes, one tick comes."""
        self.mend()
        if self.deadline is not None:
            self.machine.pass_time(max(0.0, self.deadline - self.machine.boottime))
        run_on(self.machine, TICK_S)
        assert_closed(self.machine)
        self.deadline = None
        self.lost = self.restored = False

    @invariant()
    def nothing_is_open_without_an_undo(self) -> None:
        """An opening that no undo file knows is only one that somebody made by removing the file; the next tick ends it."""
        if not hasattr(self, "machine") or self.deadline is None or self.lost or self.restored:
            return
        overdue = self.machine.boottime >= self.deadline
        opened = self.machine.open_types or self.machine.modules or self.machine.orphan or self.machine.booted_permissive
        assert not opened or self.machine.undo or overdue, self.machine.trace

    def _lease_id(self) -> str:
        lease = self.machine.world().book.of(PROFILE.name)
        return lease.id if lease else ""

    def _arm_fault(self, at: int, kill: bool, after: bool) -> None:
        """``at`` 0 is no fault."""
        number = self.machine.calls + at if at else None
        self.machine.kill_at, self.machine.fail_at = (number, None) if kill else (None, number)
        self.machine.kill_after = self.machine.fail_after = after

    def _disarm_fault(self) -> None:
        self.machine.kill_at = self.machine.fail_at = None
        self.machine.dead = False


TestPromise = Promise.TestCase
TestPromise.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
