"""Ports of a lease: the shapes of kernel, module store, boot policy, timers, clock and alerts."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Optional, Protocol

from sepolicyd.kernel.journal import MessageId
from sepolicyd.rollout.clock import Moment
from sepolicyd.rollout.lease.lease import Lease
from sepolicyd.rollout.lease.lease_records import LeaseBook


class KernelControl(Protocol):
    """SELinux in the running kernel. Every method may raise ToolError."""

    def enabled(self) -> bool:
        """Tell whether the kernel runs SELinux."""
        ...

    def enforcing(self) -> bool:
        """Tell whether the kernel enforces."""
        ...

    def set_enforcing(self, on: bool) -> None:
        """Switch enforcing, and read it back."""
        ...

    def loads(self) -> int:
        """Return how many times a policy has been loaded since boot."""
        ...

    def permissive_types(self) -> frozenset[str]:
        """Return the permissive types of the loaded policy."""
        ...

    def known_types(self) -> frozenset[str]:
        """Return all types of the loaded policy."""
        ...

    def close_types(self, types: tuple[str, ...]) -> None:
        """Load the loaded policy again with these types enforcing; needs no store, no disk, no tool."""
        ...

    def keep_closed(self, types: tuple[str, ...]) -> AbstractContextManager[None]:
        """While the context is held, repeat :meth:`close_types` after each load of another policy. Raises nothing."""
        ...

    def refuses_loads(self) -> bool:
        """Tell whether secure_mode_policyload is on or about to be: no policy can be loaded then until a reboot."""
        ...


class ModuleStore(Protocol):
    """The machine's module store. Every method may raise ToolError."""

    def check(self, module: str, text: str) -> None:
        """Raise RefusedError unless the store is writable, free, with room, and still rebuilds with this module in it."""
        ...

    def open(self, lease: Lease, text: str) -> None:
        """Install the lease's module (none for an empty text) and switch dontaudit rules off if it is hidden."""
        ...

    def remove(self, module: str, priority: int) -> None:
        """Remove a module and load the result; a missing one is fine."""
        ...

    def remove_for_next_boot(self, module: str, priority: int) -> None:
        """Remove a module from the store alone, for a kernel that takes no policy."""
        ...

    def lease_modules(self) -> dict[str, int]:
        """Return every lease module in the store, with its priority."""
        ...

    def module_types(self, module: str) -> frozenset[str]:
        """Return the types that a lease module makes permissive, without running a tool."""
        ...

    def permissive_types(self) -> frozenset[str]:
        """Return the permissive types of the policy that the store built last."""
        ...

    def dontaudit_off(self) -> bool:
        """Tell whether the store is built without dontaudit rules."""
        ...

    def restore_dontaudit(self) -> None:
        """Rebuild the store with dontaudit rules, and load it."""
        ...

    def rebuild(self, *, load: bool = True) -> None:
        """Build the store's policy again, install it for the next boot, and load it unless ``load`` is false."""
        ...

    def reload(self) -> None:
        """Load the policy of the next boot once more (this flushes the kernel's access cache)."""
        ...


class BootPolicyControl(Protocol):
    """The policy that the next boot loads. Every method may raise ToolError."""

    def permissive_types(self) -> frozenset[str]:
        """Return the types that will be permissive after a boot."""
        ...

    def close_types(self, types: tuple[str, ...]) -> None:
        """Make these types enforcing at the next boot; needs no tool."""
        ...

    def matches_store(self) -> bool:
        """Tell whether it is the policy that the store built."""
        ...

    def is_store_but_permissive(self) -> bool:
        """Tell whether it is the policy that the store built, in everything but permissive types."""
        ...


class Timers(Protocol):
    """What ends a lease without a running sepolicyd. Every method may raise ToolError."""

    def problem(self) -> Optional[str]:
        """Return why nothing can be armed here, None if all is ready."""
        ...

    def arm(self, lease: Lease, seconds: float) -> None:
        """Start the lease's own timer."""
        ...

    def armed(self, lease: Lease) -> bool:
        """Tell whether the lease's own timer is active."""
        ...

    def disarm(self, lease: Lease) -> None:
        """Stop the lease's own timer; a missing one is fine."""
        ...

    def stop_services(self, units: tuple[str, ...]) -> None:
        """Stop units."""
        ...


class Clock(Protocol):
    """Time."""

    def now(self) -> Moment:
        """Return the present moment."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Alerts(Protocol):
    """Messages to a person. Neither method raises."""

    def critical(self, text: str, message: MessageId, command: tuple[str, ...] = (), *, profile: str = "") -> None:
        """Write to the journal at level critical, and run the hook command with the text as its last argument."""
        ...

    def notice(self, text: str, message: MessageId, *, profile: str = "") -> None:
        """Write to the journal at level notice."""
        ...


@dataclass(frozen=True)
class Environment:
    """The ports together. :func:`sepolicyd.rollout.lease.host.live_environment` makes those of this machine."""

    kernel: KernelControl
    store: ModuleStore
    boot: BootPolicyControl
    timers: Timers
    clock: Clock
    alerts: Alerts
    book: LeaseBook
