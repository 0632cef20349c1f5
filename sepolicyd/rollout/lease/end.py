"""Undo files in, ended leases out: the one-shot that systemd runs at a deadline, at boot, and each minute while a lease exists.

``python -m sepolicyd.rollout.lease`` needs root, the standard library and semodule: no daemon, no database, no
configuration. Twice is harmless; what it cannot finish it keeps, says at level critical, and exits with 3, so that systemd
tries again. Order of the acts, the quick before the lasting:

1. the loaded policy without our permissive types is loaded again (no store, no disk, 0.3 s), enforcing switched on;
2. semodule removes our module from the store, which loads the store's policy (up to 40 s in an emulated guest);
3. kernel and store are read back;
4. dontaudit rules come back, if the lease had switched them off (not an opening, so it is last);
5. the history is written, the undo file goes, the timer goes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from sepolicyd.errors import RefusedError, StateError
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.kernel import Ended, attempt, close_in_kernel, is_closed, refuses_loads
from sepolicyd.rollout.lease.lease import PLANNED, CorruptLease, Lease
from sepolicyd.rollout.lease.orphans import end_broken, end_forgotten, end_orphans

PAUSES_S = (0.0, 5.0, 15.0)  # before each try within one run; after that the timers try again
LOCK_WAIT_S = 60.0
LOAD_WAIT_S = 30.0
EXIT_DONE, EXIT_PENDING = 0, 3
SECURE_MODE = "the boolean secure_mode_policyload is on, so that the kernel takes no policy"


def end_due(world: Environment, *, lock_wait: float = LOCK_WAIT_S, carried: Optional[Lease] = None) -> list[Ended]:
    """End what is due (a lease of another boot always is), what is broken, and modules of ours without an undo file.

    :param carried: the lease as its own timer tells it, for the case that the state directory is gone
    :return: one Ended for each thing that had to end; empty when nothing was due
    """
    try:
        with world.book.lock(0):
            return end_due_locked(world, carried)
    except RefusedError:
        # whoever holds the lock may take long in semodule; the kernel is closed without it
        for lease in _due_leases(world, carried):
            close_in_kernel(world, lease, [])
    except StateError:
        # no lock can be made (the disk is read-only, or the directory is no directory): nobody else can hold it either
        return end_due_locked(world, carried)
    try:
        with world.book.lock(lock_wait):
            return end_due_locked(world, carried)
    except (RefusedError, StateError) as error:
        return [_close_only(world, lease, error.what) for lease in _due_leases(world, carried)]


def end_due_locked(world: Environment, carried: Optional[Lease] = None) -> list[Ended]:
    """:func:`end_due` for a caller that holds the book's lock.

    A lease that is only planned while nobody else holds the lock was left by a command that died while opening it: it is
    ended too, so that the next command can begin anew.
    """
    ended: list[Ended] = []
    unfinished: list[Lease] = []
    now = world.clock.now()
    for item in [*world.book.all(), *_lost(world, carried)]:
        if isinstance(item, CorruptLease):
            ended.append(end_broken(world, item))
        elif item.is_due(now) or item.phase == PLANNED:
            ended.append(end_lease(world, item, _why(world, item)))
            unfinished += [] if ended[-1].done else [item]
    ended += end_orphans(world) + end_forgotten(world)
    for lease in unfinished:  # what came after it has rebuilt the store, in which its module still stands
        close_in_kernel(world, lease, [])
    return ended


def _why(world: Environment, lease: Lease) -> str:
    now = world.clock.now()
    if not lease.is_due(now):
        return "its opening was interrupted"
    return "reboot" if now.boot_id != lease.opened.boot_id else "deadline"


def _lost(world: Environment, carried: Optional[Lease]) -> list[Lease]:
    """The lease that the timer carries, if no file knows it (somebody removed the state directory) and it never ended."""
    if carried is None or not carried.is_due(world.clock.now()):
        return []
    if any(isinstance(item, Lease) and item.id == carried.id for item in world.book.all()):
        return []
    history: list[dict[str, object]] = []
    attempt(lambda: history.extend(world.book.history()), [])
    return [] if any((entry.get("id"), entry.get("what")) == (carried.id, "ended") for entry in history) else [carried]


def end_lease(world: Environment, lease: Lease, why: str) -> Ended:
    """End one lease now, whatever its deadline; the caller holds the book's lock. Never raises an expected error."""
    began = world.clock.now().boottime
    errors: list[str] = []
    close_in_kernel(world, lease, errors)
    quickly = world.clock.now().boottime - began if is_closed(world, lease, []) else None
    with world.kernel.keep_closed(lease.domains):  # another's `semodule -B` loads the store, in which our module still stands
        removed = _remove(world, lease, errors)
    closed = _verify(world, lease, errors)
    if not closed and lease.services:
        errors.append(f"last resort: stopping {', '.join(lease.services)}")
        attempt(lambda: world.timers.stop_services(lease.services), errors)
    # only now: rebuilding the store while our module is in it would load it again
    shown = removed and _restore_dontaudit(world, lease, errors)
    seconds = world.clock.now().boottime - began
    ended = Ended(
        lease.profile, why, closed, closed and removed and shown, tuple(errors),
        seconds_to_closed=seconds if quickly is None else quickly, seconds=seconds,
    )  # fmt: skip
    return _finish(world, lease, ended)


def end_all(world: Environment) -> list[Ended]:
    """End every lease now, due or not (before the software that could end it later is removed)."""
    with world.book.lock(LOCK_WAIT_S):
        ended = [end_lease(world, item, "all leases ended") for item in world.book.all() if isinstance(item, Lease)]
        return ended + end_due_locked(world)


def _due_leases(world: Environment, carried: Optional[Lease] = None) -> list[Lease]:
    now = world.clock.now()
    due = [item for item in world.book.all() if isinstance(item, Lease) and item.is_due(now)]
    return due + _lost(world, carried)


def _remove(world: Environment, lease: Lease, errors: list[str]) -> bool:
    """Take our module out of the store, tried again with back-off; waits for the load that this makes."""
    for pause in PAUSES_S:
        if pause:
            world.clock.sleep(pause)
            close_in_kernel(world, lease, [])
        if attempt(lambda: world.store.remove(lease.module, lease.priority), errors):
            return True
    if refuses_loads(world):
        errors.append(f"{SECURE_MODE}: it keeps the policy that it has until the machine is rebooted")
        # libsemanage has put the old store back for the load that failed; the next boot must not load that one
        return attempt(lambda: world.store.remove_for_next_boot(lease.module, lease.priority), errors)
    return False


def _verify(world: Environment, lease: Lease, errors: list[str]) -> bool:
    """Read back; semodule's load may have been skipped or be late (kernel: policyload counter), so close once more if not."""
    for pause in PAUSES_S:
        if pause:
            world.clock.sleep(pause)
        if is_closed(world, lease, errors):
            return True
        close_in_kernel(world, lease, errors)
    return is_closed(world, lease, errors)


def _restore_dontaudit(world: Environment, lease: Lease, errors: list[str]) -> bool:
    if not lease.hidden or not world.store.dontaudit_off():
        return True
    return attempt(world.store.restore_dontaudit, errors)


def _finish(world: Environment, lease: Lease, ended: Ended) -> Ended:
    """Write the history; forget the undo only when all is done; never be silent about what is not."""
    problems: list[str] = []
    what = "ended" if ended.done else "end failed"
    attempt(
        lambda: world.book.record(
            what, world.clock.now(), id=lease.id, profile=lease.profile, why=ended.why, closed=ended.closed,
            errors=list(ended.errors), seconds_to_closed=round(ended.seconds_to_closed, 3), seconds=round(ended.seconds, 3),
        ),
        problems,
    )  # fmt: skip
    if ended.done:
        # a full disk must not keep an ended lease alive, so the undo goes even when the history could not be written
        gone = attempt(lambda: world.book.remove(lease.profile), problems)
        ended = replace(ended, done=gone)
        attempt(lambda: world.timers.disarm(lease), problems)
        if gone:
            world.alerts.notice(
                f"lease of {lease.profile} ended ({ended.why}): enforcing again after {ended.seconds_to_closed:.1f} s,"
                f" nothing of it left after {ended.seconds:.1f} s"
            )
    else:
        attempt(lambda: world.book.write(replace(lease, attempts=lease.attempts + 1)), problems)
        state = "the kernel enforces it, but something is left behind" if ended.closed else "IT IS STILL OPEN"
        if refuses_loads(world):
            state += f" ({SECURE_MODE}: REBOOT NOW, the next boot enforces)"
        world.alerts.critical(
            f"the lease of {lease.profile} could not be ended ({ended.why}): {state}; {'; '.join(ended.errors[-3:])}."
            f" It is tried again each minute. By hand: semodule -X {lease.priority} -r {lease.module}; setenforce 1",
            lease.alert_command,
        )
    if problems:
        world.alerts.critical(f"after the end of the lease of {lease.profile}: {'; '.join(problems)}", lease.alert_command)
    return replace(ended, errors=(*ended.errors, *problems))


def _close_only(world: Environment, lease: Lease, reason: str) -> Ended:
    errors = [reason]
    close_in_kernel(world, lease, errors)
    closed = is_closed(world, lease, errors)
    world.alerts.critical(
        f"the lease of {lease.profile} is due but {reason}: "
        f"{'closed in the kernel for now' if closed else 'IT IS STILL OPEN'}, tried again each minute",
        lease.alert_command,
    )
    return Ended(lease.profile, "deadline", closed, False, tuple(errors))
