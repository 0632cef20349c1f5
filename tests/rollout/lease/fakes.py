"""A machine in memory: kernel, store, systemd and clocks with state, which fail or die at a chosen call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from sepolicyd.errors import RefusedError, StateError, ToolError
from sepolicyd.kernel.journal import MessageId
from sepolicyd.rollout.clock import Moment
from sepolicyd.rollout.lease.environment import (
    Alerts,
    BootPolicyControl,
    Clock,
    Environment,
    KernelControl,
    ModuleStore,
    Timers,
)
from sepolicyd.rollout.lease.lease import CorruptLease, Lease, parse_lease, render_lease
from sepolicyd.rollout.lease.lease_records import LeaseBook, LeaseEvent
from sepolicyd.rollout.lease.public_record import public_document

SEMODULE_S = 5.0


class Killed(BaseException):
    """kill -9: nothing of the process runs on, no `except Exception`, and no `finally` reaches the world."""


@dataclass
class Machine:
    """The state that outlives our processes."""

    wall: float = 1_800_000_000.0
    boottime: float = 1000.0
    boot: int = 1
    enabled: bool = True
    enforcing: bool = True
    config_enforcing: bool = True
    known: frozenset[str] = frozenset({"hub_t", "proxy_t", "init_t", "other_t"})
    # the store: module name -> types; and what the kernel has loaded of it
    modules: dict[str, tuple[str, ...]] = field(default_factory=dict)
    loaded_permissive: frozenset[str] = frozenset()
    # the policy file that the next boot loads, and what the store's own policy makes permissive by other modules
    booted_permissive: frozenset[str] = frozenset()
    boot_is_store: bool = True
    foreign: frozenset[str] = frozenset()
    dontaudit_off: bool = False
    loads: int = 1
    # systemd
    timers: dict[str, Lease] = field(default_factory=dict)  # unit -> the lease that its command line carries
    restarting: list[Lease] = field(default_factory=list)  # ... whose one-shot failed: Restart=on-failure
    stopped: list[str] = field(default_factory=list)
    timer_problem: Optional[str] = None
    store_problem: Optional[str] = None
    # the disk: the undo files and the history
    undo: dict[str, str] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    shouts: list[str] = field(default_factory=list)
    notices: list[tuple[MessageId, str]] = field(default_factory=list)
    public: Optional[dict[str, Any]] = None  # what /run/sepolicyd/lease.json holds, None without the file
    secure_mode: bool = False
    watched: frozenset[str] = frozenset()  # closed again at once, whoever loads
    # a semodule whose parent was killed: it goes on and installs later
    orphan: Optional[tuple[float, Lease, str]] = None
    # faults
    broken: frozenset[str] = frozenset()  # "port.method" that fails until mended
    fail_at: Optional[int] = None  # the n-th effect call raises ToolError
    fail_after: bool = False  # ... after its effect
    kill_at: Optional[int] = None
    kill_after: bool = False
    calls: int = 0
    trace: list[str] = field(default_factory=list)
    dead: bool = False
    lock_held: bool = False

    @property
    def now(self) -> Moment:
        return Moment(self.wall, self.boottime, f"boot-{self.boot}")

    @property
    def open_types(self) -> frozenset[str]:
        """Types that may do anything now."""
        return self.known if not self.enforcing else self.loaded_permissive

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.boottime += seconds
        if self.orphan and self.boottime >= self.orphan[0]:
            _, lease, text = self.orphan
            self.orphan = None
            self.install(lease, text)

    def install(self, lease: Lease, text: str) -> None:
        if text:
            self.modules[lease.module] = lease.domains
        if lease.hidden:
            self.dontaudit_off = True
        self.put_in_place()
        self.load()

    @property
    def built_permissive(self) -> frozenset[str]:
        """What the policy that the store builds makes permissive."""
        return self.foreign | {name for types in self.modules.values() for name in types}

    def put_in_place(self) -> None:
        """libsemanage swaps the store first and installs the policy file for the next boot afterwards."""
        self.booted_permissive = self.built_permissive
        self.boot_is_store = True

    def rebuild(self) -> None:
        """Another's `semodule -B`."""
        self.put_in_place()
        self.load()

    def load(self) -> None:
        if self.secure_mode and self.enforcing:  # a permissive kernel lets everything pass, this too
            raise ToolError("load_policy: Permission denied")
        self.loaded_permissive = self.booted_permissive - self.watched
        self.loads += 1

    def reboot(self, seconds: float = 30.0) -> None:
        """Transient timers and processes are gone, the store and the disk are not."""
        self.pass_time(seconds)
        self.boot += 1
        self.boottime = seconds
        self.timers.clear()
        self.restarting.clear()
        self.orphan = None
        self.secure_mode = False
        self.dead = False
        self.enforcing = self.config_enforcing
        self.loaded_permissive = self.booted_permissive
        self.public = None  # /run is in memory
        self.loads = 1

    def world(self) -> Environment:
        """A new process of ours."""
        self.dead = False
        return Environment(
            FakeKernel(self),
            FakeStore(self),
            FakeBoot(self),
            FakeTimers(self),
            FakeClock(self),
            FakeVoice(self),
            FakeBook(self),
        )

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        """One effect: it may fail or be the last, before or after it happened."""
        if self.dead:
            raise Killed(name)
        self.calls += 1
        self.trace.append(name)
        number = self.calls
        if name in self.broken:
            raise ToolError(f"{name} is broken", "mend it")
        if self.kill_at == number and not self.kill_after:
            self.dead = True
            raise Killed(name)
        if self.fail_at == number and not self.fail_after:
            raise _failure(name)
        yield
        if self.kill_at == number:
            self.dead = True
            raise Killed(name)
        if self.fail_at == number:
            raise _failure(name)


def _failure(name: str) -> Exception:
    return StateError(f"{name}: No space left on device") if name.startswith("book") else ToolError(f"{name} failed")


@dataclass
class Port:
    m: Machine


class FakeKernel(Port):
    def enabled(self) -> bool:
        return self.m.enabled

    def enforcing(self) -> bool:
        with self.m.call("kernel.enforcing"):
            return self.m.enforcing

    def set_enforcing(self, on: bool) -> None:
        with self.m.call("kernel.set_enforcing"):
            self.m.enforcing = on

    def loads(self) -> int:
        return self.m.loads

    def permissive_types(self) -> frozenset[str]:
        with self.m.call("kernel.permissive_types"):
            return self.m.loaded_permissive

    def known_types(self) -> frozenset[str]:
        return self.m.known

    def close_types(self, types: tuple[str, ...]) -> None:
        with self.m.call("kernel.close_types"):
            if self.m.secure_mode and self.m.enforcing and frozenset(types) & self.m.loaded_permissive:
                raise ToolError("load: Permission denied")
            self.m.loaded_permissive -= frozenset(types)
            self.m.loads += 1

    @contextmanager
    def keep_closed(self, types: tuple[str, ...]) -> Iterator[None]:
        self.m.watched = frozenset(types)
        try:
            yield
        finally:
            self.m.watched = frozenset()

    def refuses_loads(self) -> bool:
        return self.m.secure_mode


class FakeStore(Port):
    def check(self, module: str, text: str) -> None:
        if self.m.store_problem:
            raise RefusedError(self.m.store_problem)

    def open(self, lease: Lease, text: str) -> None:
        if self.m.kill_at == self.m.calls + 1 and not self.m.kill_after:
            self.m.orphan = (self.m.boottime + SEMODULE_S, lease, text)  # killed while semodule ran: it goes on
        with self.m.call("store.open"):
            self.m.pass_time(SEMODULE_S)
            self.m.install(lease, text)

    def remove(self, module: str, priority: int) -> None:
        with self.m.call("store.remove"):
            if self.m.orphan:  # the real one waits for a semodule that installs this module
                self.m.pass_time(SEMODULE_S)
            if module not in self.m.modules:
                return
            self.m.pass_time(SEMODULE_S)
            with self.m.call("semodule.swap_store"):
                types = self.m.modules.pop(module)
                self.m.boot_is_store = False
            with self.m.call("semodule.install_policy"):
                self.m.put_in_place()
            try:
                self.m.load()
            except ToolError:
                self.m.modules[module] = types  # libsemanage puts the old store back
                self.m.boot_is_store = False
                raise

    def remove_for_next_boot(self, module: str, priority: int) -> None:
        with self.m.call("store.remove_for_next_boot"):
            self.m.modules.pop(module, None)
            self.m.boot_is_store = False
        with self.m.call("semodule.install_policy"):
            self.m.put_in_place()

    def module_types(self, module: str) -> frozenset[str]:
        with self.m.call("store.module_types"):
            return frozenset(self.m.modules.get(module, ()))

    def lease_modules(self) -> dict[str, int]:
        with self.m.call("store.lease_modules"):
            return {name: 360 for name in self.m.modules if name.startswith("sepolicyd_lease_")}

    def permissive_types(self) -> frozenset[str]:
        with self.m.call("store.permissive_types"):
            return self.m.built_permissive

    def dontaudit_off(self) -> bool:
        return self.m.dontaudit_off

    def restore_dontaudit(self) -> None:
        with self.m.call("store.restore_dontaudit"):
            self.m.pass_time(SEMODULE_S)
            self.m.dontaudit_off = False
            self.m.boot_is_store = False
        with self.m.call("semodule.install_policy"):
            self.m.put_in_place()
            self.m.load()

    def rebuild(self, *, load: bool = True) -> None:
        with self.m.call("store.rebuild"):
            self.m.pass_time(SEMODULE_S)
        with self.m.call("semodule.install_policy"):
            self.m.put_in_place()
            if load:
                self.m.load()

    def reload(self) -> None:
        with self.m.call("store.reload"):
            self.m.load()


class FakeBoot(Port):
    def permissive_types(self) -> frozenset[str]:
        with self.m.call("boot.permissive_types"):
            return self.m.booted_permissive

    def close_types(self, types: tuple[str, ...]) -> None:
        with self.m.call("boot.close_types"):
            self.m.boot_is_store &= not self.m.booted_permissive & frozenset(types)
            self.m.booted_permissive -= frozenset(types)

    def matches_store(self) -> bool:
        return self.m.boot_is_store and self.m.booted_permissive == self.m.built_permissive

    def is_store_but_permissive(self) -> bool:
        return self.m.boot_is_store


class FakeTimers(Port):
    def problem(self) -> Optional[str]:
        return self.m.timer_problem

    def arm(self, lease: Lease, seconds: float) -> None:
        with self.m.call("timers.arm"):
            self.m.timers[lease.unit] = lease

    def armed(self, lease: Lease) -> bool:
        with self.m.call("timers.armed"):
            return lease.unit in self.m.timers

    def disarm(self, lease: Lease) -> None:
        with self.m.call("timers.disarm"):
            self.m.timers.pop(lease.unit, None)

    def stop_services(self, units: tuple[str, ...]) -> None:
        with self.m.call("timers.stop_services"):
            self.m.stopped += units


class FakeClock(Port):
    def now(self) -> Moment:
        if self.m.dead:
            raise Killed("clock")
        return self.m.now

    def sleep(self, seconds: float) -> None:
        self.m.pass_time(seconds)


class FakeVoice(Port):
    def critical(self, text: str, message: MessageId, command: tuple[str, ...] = (), *, profile: str = "") -> None:
        if not self.m.dead:
            self.m.shouts.append(text)

    def notice(self, text: str, message: MessageId, *, profile: str = "") -> None:
        if not self.m.dead:
            self.m.notices.append((message, text))


class FakeBook(LeaseBook):
    """The disk in memory; rename and fsync make a write all or nothing, so a killed one leaves the old or the new."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(Path("/nonexistent"))
        self.m = machine

    def write(self, lease: Lease) -> None:
        with self.m.call("book.write"):
            self.m.undo[lease.profile] = render_lease(lease)

    def remove(self, profile: str) -> None:
        with self.m.call("book.remove"):
            self.m.undo.pop(profile, None)

    def remove_path(self, path: Path) -> None:
        self.remove(path.stem)

    def publish(self) -> None:
        with self.m.call("book.publish"):
            items = self.all()
            self.m.public = public_document(items) if items else None

    def all(self) -> list[Lease | CorruptLease]:
        found: list[Lease | CorruptLease] = []
        for name, text in sorted(self.m.undo.items()):
            try:
                found.append(parse_lease(text))
            except ValueError as error:
                found.append(CorruptLease(Path(f"{name}.json"), str(error)))
        return found

    def record(self, what: LeaseEvent, now: Moment, **details: Any) -> None:
        with self.m.call("book.record"):
            self.m.history.append(
                json.dumps({"what": what, "wall": now.wall, "boottime": now.boottime, "boot_id": now.boot_id, **details})
            )

    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.m.history]

    @contextmanager
    def lock(self, wait: float) -> Iterator[None]:
        if self.m.dead:
            raise Killed("lock")
        if "book.lock" in self.m.broken:
            raise StateError("/var/lib/sepolicyd/rollout cannot be written: Read-only file system")
        if self.m.lock_held:
            self.m.pass_time(wait)
            raise RefusedError("another sepolicyd command is opening or ending a lease")
        yield


def conforms(machine: Machine) -> tuple[KernelControl, ModuleStore, BootPolicyControl, Timers, Clock, Alerts]:
    """mypy checks here that the fakes have the shape of the ports."""
    return (
        *(FakeKernel(machine), FakeStore(machine), FakeBoot(machine)),
        *(FakeTimers(machine), FakeClock(machine), FakeVoice(machine)),
    )


__all__ = ["Killed", "Machine", "conforms", "replace"]
