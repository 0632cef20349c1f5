"""Openings that no undo file describes (damaged, removed, never read) in, a closed machine out; the caller holds the lock.

Each is ended like a lease of everything, the kernel first. What they opened is read from wherever it still stands: our modules
in the store (files, without semodule), the undo files that can be read, the history.
"""

from __future__ import annotations

from sepolicyd.rollout.lease.book import unended
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.kernel import Ended, attempt, enforce
from sepolicyd.rollout.lease.lease import MODULE_PREFIX, CorruptLease, Lease

NO_UNDO = "no undo file"


def end_broken(world: Environment, broken: CorruptLease) -> Ended:
    """An undo that cannot be read: every lease module goes, and the machine enforces; the file is kept until that is done."""
    errors: list[str] = []
    closed, done = _end_everything(world, errors)
    text = f"{broken.path} cannot be understood ({broken.reason}): every lease is ended"
    if done:
        attempt(
            lambda: world.book.record("ended", world.clock.now(), id="", profile=broken.path.stem, why="broken undo"), errors
        )
        done = attempt(lambda: world.book.remove_path(broken.path), errors)
    if not done:
        text += f"; not finished, tried again each minute: {'; '.join(errors)}"
    world.alerts.critical(text)
    return Ended(broken.path.stem, "broken undo", closed, done, tuple(errors))


def last_resort(world: Environment, reason: str) -> Ended:
    """The program that ends leases has failed itself: nothing is trusted, everything that a lease may have opened is closed."""
    errors = [reason]
    closed, _ = _end_everything(world, errors)
    state = "the machine enforces" if closed else "SOMETHING IS STILL OPEN (by hand: setenforce 1; semodule -lfull)"
    attempt(lambda: world.alerts.critical(f"ending leases failed ({'; '.join(errors)}); {state}"), errors)
    return Ended("", "last resort", closed, False, tuple(errors))  # never done: the undo files stand, systemd tries again


def end_orphans(world: Environment) -> list[Ended]:
    """Modules of ours that no undo file knows (somebody removed the file): an opening without a deadline is none."""
    known = {item.module for item in world.book.all() if isinstance(item, Lease)}
    errors: list[str] = []
    ended = []
    modules: dict[str, int] = {}
    if not attempt(lambda: modules.update(world.store.lease_modules()), errors):
        world.alerts.critical(f"lease modules cannot be listed: {'; '.join(errors)}")
        return [Ended("", NO_UNDO, False, False, tuple(errors))]
    for name, priority in modules.items():
        if name not in known:
            errors = []
            closed = attempt(lambda name=name: _close_module(world, name), errors)  # type: ignore[misc]
            done = attempt(lambda name=name, priority=priority: world.store.remove(name, priority), errors)  # type: ignore[misc]
            state = "was removed" if done else f"could not be removed, tried again each minute: {'; '.join(errors)}"
            world.alerts.critical(f"module {name} had no undo file and {state}")
            ended.append(Ended(name[len(MODULE_PREFIX) :], NO_UNDO, closed or done, done, tuple(errors)))
    return ended


def end_forgotten(world: Environment) -> list[Ended]:
    """What leases switched that the history opened and nobody ended, while their undo file is gone."""
    now = world.clock.now()
    known = {item.id for item in world.book.all() if isinstance(item, Lease)}
    problems: list[str] = []
    history: list[dict[str, object]] = []
    if not attempt(lambda: history.extend(world.book.history()), problems):
        world.alerts.critical(f"whether a lease was forgotten cannot be told: {'; '.join(problems)}")
        return [Ended("", NO_UNDO, False, False, tuple(problems))]
    ended = []
    for entry in unended(history):
        if entry["id"] in known:
            continue
        errors: list[str] = []
        closed = attempt(lambda: _close_types(world, _domains(entry)), errors)  # noqa: B023
        if entry.get("whole_system") and entry.get("boot_id") == now.boot_id:
            closed &= attempt(lambda: enforce(world), errors)
        done = closed
        if entry.get("hidden") and world.store.dontaudit_off():
            done &= attempt(world.store.restore_dontaudit, errors)
        profile = str(entry.get("profile", ""))
        if done:
            done = attempt(lambda: world.book.record("ended", now, id=entry["id"], profile=profile, why=NO_UNDO), errors)  # noqa: B023
        if done and not (entry.get("whole_system") or entry.get("hidden")):
            continue  # its module, if there was one, has been ended as an orphan
        state = "what it had switched is back" if done else "; ".join(errors)
        world.alerts.critical(f"the undo file of a lease of {profile} is gone: {state}")
        ended.append(Ended(profile, NO_UNDO, closed, done, tuple(errors)))
    return ended


def _end_everything(world: Environment, errors: list[str]) -> tuple[bool, bool]:
    """Whether the kernel enforces everything that a lease may have opened, and whether nothing of it is left in the store."""
    modules: dict[str, int] = {}
    closed = attempt(lambda: enforce(world), errors)
    listed = attempt(lambda: modules.update(world.store.lease_modules()), errors)
    for name in modules:
        closed &= attempt(lambda name=name: _close_module(world, name), errors)  # type: ignore[misc]
    items = [item for item in world.book.all() if isinstance(item, Lease)]
    known: set[str] = {name for item in items for name in item.domains}
    attempt(lambda: known.update(name for entry in unended(world.book.history()) for name in _domains(entry)), errors)
    closed &= attempt(lambda: _close_types(world, tuple(sorted(known))), errors)
    removed = [
        attempt(lambda name=name, priority=priority: world.store.remove(name, priority), errors)  # type: ignore[misc]
        for name, priority in modules.items()
    ]
    done = listed and all(removed)
    # only now: rebuilding the store while a module of ours is in it would load it again
    if done and world.store.dontaudit_off():
        done &= attempt(world.store.restore_dontaudit, errors)
    return (closed or done), done


def _close_module(world: Environment, name: str) -> None:
    _close_types(world, tuple(sorted(world.store.module_types(name))))


def _close_types(world: Environment, types: tuple[str, ...]) -> None:
    if types:
        world.kernel.close_types(types)


def _domains(entry: dict[str, object]) -> tuple[str, ...]:
    names = entry.get("domains", ())
    return tuple(str(name) for name in names) if isinstance(names, (list, tuple)) else ()
