"""The fast part of ending a lease: close it in the running kernel and in the boot policy, without semodule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sepolicyd.errors import SepolicydError
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.lease import Lease


@dataclass(frozen=True)
class Ended:
    """The result of an attempt to end one lease."""

    profile: str
    why: str
    closed: bool
    """The kernel enforces the lease's domains."""
    done: bool
    """Kernel, store and the next boot's policy agree that nothing of the lease is left."""
    errors: tuple[str, ...] = ()
    """What failed on the way, in order."""
    seconds_to_closed: float = 0.0
    seconds: float = 0.0


def attempt(act: Callable[[], object], errors: list[str]) -> bool:
    """Run one step and tell whether it succeeded. A failure is added to ``errors`` and does not prevent the next step."""
    try:
        act()
    except SepolicydError as error:
        errors.append(str(error))
        return False
    except Exception as error:  # noqa: BLE001 a bug in one step must not prevent the next step
        errors.append(f"{type(error).__name__}: {error}")
        return False
    return True


def close_now(world: Environment, lease: Lease, errors: list[str]) -> None:
    """Close a lease in the kernel, then in the boot policy, so that the machine boots enforcing after a power failure.

    Errors of the second step are ignored here: the store's policy replaces that file later, and a failure is reported then.
    """
    close_in_kernel(world, lease, errors)
    if lease.domains:
        attempt(lambda: world.boot.close_types(lease.domains), [])


def close_in_kernel(world: Environment, lease: Lease, errors: list[str]) -> None:
    """Make the lease's domains enforcing in the loaded policy, and switch enforcing on in the boot of the lease."""
    if lease.domains:
        attempt(lambda: world.kernel.close_types(lease.domains), errors)
    if this_boot(world, lease):
        attempt(lambda: enforce(world), errors)


def enforce(world: Environment) -> None:
    """Switch enforcing on. Every lease begins on an enforcing machine, so the machine enforces at its end in any case."""
    if not world.kernel.enforcing():
        world.kernel.set_enforcing(True)


def this_boot(world: Environment, lease: Lease) -> bool:
    """Tell whether the lease was opened in this boot. After a reboot, /etc/selinux/config determines the mode."""
    return world.clock.now().boot_id == lease.opened.boot_id


def is_closed(world: Environment, lease: Lease, errors: list[str]) -> bool:
    """Tell whether the kernel enforces the lease's domains; an error counts as no."""
    try:
        still = sorted(world.kernel.permissive_types() & frozenset(lease.domains))
        enforcing = world.kernel.enforcing() or not this_boot(world, lease)
    except (SepolicydError, OSError) as error:
        errors.append(str(error))
        return False
    if still:
        errors.append(f"{', '.join(still)} is permissive in the loaded policy")
    if not enforcing:
        errors.append("the kernel is not enforcing")
    return not still and enforcing


def refuses_loads(world: Environment) -> bool:
    """Tell whether the kernel refuses policy loads until a reboot (secure_mode_policyload); an error counts as no."""
    try:
        return world.kernel.refuses_loads()
    except (SepolicydError, OSError):
        return False
