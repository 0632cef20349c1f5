"""The lease commands on a machine whose kernel is a directory: deadline, stop, enforce, start."""

from __future__ import annotations

import sys
from pathlib import Path

from sepolicyd.profiles import Profile, Role
from sepolicyd.rollout.lease import lifecycle
from sepolicyd.settings import Settings
from tests.rollout.lease.without_kernel import main as one_shot

SETTINGS = Settings(state=Path("/var/lib/sepolicyd"))
PROFILE = Profile("hub", "a service", Path("/nonexistent"), ("hub.service",), (Role("main", domains=("svc_t",)),))


class Confined:
    """What setools would say of the small policy."""

    def is_unconfined(self, type_name: str) -> bool:
        return False


def run(command: str) -> int:
    """Run one command; the deadline is the one-shot's."""
    if command == "deadline":
        return one_shot([])
    if command in {"start", "start hidden"}:
        lifecycle.start(SETTINGS, PROFILE, 3600, hidden=command == "start hidden", by="ada", policy=Confined())
        return 0
    if command == "enforce":
        ended = lifecycle.enforce(SETTINGS, PROFILE, by="ada").ended
    else:
        ended = lifecycle.stop(SETTINGS, PROFILE, by="ada")
    return 0 if ended is not None and ended.done else 3


if __name__ == "__main__":
    sys.exit(run(sys.argv[1]))
