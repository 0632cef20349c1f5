"""Journal messages about lost audit events and gaps in the log, in time for a repair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Optional

from sepolicyd.kernel.journal import MessageId, Priority, send

PAUSE_SECONDS = 60.0  # between two messages of one kind; losses in between are counted
TEXTS = {
    "lost": (
        MessageId.EVENTS_LOST,
        "the kernel has reported lost audit events {count} times: an access that {profile} needs may be missing; auditctl -s",
    ),
    "gaps": (
        MessageId.LOG_GAP,
        "the audit log was truncated {count} times before it was read: an access that {profile} needs may be missing",
    ),
}
Sender = Callable[[str, Priority, MessageId], None]


class LossReporter:
    """Reports losses of one daemon, at most one message of each kind in a minute."""

    def __init__(self, profile: str, say: Optional[Sender] = None) -> None:
        """
        :param say: writes a message; default: the journal, with the profile's name
        """
        self._profile = profile
        self._say = say or (lambda text, priority, message: send(text, priority, message, profile=profile))
        self._waiting: Counter[str] = Counter()
        self._said_at: dict[str, float] = {}

    def report(self, counts: Mapping[str, int], now: float) -> None:
        """Count the losses of a saved batch, and report them at most once a minute.

        :param counts: losses in the saved batch
        :param now: seconds of a clock that only moves forward
        """
        for kind, (message, text) in TEXTS.items():
            self._waiting[kind] += counts.get(kind, 0)
            count, said_at = self._waiting[kind], self._said_at.get(kind)
            if count and (said_at is None or now - said_at >= PAUSE_SECONDS):
                self._waiting[kind], self._said_at[kind] = 0, now
                self._say(text.format(count=count, profile=self._profile), Priority.WARNING, message)
