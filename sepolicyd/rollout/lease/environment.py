"""Interfaces (protocols) through which a lease uses kernel, module store, boot policy, timers, clock and alerts."""

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
        """Reload the loaded policy with these types enforcing; needs neither store, disk nor tools."""
        ...

    def keep_closed(self, types: tuple[str, ...]) -> AbstractContextManager[None]:
        """Repeat :meth:`close_types` after each policy load while the context is held. Raises nothing."""
        ...

    def refuses_loads(self) -> bool:
        """Tell whether secure_mode_policyload is on or pending, which blocks policy loads until a reboot."""
        ...


class ModuleStore(Protocol):
    """The machine's module store. Every method may raise ToolError."""

    def check(self, module: str, text: str) -> None:
        """Check that the store is writable and unlocked, has room, and still rebuilds with this module in it.

        :raises RefusedError: it is not
        """
        ...

    def open(self, lease: Lease, text: str) -> None:
        """Install the lease's module (none if ``text`` is empty) and disable dontaudit rules for a hidden lease."""
        ...

    def remove(self, module: str, priority: int) -> None:
        """Remove a module and load the result; a missing module is not an error."""
        ...

    def remove_for_next_boot(self, module: str, priority: int) -> None:
        """Remove a module from the store without loading the result, for a kernel that refuses policy loads."""
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
        """Rebuild the store's policy, install it as the boot policy, and load it unless ``load`` is false."""
        ...

    def reload(self) -> None:
        """Reload the boot policy, which flushes the kernel's access vector cache."""
        ...


class BootPolicyControl(Protocol):
    """The boot policy: the policy file that the next boot loads. Every method may raise ToolError."""

    def permissive_types(self) -> frozenset[str]:
        """Return the types that are permissive after a boot."""
        ...

    def close_types(self, types: tuple[str, ...]) -> None:
        """Make these types enforcing in the boot policy; needs no tools."""
        ...

    def matches_store(self) -> bool:
        """Tell whether the boot policy is the policy that the store built."""
        ...

    def is_store_but_permissive(self) -> bool:
        """Tell whether the boot policy differs from the store's in permissive types only."""
        ...


class Timers(Protocol):
    """The timers that end a lease without a running sepolicyd. Every method may raise ToolError."""

    def problem(self) -> Optional[str]:
        """Return the reason why no timer can be armed, None if there is none."""
        ...

    def arm(self, lease: Lease, seconds: float) -> None:
        """Start the lease's own timer."""
        ...

    def armed(self, lease: Lease) -> bool:
        """Tell whether the lease's own timer is active."""
        ...

    def disarm(self, lease: Lease) -> None:
        """Stop the lease's own timer; a missing timer is not an error."""
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
    """Messages to the administrator. Neither method raises."""

    def critical(self, text: str, message: MessageId, command: tuple[str, ...] = (), *, profile: str = "") -> None:
        """Write to the journal at level critical, and run the hook command with the text as its last argument."""
        ...

    def notice(self, text: str, message: MessageId, *, profile: str = "") -> None:
        """Write to the journal at level notice."""
        ...


@dataclass(frozen=True)
class Environment:
    """All interfaces together. :func:`sepolicyd.rollout.lease.host.live_environment` returns those of this machine."""

    kernel: KernelControl
    store: ModuleStore
    boot: BootPolicyControl
    timers: Timers
    clock: Clock
    alerts: Alerts
    book: LeaseBook
