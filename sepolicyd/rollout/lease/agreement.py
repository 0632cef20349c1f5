"""Consistency of kernel, store and boot policy after a lease: compare, repair from the store, compare again.

They can differ after an interrupted semodule (libsemanage swaps the store first and installs the policy file afterwards), after
a restore of /etc without /var, and after a restore of a virtual machine's memory without its disk. The store without lease
modules is authoritative: types made permissive by any other module are the administrator's choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sepolicyd.errors import SepolicydError
from sepolicyd.kernel.journal import MessageId
from sepolicyd.rollout.clock import Moment
from sepolicyd.rollout.lease.close_in_kernel import Ended, attempt, enforce, refuses_loads
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.lease import Lease
from sepolicyd.rollout.lease.lease_records import LeaseEvent

PAUSES_S = (0.0, 5.0, 15.0)
LEFT_OVER = "left over from an ended lease"
CLOCK_SLACK_S = 2.0


def boot_agrees(world: Environment, types: Iterable[str], errors: list[str]) -> bool:
    """Make the boot policy equal to the store's policy, with these types enforcing, and tell whether that succeeded.

    The caller has removed the lease's module from the store and holds the lease lock. The history records the repair before it
    begins: with the types enforcing the boot policy differs from the store's and shows nothing that a later tick could find.
    """
    names = tuple(types)
    if not differences(world, names):
        return True
    attempt(lambda: _record_repair(world, names), errors)
    for pause in PAUSES_S:
        if pause:
            world.clock.sleep(pause)
        attempt(lambda: world.boot.close_types(names), errors)
        attempt(lambda: world.store.rebuild(load=not refuses_loads(world)), errors)
        if not differences(world, names):
            attempt(lambda: world.book.record(LeaseEvent.REPAIRED, world.clock.now(), domains=list(names)), errors)
            return True
    errors += differences(world, names)
    return False


def differences(world: Environment, types: Iterable[str]) -> list[str]:
    """Return one sentence for each difference between the boot policy and the store's; an unreadable policy is a difference."""
    try:
        opened = sorted((world.boot.permissive_types() & frozenset(types)) - world.store.permissive_types())
        found = [f"{', '.join(opened)} is permissive in the boot policy"] if opened else []
        if not world.boot.matches_store():
            found.append("the boot policy differs from the policy that the store built")
    except (SepolicydError, OSError) as error:
        return [str(error)]
    return found


def foreign_types(world: Environment, types: Iterable[str]) -> list[str]:
    """Return those of the types that another module in the store makes permissive; [] if the store cannot be read."""
    try:
        return sorted(world.store.permissive_types() & frozenset(types))
    except (SepolicydError, OSError):
        return []


def end_leftovers(world: Environment) -> list[Ended]:
    """Make types enforcing that are still permissive after their lease has ended; the caller holds the lock.

    A type is left over if a lease in the history opened it, or if the boot policy differs from the store's in permissive types
    only. A repair that was interrupted is finished, although nothing is permissive any more.
    """
    errors: list[str] = []
    entries: list[dict[str, Any]] = []
    attempt(lambda: entries.extend(world.book.history()), errors)  # end_forgotten reports an unreadable history
    leases = [item for item in world.book.all() if isinstance(item, Lease)]
    current = {name for lease in leases for name in lease.domains}
    try:
        running, booted = world.kernel.permissive_types(), world.boot.permissive_types()
        extra = (running | booted) - current
        left = sorted(_left_over(world, extra, booted, entries) if extra else ())
        left = left or sorted(_cut_off_repair(world, entries) - current)
        switched = not any(lease.whole_system for lease in leases) and _memory_restored_open(world, entries)
    except (SepolicydError, OSError) as error:
        if not entries:
            return []  # without an earlier lease, this command ignores an unreadable policy
        world.alerts.critical(f"cannot determine whether an ended lease left types permissive: {error}", MessageId.LEASE_FAULT)
        return [Ended("", LEFT_OVER, False, False, (str(error),))]
    if not left and not switched:
        return []
    return [_close_leftovers(world, tuple(left), switched=switched)]


def _left_over(
    world: Environment, extra: frozenset[str], booted: frozenset[str], entries: Iterable[Mapping[str, Any]]
) -> frozenset[str]:
    extra -= world.store.permissive_types()
    known = frozenset(str(name) for entry in entries for name in domains_of(entry))
    if extra & booted - known and world.boot.is_store_but_permissive():
        return extra & (known | booted)
    return extra & known


def _record_repair(world: Environment, types: tuple[str, ...]) -> None:
    """Record that a repair begins, once for all attempts at it."""
    if _pending_repair(world.book.history()) != frozenset(types):
        world.book.record(LeaseEvent.REPAIRING, world.clock.now(), domains=list(types))


def _cut_off_repair(world: Environment, entries: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the types of the last repair in the history if it was not finished and the boot policy is not the store's."""
    types = _pending_repair(entries)
    return types if types and not world.boot.matches_store() else frozenset()


def _pending_repair(entries: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the types of the last repair if no later line says that it was finished."""
    types: frozenset[str] = frozenset()
    for entry in entries:
        event = LeaseEvent.of(entry)
        if event is LeaseEvent.REPAIRING:
            types = frozenset(domains_of(entry))
        elif event is LeaseEvent.REPAIRED:
            types = frozenset()
    return types


def _close_leftovers(world: Environment, types: tuple[str, ...], *, switched: bool) -> Ended:
    errors: list[str] = []
    closed = attempt(lambda: enforce(world), errors) if switched else True
    closed &= attempt(lambda: world.kernel.close_types(types), errors) if types else True
    with world.kernel.keep_closed(types):
        done = boot_agrees(world, types, errors) if types else True
    what = ", ".join(types) or "the whole machine"
    state = "enforcing again" if closed and done else f"not finished, retried each minute: {'; '.join(errors[-3:])}"
    text = f"{what} was permissive after its lease had ended (power failure, or a restored disk or memory image): {state}"
    world.alerts.critical(text, MessageId.LEASE_LEFT_OVER)
    return Ended("", LEFT_OVER, closed, closed and done, tuple(errors))


def _memory_restored_open(world: Environment, entries: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether the machine's memory was restored to a time at which a whole-system lease was open.

    CLOCK_BOOTTIME only moves forward within one boot, so a history line of this boot from the future proves such a restore.
    """
    if world.kernel.enforcing():
        return False
    now = world.clock.now()
    whole: set[object] = set()
    for entry in entries:
        event = LeaseEvent.of(entry)
        if event in {LeaseEvent.PLANNED, LeaseEvent.OPENED} and entry.get("whole_system"):
            whole.add(entry.get("id"))
        if event is LeaseEvent.ENDED and entry.get("id") in whole and _is_ahead(entry, now):
            return True
    return False


def _is_ahead(entry: Mapping[str, Any], now: Moment) -> bool:
    boottime = entry.get("boottime")
    same_boot = entry.get("boot_id") == now.boot_id
    return same_boot and isinstance(boottime, (int, float)) and boottime > now.boottime + CLOCK_SLACK_S


def domains_of(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the permissive types that a line of the history names."""
    names = entry.get("domains", ())
    return tuple(str(name) for name in names) if isinstance(names, (list, tuple)) else ()
