"""An operation that was cut short in, finished or undone out: told by what the store holds, never by what we meant to do."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from sepolicyd import process
from sepolicyd.errors import SepolicydError
from sepolicyd.module import inflight
from sepolicyd.module.build import workdir
from sepolicyd.module.store import Store
from sepolicyd.module.transaction import BooleanValue, PortLabel
from sepolicyd.rollout.apply.installed import install, standing, still_ours, target_booleans, target_ports
from sepolicyd.rollout.apply.journal import DONE, UNDONE, ApplyJournal, Operation
from sepolicyd.rollout.apply.verify import verify_store
from sepolicyd.rollout.apply.versions import Version, Versions
from sepolicyd.rollout.history import Entry, History, HistoryEvent
from sepolicyd.settings import Settings

RELABEL_TIMEOUT_S = 600.0
ENFORCE = Path("/sys/fs/selinux/enforce")


@dataclass(frozen=True)
class Settled:
    """What became of an operation: ``how`` is done or undone, ``text`` a sentence for a person."""

    operation: str
    how: str
    text: str


def settle(settings: Settings, operation: Operation) -> Settled:
    """Finish an open operation, or undo it; the caller holds the lock. Twice is harmless.

    :raises SepolicydError: neither was possible now; the operation stays open and the next command tries again
    """
    details = operation.details
    store = Store(settings.root)
    _wait_for_leftovers(str(details.get("workdir", "")))
    store.wait_for_lock()
    store.mend()
    versions = Versions(settings.rollout_dir, str(details["module"]))
    origin, target = int(details["from"]), int(details["to"])
    with workdir("settle") as place:
        held = standing(store, versions, settings.priority, place / "held").version.number
        if held == target and target != origin:
            return _finish_or_undo(settings, store, versions, operation, place)
    store.realign()
    _tidy(details)
    text = f"{details['kind']} of {versions.name} version {target} was cut short before the store changed"
    if held != origin:
        text += f"; the store holds version {held} by another hand"
    return close(settings, operation, UNDONE, text)


def _finish_or_undo(settings: Settings, store: Store, versions: Versions, operation: Operation, place: Path) -> Settled:
    details = operation.details
    origin, target = int(details["from"]), int(details["to"])
    try:
        store.realign()
        if store.live and ENFORCE.exists():
            process.run(["load_policy"])  # the store may have been swapped and the kernel not yet told
        if details.get("linked_policy"):
            verify_store(store, str(details["linked_policy"]), None)
    except SepolicydError as error:
        to_version(settings, store, versions, target, origin, place)
        versions.set_current(origin)
        relabel(store, versions.load(target), versions.load(origin))
        _tidy(details)
        return close(settings, operation, UNDONE, f"version {target} of {versions.name} was taken back: {error.what}")
    finish(settings, versions, operation)
    _tidy(details)
    return Settled(operation.id, DONE, f"version {target} of {versions.name} was in the store; its records are complete now")


def finish(settings: Settings, versions: Versions, operation: Operation) -> None:
    """The records of an operation whose version is in the store and verified. Each step may be done twice.

    :raises StateError: a record could not be written; the operation stays open
    """
    details = operation.details
    target = int(details["to"])
    versions.set_current(target)
    relabel(Store(settings.root), versions.load(int(details["from"])), versions.load(target))
    History(settings.rollout_dir).add(
        Entry(
            what=HistoryEvent.of(str(details["kind"])),
            who=str(details["by"]),
            at=float(details["at"]),
            module=versions.name,
            version=target,
            operation=operation.id,
            details=dict(details.get("history", {})),
        )
    )
    ApplyJournal(settings.rollout_dir).end(operation.id, time.time(), DONE)


def close(settings: Settings, operation: Operation, how: str, text: str) -> Settled:
    ApplyJournal(settings.rollout_dir).end(operation.id, time.time(), how, {"why": text})
    return Settled(operation.id, how, text)


def to_version(settings: Settings, store: Store, versions: Versions, origin: int, target: int, place: Path) -> None:
    """One transaction from a version of ours to another; with version 0 our modules go.

    :raises ToolError: nothing has been changed
    :raises StateError: a kept package is damaged
    """
    old, new = versions.load(origin), versions.load(target)
    present = {module.name for module in store.modules() if module.priority == settings.priority}
    ours = {versions.name, *still_ours(store, old, versions.name, settings.priority, place / "bases")}
    # a base module that somebody put there since is theirs: it is neither taken away nor replaced
    packages = {name: data for name, data in versions.packages(target).items() if name in ours or name not in present}
    ports = [PortLabel(one["protocol"], one["number"], one["type"]) for one in new.changes if one["kind"] == "port"]
    booleans = [BooleanValue(one["name"], one["on"]) for one in new.changes if one["kind"] == "boolean"]
    install(
        store,
        packages,
        settings.priority,
        place,
        remove=sorted((set(old.modules) - set(new.modules)) & present & ours),
        ports=target_ports(old, ports),
        booleans=target_booleans(old, booleans),
    )


def relabel(store: Store, old: Version, new: Version) -> None:
    """Label anew exactly the paths that either version names: the policy in the store says how. Only on the machine itself."""
    paths = {str(one["path"]) for version in (old, new) for one in version.changes if one["kind"] == "path"}
    there = sorted(path for path in paths if os.path.lexists(path))
    if store.live and there:
        # -F is left out: user, role and range stay. A path that begins with - cannot be: each begins with /
        process.run(["restorecon", "-v", *there], timeout=RELABEL_TIMEOUT_S)


def _wait_for_leftovers(place: str) -> None:
    """A semodule whose sepolicyd was killed goes on by itself, and could install after we have looked."""
    named = os.fsencode(place)
    # a transaction has its request on stdin, so that its arguments do not tell on what it works: each is waited for
    if place:
        inflight.wait_for(lambda words: inflight.TRANSACTION in words or any(named in word for word in words), place)


def _tidy(details: Mapping[str, Any]) -> None:
    """The private directory that the killed process has left in /tmp."""
    place = Path(str(details.get("workdir", "")))
    if place.parent == Path(gettempdir()) and place.name.startswith("sepolicyd-"):
        with suppress(OSError):
            if not place.is_symlink() and place.stat().st_uid == os.geteuid():
                shutil.rmtree(place, ignore_errors=True)
