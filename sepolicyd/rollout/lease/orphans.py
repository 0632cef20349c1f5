"""End openings without a usable lease record (damaged or removed). The caller holds the lock.

The kernel is closed first. The types to close are collected from the lease modules in the store (their files, without
semodule), from the readable lease records, and from the history.
"""

from __future__ import annotations

from typing import Optional

from sepolicyd.kernel.journal import MessageId
from sepolicyd.rollout.lease.agreement import boot_agrees, domains_of
from sepolicyd.rollout.lease.close_in_kernel import Ended, attempt, enforce
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.lease import MODULE_PREFIX, CorruptLease, Lease
from sepolicyd.rollout.lease.lease_records import LeaseEvent, unended

NO_RECORD = "no lease record"


def end_broken(world: Environment, broken: CorruptLease) -> Ended:
    """End a lease with an unreadable record: remove every lease module, switch enforcing on, then remove the record."""
    errors: list[str] = []
    closed, done = _end_everything(world, errors)
    text = f"{broken.path} is not a valid lease record ({broken.reason}): every lease is ended"
    if done:
        why = "damaged record"
        attempt(
            lambda: world.book.record(LeaseEvent.ENDED, world.clock.now(), id="", profile=broken.path.stem, why=why), errors
        )
        done = attempt(lambda: world.book.remove_path(broken.path), errors)
    attempt(world.book.publish, [])
    if not done:
        text += f"; not finished, retried each minute: {'; '.join(errors)}"
    world.alerts.critical(text, MessageId.LEASE_RECORD_DAMAGED, profile=broken.path.stem)
    return Ended(broken.path.stem, "damaged record", closed, done, tuple(errors))


def last_resort(world: Environment, reason: str) -> Ended:
    """Close everything that a lease may have opened, after an unexpected error in the program that ends leases."""
    errors = [reason]
    closed, _ = _end_everything(world, errors)
    state = "the machine enforces" if closed else "TYPES MAY STILL BE PERMISSIVE (run: setenforce 1; see: semodule -lfull)"
    text = f"ending leases failed ({'; '.join(errors)}); {state}"
    attempt(lambda: world.alerts.critical(text, MessageId.LEASE_FAULT), errors)
    return Ended("", "last resort", closed, False, tuple(errors))  # never done: the records are kept and systemd retries


def end_orphans(world: Environment) -> list[Ended]:
    """Remove lease modules whose lease record was removed."""
    known = {item.module for item in world.book.all() if isinstance(item, Lease)}
    errors: list[str] = []
    modules: dict[str, int] = {}
    if not attempt(lambda: modules.update(world.store.lease_modules()), errors):
        world.alerts.critical(f"lease modules cannot be listed: {'; '.join(errors)}", MessageId.LEASE_FAULT)
        return [Ended("", NO_RECORD, False, False, tuple(errors))]
    return [_end_orphan(world, name, priority) for name, priority in modules.items() if name not in known]


def _end_orphan(world: Environment, name: str, priority: int) -> Ended:
    errors: list[str] = []
    types: list[str] = []
    attempt(lambda: types.extend(sorted(world.store.module_types(name))), errors)
    closed = attempt(lambda: _close_types(world, tuple(types)), errors)
    done = attempt(lambda: world.store.remove(name, priority), errors) and boot_agrees(world, types, errors)
    state = "was removed" if done else f"could not be removed, retried each minute: {'; '.join(errors)}"
    world.alerts.critical(f"module {name} had no lease record and {state}", MessageId.LEASE_LEFT_OVER)
    return Ended(name[len(MODULE_PREFIX) :], NO_RECORD, closed or done, done, tuple(errors))


def end_forgotten(world: Environment) -> list[Ended]:
    """End leases that are open in the history and have no lease record."""
    known = {item.id for item in world.book.all() if isinstance(item, Lease)}
    problems: list[str] = []
    history: list[dict[str, object]] = []
    if not attempt(lambda: history.extend(world.book.history()), problems):
        text = f"cannot determine whether a lease without a record is open: {'; '.join(problems)}"
        world.alerts.critical(text, MessageId.LEASE_FAULT)
        return [Ended("", NO_RECORD, False, False, tuple(problems))]
    found = [_end_forgotten(world, entry) for entry in unended(history) if entry["id"] not in known]
    return [ended for ended in found if ended is not None]


def _end_forgotten(world: Environment, entry: dict[str, object]) -> Optional[Ended]:
    """End one such lease; None if nothing had to be reverted (its module, if any, was removed by :func:`end_orphans`)."""
    errors: list[str] = []
    now = world.clock.now()
    profile = str(entry.get("profile", ""))
    domains = domains_of(entry)
    closed = attempt(lambda: _close_types(world, domains), errors)
    if entry.get("whole_system") and entry.get("boot_id") == now.boot_id:
        closed &= attempt(lambda: enforce(world), errors)
    done = closed
    if entry.get("hidden") and world.store.dontaudit_off():
        done &= attempt(world.store.restore_dontaudit, errors)
    done &= boot_agrees(world, domains, errors)
    if done:
        details = {"id": entry["id"], "profile": profile, "why": NO_RECORD}
        done = attempt(lambda: world.book.record(LeaseEvent.ENDED, now, **details), errors)
    if done and not (entry.get("whole_system") or entry.get("hidden")):
        return None
    state = "its changes have been reverted" if done else "; ".join(errors)
    text = f"the record of a lease of {profile} is missing: {state}"
    world.alerts.critical(text, MessageId.LEASE_LEFT_OVER, profile=profile)
    return Ended(profile, NO_RECORD, closed, done, tuple(errors))


def _end_everything(world: Environment, errors: list[str]) -> tuple[bool, bool]:
    """Close everything that a lease may have opened.

    :return: whether the kernel enforces, and whether store and boot policy are free of lease modules and opened types
    """
    modules: dict[str, int] = {}
    closed = attempt(lambda: enforce(world), errors)
    listed = attempt(lambda: modules.update(world.store.lease_modules()), errors)
    types: set[str] = {name for item in world.book.all() if isinstance(item, Lease) for name in item.domains}
    attempt(lambda: types.update(name for entry in unended(world.book.history()) for name in domains_of(entry)), errors)
    for name in modules:
        closed &= attempt(lambda name=name: types.update(world.store.module_types(name)), errors)  # type: ignore[misc]
    closed &= attempt(lambda: _close_types(world, tuple(sorted(types))), errors)
    removed = [
        attempt(lambda name=name, priority=priority: world.store.remove(name, priority), errors)  # type: ignore[misc]
        for name, priority in modules.items()
    ]
    done = listed and all(removed)
    # only after the removal: rebuilding the store with a lease module in it would load it again
    if done and world.store.dontaudit_off():
        done &= attempt(world.store.restore_dontaudit, errors)
    if done:
        done = boot_agrees(world, sorted(types), errors)
    return (closed or done), done


def _close_types(world: Environment, types: tuple[str, ...]) -> None:
    """Close types in the kernel, and in the boot policy if that is possible without semodule."""
    if types:
        world.kernel.close_types(types)
        attempt(lambda: world.boot.close_types(types), [])
