"""The lock that serialises every change of the policy by sepolicyd."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sepolicyd.settings import Settings
from sepolicyd.storage.lock import exclusive
from sepolicyd.storage.trust import refuse_unsafe

LOCK = "apply.lock"
BUSY = "another sepolicyd command is changing the policy"


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Hold the lock.

    :raises RefusedError: another command holds it, or a user other than root can change this machine's records
    """
    if settings.live:
        refuse_unsafe(settings.rollout_dir)
    with exclusive(settings.rollout_dir / LOCK, BUSY):
        yield
