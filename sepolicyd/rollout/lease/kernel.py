"""A lease in, its domains enforced in the running kernel out: the quick acts that need no store, no disk and no tool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sepolicyd.errors import SepolicydError
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.lease import Lease


@dataclass(frozen=True)
class Ended:
    """What came of ending one lease. ``closed``: the kernel enforces its domains. ``done``: and nothing of it is left anywhere.

    ``errors``: what failed on the way, in order. ``seconds``: how long until the kernel enforced, and until all was done.
    """

    profile: str
    why: str
    closed: bool
    done: bool
    errors: tuple[str, ...] = ()
    seconds_to_closed: float = 0.0
    seconds: float = 0.0


def attempt(act: Callable[[], object], errors: list[str]) -> bool:
    """Whether one act succeeded; its failure is noted and keeps no other act from being done."""
    try:
        act()
    except SepolicydError as error:
        errors.append(str(error))
        return False
    except Exception as error:  # noqa: BLE001 a fault of our own in one act must not keep the next act from being done
        errors.append(f"{type(error).__name__}: {error}")
        return False
    return True


def close_in_kernel(world: Environment, lease: Lease, errors: list[str]) -> None:
    if lease.domains:
        attempt(lambda: world.kernel.close_types(lease.domains), errors)
    if this_boot(world, lease):
        attempt(lambda: enforce(world), errors)


def enforce(world: Environment) -> None:
    """Every lease began on an enforcing machine, so whoever switched it off since: by the deadline it enforces."""
    if not world.kernel.enforcing():
        world.kernel.set_enforcing(True)


def this_boot(world: Environment, lease: Lease) -> bool:
    """After a reboot /etc/selinux/config has decided on enforcing, and that is the administrator's."""
    return world.clock.now().boot_id == lease.opened.boot_id


def is_closed(world: Environment, lease: Lease, errors: list[str]) -> bool:
    """What the kernel itself says; unreadable means not closed."""
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
    """Whether the kernel takes no other policy until a reboot (secure_mode_policyload); what cannot be told is no."""
    try:
        return world.kernel.refuses_loads()
    except (SepolicydError, OSError):
        return False
