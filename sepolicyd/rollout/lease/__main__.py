"""One-shot command that ends overdue leases (``python -m sepolicyd.rollout.lease``), started by systemd timers and units."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from sepolicyd.errors import SepolicydError
from sepolicyd.rollout.lease.close_in_kernel import Ended
from sepolicyd.rollout.lease.end import EXIT_DONE, EXIT_PENDING, LOCK_WAIT_S, end_all, end_due
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.lease import DEFAULT_DIR, CorruptLease, Lease, carried_lease
from sepolicyd.rollout.lease.orphans import last_resort
from sepolicyd.rollout.lease.without_kernel import end_all_in_store


def _carried(word: str) -> Optional[Lease]:
    try:
        return carried_lease(word)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def main(arguments: Optional[list[str]] = None) -> int:
    """Run the one-shot command and return its exit code.

    Prints one line for each ended lease, prefixed with the journal's level (sd-daemon(3)).
    """
    parser = argparse.ArgumentParser(prog="endlease", description="End overdue leases.")
    parser.add_argument("--dir", type=Path, default=DEFAULT_DIR, help="root's rollout directory")
    parser.add_argument("--all", action="store_true", help="end every lease, due or not")
    parser.add_argument("--check", action="store_true", help="only test that this program starts and can read the directory")
    parser.add_argument("--undo", type=_carried, help="the lease record in encoded form, used if its file is gone")
    # ignore unknown options: a timer armed by an earlier or a later version must still end its lease
    given, _ = parser.parse_known_args(arguments)
    from sepolicyd.rollout.lease.host import live_environment

    world = live_environment(given.dir)
    if given.check:
        return EXIT_PENDING if any(isinstance(item, CorruptLease) for item in world.book.all()) else EXIT_DONE
    if not world.kernel.enabled():
        if given.all:
            return _end_without_selinux(world)
        print("<4>SELinux is disabled: nothing to end in the kernel; lease records are kept")
        return EXIT_DONE
    try:
        ended: Sequence[Ended] = end_all(world) if given.all else end_due(world, carried=given.undo)
    except Exception as error:  # noqa: BLE001 a bug in sepolicyd must not leave the machine permissive
        ended = [last_resort(world, f"{type(error).__name__}: {error}")]
    for item in ended:
        level = "<5>" if item.done else "<2>"
        print(
            f"{level}{item.profile}: {item.why}; {'enforcing' if item.closed else 'NOT ENFORCING'} after "
            f"{item.seconds_to_closed:.1f} s, {'all done' if item.done else 'not finished'} after {item.seconds:.1f} s"
            + "".join(f"; {error}" for error in item.errors)
        )
    return EXIT_DONE if all(item.done for item in ended) else EXIT_PENDING


def _end_without_selinux(world: Environment) -> int:
    try:
        errors = end_all_in_store(world, LOCK_WAIT_S)
    except SepolicydError as error:
        errors = [str(error)]
    if errors:
        print(f"<2>SELinux is disabled, and leases are left in the module store: {'; '.join(errors)}")
        return EXIT_PENDING
    print("<5>SELinux is disabled: nothing of a lease is left in the module store")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
