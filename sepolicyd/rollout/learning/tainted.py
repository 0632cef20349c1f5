"""The state directory and the daemon's remarks in, the taints of one profile's leases out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Optional

from sepolicyd.rollout.history import History
from sepolicyd.rollout.learning.taint import DatedEvent, Taint, own_acts, taints, windows
from sepolicyd.rollout.lease import exercises
from sepolicyd.rollout.lease.book import LeaseBook
from sepolicyd.settings import Settings


def find_taints(
    settings: Settings, profile: str, remarks: Iterable[DatedEvent], *, now: Optional[float] = None
) -> tuple[Taint, ...]:
    """What spoils evidence gathered in the leases of a profile; () where only root may read when they were.

    :param remarks: what the daemon noted beside the evidence
    :param now: wall time, the present without
    :raises StateError: a history cannot be read
    """
    if not os.access(settings.rollout_dir, os.X_OK):
        return ()
    history = LeaseBook(settings.rollout_dir).history()
    marks = [mark.epoch for mark in exercises.read(exercises.path(settings.state)) if mark.profile == profile]
    applies = [entry.at for entry in History(settings.rollout_dir).entries()]
    leases = windows(history, profile, time.time() if now is None else now)
    return taints(remarks, leases, own_acts(history, marks, applies))
