"""End leases. systemd runs this at a deadline, at boot, and each minute.

``python -m sepolicyd.rollout.lease`` needs root, the standard library and semodule, but neither daemon, database nor
configuration. It is idempotent. If a step fails, the lease record is kept, an alert at level critical is sent, and the exit
code is 3, so that systemd retries. The fast steps come first:

1. Reload the loaded policy without the lease's permissive types (0.3 s), switch enforcing on, and rewrite the boot policy the
   same way.
2. Remove the lease's module from the store with semodule, which loads the store's policy (up to 40 s in an emulated guest).
3. Read kernel and store back.
4. Restore dontaudit rules if the lease had disabled them (late, because they grant nothing).
5. Compare the boot policy with the store, repair it, and compare again.
6. Write the history, remove the lease record, stop the timer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from sepolicyd.errors import RefusedError, StateError
from sepolicyd.kernel.journal import MessageId
from sepolicyd.rollout.lease.agreement import PAUSES_S, boot_agrees, end_leftovers, foreign_types
from sepolicyd.rollout.lease.close_in_kernel import Ended, attempt, close_now, is_closed, refuses_loads
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.lease import CorruptLease, Lease, LeasePhase
from sepolicyd.rollout.lease.lease_records import LeaseEvent
from sepolicyd.rollout.lease.orphans import end_broken, end_forgotten, end_orphans

LOCK_WAIT_S = 60.0
EXIT_DONE, EXIT_PENDING = 0, 3
SECURE_MODE = "the boolean secure_mode_policyload is on, so the kernel refuses to load a policy"


def end_due(world: Environment, *, lock_wait: float = LOCK_WAIT_S, carried: Optional[Lease] = None) -> list[Ended]:
    """End leases that are overdue or from an earlier boot, leases with a damaged record, and openings without a record.

    :param carried: the lease encoded in the command line of its own timer, used if the state directory is gone
    :return: one Ended for each of them; empty if nothing was due
    """
    try:
        with world.book.lock(0):
            return end_due_locked(world, carried)
    except RefusedError:
        # the holder of the lock may spend minutes in semodule; the kernel can be closed without the lock
        for lease in _due_leases(world, carried):
            close_now(world, lease, [])
    except StateError:
        # the lock file cannot be created (read-only disk, or not a directory), so no other process can hold it either
        return end_due_locked(world, carried)
    try:
        with world.book.lock(lock_wait):
            return end_due_locked(world, carried)
    except (RefusedError, StateError) as error:
        return [_close_only(world, lease, error.what) for lease in _due_leases(world, carried)]


def end_due_locked(world: Environment, carried: Optional[Lease] = None) -> list[Ended]:
    """Do the work of :func:`end_due` for a caller that holds the book's lock.

    While this process holds the lock, a lease in phase "planned" was left by a command that died while opening it. Such a lease
    is ended as well, so that a new one can be opened.
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
    for lease in unfinished:  # a later transaction has loaded the store, which still contains the lease's module
        close_now(world, lease, [])
    attempt(world.book.publish, [])  # recreates a removed file each minute; `learn status` reports a failure
    return ended


def _why(world: Environment, lease: Lease) -> str:
    now = world.clock.now()
    if not lease.is_due(now):
        return "its opening was interrupted"
    return "reboot" if now.boot_id != lease.opened.boot_id else "deadline"


def _lost(world: Environment, carried: Optional[Lease]) -> list[Lease]:
    """Return the lease carried by the timer if it is due and has neither a record (state directory removed) nor an end."""
    if carried is None or not carried.is_due(world.clock.now()):
        return []
    if any(isinstance(item, Lease) and item.id == carried.id for item in world.book.all()):
        return []
    history: list[dict[str, object]] = []
    attempt(lambda: history.extend(world.book.history()), [])
    over = any(entry.get("id") == carried.id and LeaseEvent.of(entry) is LeaseEvent.ENDED for entry in history)
    return [] if over else [carried]


def end_lease(world: Environment, lease: Lease, why: str) -> Ended:
    """End one lease now, regardless of its deadline; the caller holds the lock. Expected errors are part of the result."""
    began = world.clock.now().boottime
    errors: list[str] = []
    close_now(world, lease, errors)
    quickly = world.clock.now().boottime - began if is_closed(world, lease, []) else None
    # as long as the module is in the store, another program's `semodule -B` would load it again
    with world.kernel.keep_closed(lease.domains):
        removed = _remove(world, lease, errors)
    closed = _verify(world, lease, errors)
    if not closed and lease.services:
        errors.append(f"last resort: stopping {', '.join(lease.services)}")
        attempt(lambda: world.timers.stop_services(lease.services), errors)
    # only after the removal: rebuilding the store with the module in it would load it again
    agreed = removed and _settle_store(world, lease, errors)
    closed = closed and _verify(world, lease, errors)
    seconds = world.clock.now().boottime - began
    ended = Ended(
        lease.profile, why, closed, closed and agreed, tuple(errors),
        seconds_to_closed=seconds if quickly is None else quickly, seconds=seconds,
    )  # fmt: skip
    return _finish(world, lease, ended)


def end_all(world: Environment) -> list[Ended]:
    """End every lease now, due or not (called before sepolicyd is uninstalled)."""
    with world.book.lock(LOCK_WAIT_S):
        ended = [end_lease(world, item, "all leases ended") for item in world.book.all() if isinstance(item, Lease)]
        return ended + end_due_locked(world)


def _due_leases(world: Environment, carried: Optional[Lease] = None) -> list[Lease]:
    now = world.clock.now()
    due = [item for item in world.book.all() if isinstance(item, Lease) and item.is_due(now)]
    return due + _lost(world, carried)


def _remove(world: Environment, lease: Lease, errors: list[str]) -> bool:
    """Remove the lease's module from the store, with retries; semodule also loads the result."""
    for pause in PAUSES_S:
        if pause:
            world.clock.sleep(pause)
            close_now(world, lease, [])
        if attempt(lambda: world.store.remove(lease.module, lease.priority), errors):
            return True
    if refuses_loads(world):
        errors.append(f"{SECURE_MODE}; the loaded policy stays in force until a reboot")
        # the load failed, so libsemanage has restored the old store; the next boot must not use it
        return attempt(lambda: world.store.remove_for_next_boot(lease.module, lease.priority), errors)
    return False


def _verify(world: Environment, lease: Lease, errors: list[str]) -> bool:
    """Read the kernel back, and close the lease again if a load was skipped or delayed."""
    for pause in PAUSES_S:
        if pause:
            world.clock.sleep(pause)
        if is_closed(world, lease, errors):
            return True
        close_now(world, lease, errors)
    return is_closed(world, lease, errors)


def _settle_store(world: Environment, lease: Lease, errors: list[str]) -> bool:
    """Restore dontaudit rules and repair the boot policy; tell whether both succeeded."""
    with world.kernel.keep_closed(lease.domains):
        shown = not (lease.hidden and world.store.dontaudit_off()) or attempt(world.store.restore_dontaudit, errors)
        return boot_agrees(world, lease.domains, errors) and shown


def _finish(world: Environment, lease: Lease, ended: Ended) -> Ended:
    """Write the history, remove the record if everything is done, and report what is not."""
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
        # a full disk must not keep an ended lease alive: remove the record even if the history could not be written
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
            f"the lease of {lease.profile} has ended, but another module in the store makes {', '.join(foreign)} permissive"
            f" from the next boot on. Run: semanage permissive -d {foreign[0]}; or find the module: semodule -lfull",
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
    state = "the kernel enforces, but store or boot policy are not clean" if ended.closed else "IT IS STILL PERMISSIVE"
    if refuses_loads(world):
        state += f" ({SECURE_MODE}; REBOOT NOW, the next boot enforces)"
    world.alerts.critical(
        f"the lease of {lease.profile} could not be ended ({ended.why}): {state}; {'; '.join(ended.errors[-3:])}."
        f" Retried each minute. To end it by hand: semodule -X {lease.priority} -r {lease.module}; semodule -B; setenforce 1",
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
        f"{'the kernel enforces for now' if closed else 'IT IS STILL PERMISSIVE'}; retried each minute",
        MessageId.LEASE_NOT_ENDED,
        lease.alert_command,
        profile=lease.profile,
    )
    return Ended(lease.profile, "deadline", closed, False, tuple(errors))
