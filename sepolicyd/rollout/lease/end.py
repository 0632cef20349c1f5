"""End leases: what systemd runs at a deadline, at boot, and each minute.

``python -m sepolicyd.rollout.lease`` needs root, the standard library and semodule: no daemon, no database, no configuration.
Running it again is harmless. What it cannot finish it keeps, reports at level critical, and exits with 3, so that systemd
tries again. Order of the acts, the quick before the lasting:

1. The loaded policy is loaded again without the lease's permissive types (0.3 s), and enforcing is switched on; the policy
   file of the next boot is rewritten likewise.
2. semodule removes the lease's module from the store, which loads the store's policy (up to 40 s in an emulated guest).
3. Kernel and store are read back.
4. dontaudit rules come back if the lease had switched them off (not an opening, so it is late).
5. The policy file of the next boot is compared with the store, repaired from it, and compared again.
6. The history is written, the lease record is removed, the timer is stopped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from sepolicyd.errors import RefusedError, StateError
from sepolicyd.kernel.journal import MessageId
from sepolicyd.rollout.lease.agreement import PAUSES_S, boot_agrees, end_leftovers, foreign_types
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.kernel import Ended, attempt, close_now, is_closed, refuses_loads
from sepolicyd.rollout.lease.lease import CorruptLease, Lease, LeasePhase
from sepolicyd.rollout.lease.lease_records import LeaseEvent
from sepolicyd.rollout.lease.orphans import end_broken, end_forgotten, end_orphans

LOCK_WAIT_S = 60.0
EXIT_DONE, EXIT_PENDING = 0, 3
SECURE_MODE = "the boolean secure_mode_policyload is on, so that the kernel takes no policy"


def end_due(world: Environment, *, lock_wait: float = LOCK_WAIT_S, carried: Optional[Lease] = None) -> list[Ended]:
    """End what is due (a lease of another boot always is), what is damaged, and what has no lease record.

    :param carried: the lease in the command line of its own timer, for the case that the state directory is gone
    :return: one Ended for each thing that had to end; empty when nothing was due
    """
    try:
        with world.book.lock(0):
            return end_due_locked(world, carried)
    except RefusedError:
        # whoever holds the lock may take long in semodule; the kernel is closed without it
        for lease in _due_leases(world, carried):
            close_now(world, lease, [])
    except StateError:
        # no lock can be made (the disk is read-only, or the directory is no directory): no other process can hold it either
        return end_due_locked(world, carried)
    try:
        with world.book.lock(lock_wait):
            return end_due_locked(world, carried)
    except (RefusedError, StateError) as error:
        return [_close_only(world, lease, error.what) for lease in _due_leases(world, carried)]


def end_due_locked(world: Environment, carried: Optional[Lease] = None) -> list[Ended]:
    """Do the work of :func:`end_due` for a caller that holds the book's lock.

    A lease that is only planned while this process holds the lock was left by a command that died while it opened the lease:
    it is ended too, so that the next command can begin again.
    """
    ended: list[Ended] = []
    unfinished: list[Lease] = []
    now = world.clock.now()
    for item in [*world.book.all(), *_lost(world, carried)]:
        if isinstance(item, CorruptLease):
            ended.append(end_broken(world, item))
        elif item.is_due(now) or item.phase is LeasePhase.PLANNED:
            ended.append(end_lease(world, item, _why(world, item)))
            unfinished += [] if ended[-1].done else [item]
    ended += end_orphans(world) + end_forgotten(world) + end_leftovers(world)
    for lease in unfinished:  # a later transaction has loaded the store, in which its module is still installed
        close_now(world, lease, [])
    attempt(world.book.publish, [])  # restored each minute where somebody removed it; `learn status` reports a failure
    return ended


def _why(world: Environment, lease: Lease) -> str:
    now = world.clock.now()
    if not lease.is_due(now):
        return "its opening was interrupted"
    return "reboot" if now.boot_id != lease.opened.boot_id else "deadline"


def _lost(world: Environment, carried: Optional[Lease]) -> list[Lease]:
    """Return the lease that the timer carries if it is due, has no record (the state directory was removed) and no end."""
    if carried is None or not carried.is_due(world.clock.now()):
        return []
    if any(isinstance(item, Lease) and item.id == carried.id for item in world.book.all()):
        return []
    history: list[dict[str, object]] = []
    attempt(lambda: history.extend(world.book.history()), [])
    over = any(entry.get("id") == carried.id and LeaseEvent.of(entry) is LeaseEvent.ENDED for entry in history)
    return [] if over else [carried]


def end_lease(world: Environment, lease: Lease, why: str) -> Ended:
    """End one lease now, whatever its deadline; the caller holds the book's lock. Raises no expected error."""
    began = world.clock.now().boottime
    errors: list[str] = []
    close_now(world, lease, errors)
    quickly = world.clock.now().boottime - began if is_closed(world, lease, []) else None
    # until its module is gone, another program's `semodule -B` would load it again
    with world.kernel.keep_closed(lease.domains):
        removed = _remove(world, lease, errors)
    closed = _verify(world, lease, errors)
    if not closed and lease.services:
        errors.append(f"last resort: stopping {', '.join(lease.services)}")
        attempt(lambda: world.timers.stop_services(lease.services), errors)
    # only now: rebuilding the store while the module is in it would load it again
    agreed = removed and _settle_store(world, lease, errors)
    closed = closed and _verify(world, lease, errors)
    seconds = world.clock.now().boottime - began
    ended = Ended(
        lease.profile, why, closed, closed and agreed, tuple(errors),
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
    """Remove the lease's module from the store, with retries; semodule waits for the load that this causes."""
    for pause in PAUSES_S:
        if pause:
            world.clock.sleep(pause)
            close_now(world, lease, [])
        if attempt(lambda: world.store.remove(lease.module, lease.priority), errors):
            return True
    if refuses_loads(world):
        errors.append(f"{SECURE_MODE}: it keeps the policy that it has until the machine is rebooted")
        # libsemanage has put the old store back for the load that failed; the next boot must not load that one
        return attempt(lambda: world.store.remove_for_next_boot(lease.module, lease.priority), errors)
    return False


def _verify(world: Environment, lease: Lease, errors: list[str]) -> bool:
    """Read the kernel back, and close the lease once more if a load was skipped or came late."""
    for pause in PAUSES_S:
        if pause:
            world.clock.sleep(pause)
        if is_closed(world, lease, errors):
            return True
        close_now(world, lease, errors)
    return is_closed(world, lease, errors)


def _settle_store(world: Environment, lease: Lease, errors: list[str]) -> bool:
    """Bring dontaudit rules back and the next boot's policy in line; tell whether both succeeded."""
    with world.kernel.keep_closed(lease.domains):
        shown = not (lease.hidden and world.store.dontaudit_off()) or attempt(world.store.restore_dontaudit, errors)
        return boot_agrees(world, lease.domains, errors) and shown


def _finish(world: Environment, lease: Lease, ended: Ended) -> Ended:
    """Write the history; remove the record only when all is done; always report what is not."""
    problems: list[str] = []
    what = LeaseEvent.ENDED if ended.done else LeaseEvent.END_FAILED
    attempt(
        lambda: world.book.record(
            what, world.clock.now(), id=lease.id, profile=lease.profile, why=ended.why, closed=ended.closed,
            errors=list(ended.errors), seconds_to_closed=round(ended.seconds_to_closed, 3), seconds=round(ended.seconds, 3),
        ),
        problems,
    )  # fmt: skip
    if ended.done:
        # a full disk must not keep an ended lease alive, so the record goes even when the history could not be written
        ended = replace(ended, done=attempt(lambda: world.book.remove(lease.profile), problems))
        attempt(lambda: world.timers.disarm(lease), problems)
        _announce(world, lease, ended)
    else:
        attempt(lambda: world.book.write(replace(lease, attempts=lease.attempts + 1)), problems)
        _complain(world, lease, ended)
    attempt(world.book.publish, problems)
    if problems:
        text = f"after the end of the lease of {lease.profile}: {'; '.join(problems)}"
        world.alerts.critical(text, MessageId.LEASE_FAULT, lease.alert_command, profile=lease.profile)
    return replace(ended, errors=(*ended.errors, *problems))


def _announce(world: Environment, lease: Lease, ended: Ended) -> None:
    foreign = foreign_types(world, lease.domains)
    if foreign:
        world.alerts.critical(
            f"the lease of {lease.profile} has ended, but another module of the store makes {', '.join(foreign)} permissive:"
            f" the next boot will. By hand: semanage permissive -d {foreign[0]}; or see: semodule -lfull",
            MessageId.LEASE_FOREIGN,
            lease.alert_command,
            profile=lease.profile,
        )
    if ended.done:
        world.alerts.notice(
            f"lease of {lease.profile} ended ({ended.why}): enforcing again after {ended.seconds_to_closed:.1f} s,"
            f" kernel, store and boot policy agree after {ended.seconds:.1f} s",
            MessageId.LEASE_ENDED,
            profile=lease.profile,
        )


def _complain(world: Environment, lease: Lease, ended: Ended) -> None:
    state = "the kernel enforces it, but something is left behind" if ended.closed else "IT IS STILL OPEN"
    if refuses_loads(world):
        state += f" ({SECURE_MODE}: REBOOT NOW, the next boot enforces)"
    world.alerts.critical(
        f"the lease of {lease.profile} could not be ended ({ended.why}): {state}; {'; '.join(ended.errors[-3:])}."
        f" It is tried again each minute. By hand: semodule -X {lease.priority} -r {lease.module}; semodule -B; setenforce 1",
        MessageId.LEASE_NOT_ENDED,
        lease.alert_command,
        profile=lease.profile,
    )


def _close_only(world: Environment, lease: Lease, reason: str) -> Ended:
    errors = [reason]
    close_now(world, lease, errors)
    closed = is_closed(world, lease, errors)
    world.alerts.critical(
        f"the lease of {lease.profile} is due but {reason}: "
        f"{'closed in the kernel for now' if closed else 'IT IS STILL OPEN'}, tried again each minute",
        MessageId.LEASE_NOT_ENDED,
        lease.alert_command,
        profile=lease.profile,
    )
    return Ended(lease.profile, "deadline", closed, False, tuple(errors))
