"""The ports through which a lease touches the machine: kernel, store, timers, clock, alerts; only their shapes stand here."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Optional, Protocol

from sepolicyd.rollout.clock import Moment
from sepolicyd.rollout.lease.book import LeaseBook
from sepolicyd.rollout.lease.lease import Lease


class KernelControl(Protocol):
    """SELinux as the running kernel has it. Every method may raise ToolError."""

    def enabled(self) -> bool: ...

    def enforcing(self) -> bool: ...

    def set_enforcing(self, on: bool) -> None: ...

    def loads(self) -> int:
        """How many times a policy has been loaded since boot."""
        ...

    def permissive_types(self) -> frozenset[str]: ...

    def known_types(self) -> frozenset[str]: ...

    def close_types(self, types: tuple[str, ...]) -> None:
        """Load the loaded policy once more with these types enforcing; needs no store, no disk, no tool."""
        ...

    def keep_closed(self, types: tuple[str, ...]) -> AbstractContextManager[None]:
        """While it is held, :meth:`close_types` again whenever another policy has been loaded. Raises nothing."""
        ...

    def refuses_loads(self) -> bool:
        """Whether the boolean secure_mode_policyload is on or about to be: no policy can be loaded then until a reboot."""
        ...


class ModuleStore(Protocol):
    """The machine's module store. Every method may raise ToolError."""

    def check(self, module: str, text: str) -> None:
        """Raise RefusedError unless the store is writable, free, with room, and still rebuilds with this module in it."""
        ...

    def open(self, lease: Lease, text: str) -> None:
        """One transaction: install the lease's module (none for an empty text) and switch dontaudit off if hidden."""
        ...

    def remove(self, module: str, priority: int) -> None:
        """Remove a module and load the rest; harmless when it is not there."""
        ...

    def lease_modules(self) -> dict[str, int]:
        """Every module of ours that opens something, with its priority."""
        ...

    def remove_for_next_boot(self, module: str, priority: int) -> None:
        """Remove a module from the store alone, where the kernel takes no policy."""
        ...

    def module_types(self, module: str) -> frozenset[str]:
        """The types that a module of ours in the store makes permissive, read without any tool."""
        ...

    def dontaudit_off(self) -> bool: ...

    def restore_dontaudit(self) -> None: ...

    def reload(self) -> None:
        """Load the store's present policy once more (this flushes the kernel's access cache)."""
        ...


class Timers(Protocol):
    """What ends a lease when we do not live. Every method may raise ToolError."""

    def problem(self) -> Optional[str]:
        """Why nothing can be armed here, None if all stands ready."""
        ...

    def arm(self, lease: Lease, seconds: float) -> None: ...

    def armed(self, lease: Lease) -> bool: ...

    def disarm(self, lease: Lease) -> None:
        """Harmless when it is not armed."""
        ...

    def stop_services(self, units: tuple[str, ...]) -> None: ...


class Clock(Protocol):
    def now(self) -> Moment: ...

    def sleep(self, seconds: float) -> None: ...


class Alerts(Protocol):
    def critical(self, text: str, command: tuple[str, ...] = ()) -> None:
        """Into the journal at level critical, and through the hook command; never raises."""
        ...

    def notice(self, text: str) -> None: ...


@dataclass(frozen=True)
class Environment:
    """The ports together; tests give fakes that keep state, :func:`sepolicyd.rollout.lease.host.machine` the real ones."""

    kernel: KernelControl
    store: ModuleStore
    timers: Timers
    clock: Clock
    alerts: Alerts
    book: LeaseBook
