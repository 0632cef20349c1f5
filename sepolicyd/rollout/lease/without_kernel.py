"""End every lease on a machine that was booted without SELinux, before sepolicyd is removed.

Nothing is permissive in the kernel then, but a lease's module in the store would be at the next boot with SELinux, when
nothing would be left to end it.
"""

from __future__ import annotations

from sepolicyd.rollout.lease.close_in_kernel import attempt
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.lease import Lease
from sepolicyd.rollout.lease.lease_records import LeaseEvent


def end_all_in_store(world: Environment, lock_wait: float) -> list[str]:
    """Remove every lease module from the store, then the records.

    :return: why it is not finished; [] if nothing is left of any lease. A record stays until then.
    """
    errors: list[str] = []
    with world.book.lock(lock_wait):
        items = world.book.all()
        modules: dict[str, int] = {}
        attempt(lambda: modules.update(world.store.lease_modules()), errors)
        for module, priority in modules.items():
            attempt(lambda module=module, priority=priority: world.store.remove_for_next_boot(module, priority), errors)  # type: ignore[misc]
        # of a damaged record it is not known whether it had switched dontaudit rules off
        if any(not isinstance(item, Lease) or item.hidden for item in items) and world.store.dontaudit_off():
            attempt(world.store.restore_dontaudit, errors)
        if errors:
            return errors
        for item in items:
            if isinstance(item, Lease):
                details = {"id": item.id, "profile": item.profile, "why": "all leases ended, without SELinux", "closed": True}
                attempt(lambda details=details: world.book.record(LeaseEvent.ENDED, world.clock.now(), **details), [])  # type: ignore[misc]
                attempt(lambda item=item: world.book.remove(item.profile), errors)  # type: ignore[misc]
                attempt(lambda item=item: world.timers.disarm(item), [])  # type: ignore[misc]
            else:
                attempt(lambda item=item: world.book.remove_path(item.path), errors)  # type: ignore[misc]
        attempt(world.book.publish, errors)
    return errors
