"""End openings that no lease record describes (damaged, removed or never read); the caller holds the lock.

Each is ended like a lease of everything, the kernel first. The opened types are read from wherever they are still known: lease
modules in the store (their files, without semodule), the records that can be read, and the history.
"""

from __future__ import annotations

from typing import Optional

from sepolicyd.kernel.journal import MessageId
from sepolicyd.rollout.lease.agreement import boot_agrees, domains_of
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.kernel import Ended, attempt, enforce
from sepolicyd.rollout.lease.lease import MODULE_PREFIX, CorruptLease, Lease
from sepolicyd.rollout.lease.lease_records import LeaseEvent, unended

NO_RECORD = "no lease record"


def end_broken(world: Environment, broken: CorruptLease) -> Ended:
    """End a lease whose record cannot be read: every lease module is removed and the machine enforces; then the record goes."""
    errors: list[str] = []
    closed, done = _end_everything(world, errors)
    text = f"{broken.path} cannot be understood ({broken.reason}): every lease is ended"
    if done:
        why = "damaged record"
        attempt(
            lambda: world.book.record(LeaseEvent.ENDED, world.clock.now(), id="", profile=broken.path.stem, why=why), errors
        )
        done = attempt(lambda: world.book.remove_path(broken.path), errors)
    attempt(world.book.publish, [])
    if not done:
        text += f"; not finished, tried again each minute: {'; '.join(errors)}"
    world.alerts.critical(text, MessageId.LEASE_RECORD_DAMAGED, profile=broken.path.stem)
    return Ended(broken.path.stem, "damaged record", closed, done, tuple(errors))


def last_resort(world: Environment, reason: str) -> Ended:
    """Close everything that a lease may have opened, after the program that ends leases has failed itself."""
    errors = [reason]
    closed, _ = _end_everything(world, errors)
    state = "the machine enforces" if closed else "SOMETHING IS STILL OPEN (by hand: setenforce 1; semodule -lfull)"
    text = f"ending leases failed ({'; '.join(errors)}); {state}"
    attempt(lambda: world.alerts.critical(text, MessageId.LEASE_FAULT), errors)
    return Ended("", "last resort", closed, False, tuple(errors))  # never done: the records are kept, systemd tries again


def end_orphans(world: Environment) -> list[Ended]:
    """Remove lease modules without a lease record (somebody removed the file)."""
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
    state = "was removed" if done else f"could not be removed, tried again each minute: {'; '.join(errors)}"
    world.alerts.critical(f"module {name} had no lease record and {state}", MessageId.LEASE_LEFT_OVER)
    return Ended(name[len(MODULE_PREFIX) :], NO_RECORD, closed or done, done, tuple(errors))


def end_forgotten(world: Environment) -> list[Ended]:
    """End leases that the history opened and did not end, and that have no record."""
    known = {item.id for item in world.book.all() if isinstance(item, Lease)}
    problems: list[str] = []
    history: list[dict[str, object]] = []
    if not attempt(lambda: history.extend(world.book.history()), problems):
        text = f"whether a lease was forgotten cannot be determined: {'; '.join(problems)}"
        world.alerts.critical(text, MessageId.LEASE_FAULT)
        return [Ended("", NO_RECORD, False, False, tuple(problems))]
    found = [_end_forgotten(world, entry) for entry in unended(history) if entry["id"] not in known]
    return [ended for ended in found if ended is not None]


def _end_forgotten(world: Environment, entry: dict[str, object]) -> Optional[Ended]:
    """End one; None if there was nothing to switch back (its module, if it was in the store, was ended as an orphan)."""
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
    state = "what it had switched is back" if done else "; ".join(errors)
    text = f"the record of a lease of {profile} is gone: {state}"
    world.alerts.critical(text, MessageId.LEASE_LEFT_OVER, profile=profile)
    return Ended(profile, NO_RECORD, closed, done, tuple(errors))


def _end_everything(world: Environment, errors: list[str]) -> tuple[bool, bool]:
    """Close whatever a lease may have opened.

    :return: whether the kernel enforces all of it, and whether store and boot policy hold nothing of it
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
    # only now: rebuilding the store while a lease module is in it would load it again
    if done and world.store.dontaudit_off():
        done &= attempt(world.store.restore_dontaudit, errors)
    if done:
        done = boot_agrees(world, sorted(types), errors)
    return (closed or done), done


def _close_types(world: Environment, types: tuple[str, ...]) -> None:
    """Close types in the kernel, and in the next boot's policy where that is possible without semodule."""
    if types:
        world.kernel.close_types(types)
        attempt(lambda: world.boot.close_types(types), [])
