"""Undo files in, ended leases out: the one-shot that systemd runs at a deadline, at boot, and each minute while a lease exists.

``python -m sepolicyd.rollout.endlease`` needs root, the standard library and semodule: no daemon, no database, no
configuration. Twice is harmless; what it cannot finish it keeps, says at level critical, and exits with 3, so that systemd
tries again. Order of the acts, the quick before the lasting:

1. the loaded policy without our permissive types is loaded again (no store, no disk, 0.3 s), enforcing switched on;
2. semodule removes our module from the store, which loads the store's policy (up to 40 s in an emulated guest);
3. kernel and store are read back;
4. dontaudit rules come back, if the lease had switched them off (not an opening, so it is last);
5. the history is written, the undo file goes, the timer goes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from sepolicyd.errors import RefusedError, SepolicydError
from sepolicyd.rollout.undo import DEFAULT_DIR, MODULE_PREFIX, PLANNED, BrokenUndo, Lease, unended
from sepolicyd.rollout.world import World

PAUSES_S = (0.0, 5.0, 15.0)  # before each try within one run; after that the timers try again
LOCK_WAIT_S = 60.0
LOAD_WAIT_S = 30.0
EXIT_DONE, EXIT_PENDING = 0, 3
NO_UNDO = "no undo file"


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


def end_due(world: World, *, lock_wait: float = LOCK_WAIT_S) -> list[Ended]:
    """End what is due (a lease of another boot always is), what is broken, and modules of ours without an undo file.

    :return: one Ended for each thing that had to end; empty when nothing was due
    """
    try:
        with world.book.lock(0):
            return end_due_locked(world)
    except RefusedError:
        # whoever holds the lock may take long in semodule; the kernel is closed without it
        for lease in _due_leases(world):
            _close_in_kernel(world, lease, [])
    try:
        with world.book.lock(lock_wait):
            return end_due_locked(world)
    except RefusedError as error:
        return [_close_only(world, lease, error.what) for lease in _due_leases(world)]


def end_due_locked(world: World) -> list[Ended]:
    """:func:`end_due` for a caller that holds the book's lock.

    A lease that is only planned while nobody else holds the lock was left by a command that died while opening it: it is
    ended too, so that the next command can begin anew.
    """
    ended = []
    now = world.clock.now()
    for item in world.book.all():
        if isinstance(item, BrokenUndo):
            ended.append(_end_broken(world, item))
        elif item.is_due(now):
            ended.append(end_lease(world, item, "reboot" if now.boot_id != item.opened.boot_id else "deadline"))
        elif item.phase == PLANNED:
            ended.append(end_lease(world, item, "its opening was interrupted"))
    return ended + _end_orphans(world) + _end_forgotten(world)


def end_lease(world: World, lease: Lease, why: str) -> Ended:
    """End one lease now, whatever its deadline; the caller holds the book's lock. Never raises an expected error."""
    began = world.clock.now().boottime
    errors: list[str] = []
    _close_in_kernel(world, lease, errors)
    quickly = world.clock.now().boottime - began if _is_closed(world, lease, []) else None
    removed = _remove(world, lease, errors)
    closed = _verify(world, lease, errors)
    if not closed and lease.services:
        errors.append(f"last resort: stopping {', '.join(lease.services)}")
        _try(lambda: world.timers.stop_services(lease.services), errors)
    # only now: rebuilding the store while our module is in it would load it again
    shown = removed and _restore_dontaudit(world, lease, errors)
    seconds = world.clock.now().boottime - began
    ended = Ended(
        lease.profile, why, closed, closed and removed and shown, tuple(errors),
        seconds_to_closed=seconds if quickly is None else quickly, seconds=seconds,
    )  # fmt: skip
    return _finish(world, lease, ended)


def end_all(world: World) -> list[Ended]:
    """End every lease now, due or not (before the software that could end it later is removed)."""
    with world.book.lock(LOCK_WAIT_S):
        ended = [end_lease(world, item, "all leases ended") for item in world.book.all() if isinstance(item, Lease)]
        return ended + end_due_locked(world)


def _due_leases(world: World) -> list[Lease]:
    now = world.clock.now()
    return [item for item in world.book.all() if isinstance(item, Lease) and item.is_due(now)]


def _try(act: Callable[[], None], errors: list[str]) -> bool:
    try:
        act()
    except SepolicydError as error:
        errors.append(str(error))
        return False
    except Exception as error:  # noqa: BLE001 a fault of our own in one act must not keep the next act from being done
        errors.append(f"{type(error).__name__}: {error}")
        return False
    return True


def _close_in_kernel(world: World, lease: Lease, errors: list[str]) -> None:
    if lease.domains:
        _try(lambda: world.kernel.close_types(lease.domains), errors)
    if _this_boot(world, lease):
        _try(lambda: _enforce(world), errors)


def _enforce(world: World) -> None:
    """Every lease began on an enforcing machine, so whoever switched it off since: by the deadline it enforces."""
    if not world.kernel.enforcing():
        world.kernel.set_enforcing(True)


def _this_boot(world: World, lease: Lease) -> bool:
    """After a reboot /etc/selinux/config has decided on enforcing, and that is the administrator's."""
    return world.clock.now().boot_id == lease.opened.boot_id


def _remove(world: World, lease: Lease, errors: list[str]) -> bool:
    """Take our module out of the store, tried again with back-off; waits for the load that this makes."""
    for pause in PAUSES_S:
        if pause:
            world.clock.sleep(pause)
        if _try(lambda: world.store.remove(lease.module, lease.priority), errors):
            return True
    return False


def _is_closed(world: World, lease: Lease, errors: list[str]) -> bool:
    """What the kernel itself says; unreadable means not closed."""
    try:
        still = sorted(world.kernel.permissive_types() & frozenset(lease.domains))
        enforcing = world.kernel.enforcing() or not _this_boot(world, lease)
    except (SepolicydError, OSError) as error:
        errors.append(str(error))
        return False
    if still:
        errors.append(f"{', '.join(still)} is permissive in the loaded policy")
    if not enforcing:
        errors.append("the kernel is not enforcing")
    return not still and enforcing


def _verify(world: World, lease: Lease, errors: list[str]) -> bool:
    """Read back; semodule's load may have been skipped or be late (kernel: policyload counter), so close once more if not."""
    for pause in PAUSES_S:
        if pause:
            world.clock.sleep(pause)
        if _is_closed(world, lease, errors):
            return True
        _close_in_kernel(world, lease, errors)
    return _is_closed(world, lease, errors)


def _restore_dontaudit(world: World, lease: Lease, errors: list[str]) -> bool:
    if not lease.hidden or not world.store.dontaudit_off():
        return True
    return _try(world.store.restore_dontaudit, errors)


def _finish(world: World, lease: Lease, ended: Ended) -> Ended:
    """Write the history; forget the undo only when all is done; never be silent about what is not."""
    problems: list[str] = []
    what = "ended" if ended.done else "end failed"
    _try(
        lambda: world.book.record(
            what, world.clock.now(), id=lease.id, profile=lease.profile, why=ended.why, closed=ended.closed,
            errors=list(ended.errors), seconds_to_closed=round(ended.seconds_to_closed, 3), seconds=round(ended.seconds, 3),
        ),
        problems,
    )  # fmt: skip
    if ended.done:
        # a full disk must not keep an ended lease alive, so the undo goes even when the history could not be written
        gone = _try(lambda: world.book.remove(lease.profile), problems)
        _try(lambda: world.timers.disarm(lease), problems)
        if gone:
            world.voice.say(
                f"lease of {lease.profile} ended ({ended.why}): enforcing again after {ended.seconds_to_closed:.1f} s,"
                f" nothing of it left after {ended.seconds:.1f} s"
            )
    else:
        _try(lambda: world.book.write(replace(lease, attempts=lease.attempts + 1)), problems)
        state = "the kernel enforces it, but something is left behind" if ended.closed else "IT IS STILL OPEN"
        world.voice.shout(
            f"the lease of {lease.profile} could not be ended ({ended.why}): {state}; {'; '.join(ended.errors[-3:])}."
            f" It is tried again each minute. By hand: semodule -X {lease.priority} -r {lease.module}; setenforce 1",
            lease.alert_command,
        )
    if problems:
        world.voice.shout(f"after the end of the lease of {lease.profile}: {'; '.join(problems)}", lease.alert_command)
    return replace(ended, errors=(*ended.errors, *problems))


def _close_only(world: World, lease: Lease, reason: str) -> Ended:
    errors = [reason]
    _close_in_kernel(world, lease, errors)
    closed = _is_closed(world, lease, errors)
    world.voice.shout(
        f"the lease of {lease.profile} is due but {reason}: "
        f"{'closed in the kernel for now' if closed else 'IT IS STILL OPEN'}, tried again each minute",
        lease.alert_command,
    )
    return Ended(lease.profile, "deadline", closed, False, tuple(errors))


def _end_broken(world: World, broken: BrokenUndo) -> Ended:
    """An undo that cannot be read: every lease module goes, and the machine enforces; the file is kept until that is done."""
    errors: list[str] = []
    world.voice.shout(f"{broken.path} cannot be understood ({broken.reason}): ending every lease module")
    _try(lambda: _enforce(world), errors)
    modules = _lease_modules(world, errors)
    done = modules is not None
    for name, priority in (modules or {}).items():
        done &= _try(lambda name=name, priority=priority: world.store.remove(name, priority), errors)  # type: ignore[misc]
    if done and world.store.dontaudit_off():
        done &= _try(world.store.restore_dontaudit, errors)
    if done:
        _try(lambda: world.book.record("ended", world.clock.now(), id="", profile=broken.path.stem, why="broken undo"), errors)
        _try(lambda: world.book.remove_path(broken.path), errors)
    else:
        world.voice.shout(f"{broken.path}: {'; '.join(errors)}; tried again each minute")
    return Ended(broken.path.stem, "broken undo", done, done, tuple(errors))


def _lease_modules(world: World, errors: list[str]) -> Optional[dict[str, int]]:
    try:
        return world.store.lease_modules()
    except (SepolicydError, OSError) as error:
        errors.append(str(error))
        return None


def _end_orphans(world: World) -> list[Ended]:
    """Modules of ours that no undo file knows (somebody removed the file): an opening without a deadline is none."""
    known = {item.module for item in world.book.all() if isinstance(item, Lease)}
    errors: list[str] = []
    ended = []
    modules = _lease_modules(world, errors)
    if modules is None:
        world.voice.shout(f"lease modules cannot be listed: {'; '.join(errors)}")
        return [Ended("", NO_UNDO, False, False, tuple(errors))]
    for name, priority in modules.items():
        if name not in known:
            done = _try(lambda name=name, priority=priority: world.store.remove(name, priority), errors)  # type: ignore[misc]
            world.voice.shout(f"module {name} had no undo file and {'was removed' if done else 'could not be removed'}")
            ended.append(Ended(name[len(MODULE_PREFIX) :], NO_UNDO, done, done, tuple(errors)))
    return ended


def _end_forgotten(world: World) -> list[Ended]:
    """Switches of leases that the history opened and nobody ended, while their undo file is gone."""
    now = world.clock.now()
    known = {item.id for item in world.book.all() if isinstance(item, Lease)}
    ended = []
    for entry in unended(world.book.history()):
        if entry["id"] in known:
            continue
        errors: list[str] = []
        switched = entry.get("whole_system") and entry.get("boot_id") == now.boot_id
        done = _try(lambda: _enforce(world), errors) if switched else True
        if entry.get("hidden") and world.store.dontaudit_off():
            done &= _try(world.store.restore_dontaudit, errors)
        profile = str(entry.get("profile", ""))
        if done:
            done = _try(lambda: world.book.record("ended", now, id=entry["id"], profile=profile, why=NO_UNDO), errors)  # noqa: B023
        if done and not (entry.get("whole_system") or entry.get("hidden")):
            continue  # its module, if there was one, has been ended as an orphan
        state = "what it had switched is back" if done else "; ".join(errors)
        world.voice.shout(f"the undo file of a lease of {profile} is gone: {state}")
        ended.append(Ended(profile, NO_UNDO, done, done, tuple(errors)))
    return ended


def main(arguments: Optional[list[str]] = None) -> int:
    """The one-shot. Prints one line for each lease ended, with journald's level in front (sd-daemon(3))."""
    parser = argparse.ArgumentParser(prog="endlease", description="End the leases that are due.")
    parser.add_argument("--dir", type=Path, default=DEFAULT_DIR, help="root's rollout directory")
    parser.add_argument("--all", action="store_true", help="end every lease, due or not")
    parser.add_argument("--check", action="store_true", help="only show that this program starts and can read the directory")
    given = parser.parse_args(arguments)
    from sepolicyd.rollout.machine import machine

    world = machine(given.dir)
    if given.check:
        return EXIT_PENDING if any(isinstance(item, BrokenUndo) for item in world.book.all()) else EXIT_DONE
    if not world.kernel.enabled():
        print("<4>SELinux is disabled: nothing to end in the kernel; undo files are kept")
        return EXIT_DONE
    ended = end_all(world) if given.all else end_due(world)
    for item in ended:
        level = "<5>" if item.done else "<2>"
        print(
            f"{level}{item.profile}: {item.why}; {'enforcing' if item.closed else 'NOT ENFORCING'} after "
            f"{item.seconds_to_closed:.1f} s, {'all done' if item.done else 'not finished'} after {item.seconds:.1f} s"
            + "".join(f"; {error}" for error in item.errors)
        )
    return EXIT_DONE if all(item.done for item in ended) else EXIT_PENDING


if __name__ == "__main__":
    sys.exit(main())
