"""Crash recovery: complete or roll back an interrupted operation.

The decision depends on the store's actual content rather than on the journal's intent.
"""

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
from sepolicyd.kernel.journal import MessageId, Priority
from sepolicyd.module import surviving_semodule
from sepolicyd.module.build import workdir
from sepolicyd.module.store import Store
from sepolicyd.rollout.apply.announce import announce, announce_change
from sepolicyd.rollout.apply.changes_besides_modules import booleans_of, paths_of, ports_of, target_booleans, target_ports
from sepolicyd.rollout.apply.installed_version import find_installed, install, unchanged_bases
from sepolicyd.rollout.apply.journal import ApplyJournal, Operation, Outcome
from sepolicyd.rollout.apply.verify_loaded import verify_store
from sepolicyd.rollout.apply.versions import Version, Versions
from sepolicyd.rollout.history import Entry, History, HistoryEvent
from sepolicyd.settings import Settings

RELABEL_TIMEOUT_S = 600.0
ENFORCE = Path("/sys/fs/selinux/enforce")


@dataclass(frozen=True)
class Settled:
    """How an interrupted operation was settled."""

    operation: str
    how: Outcome
    text: str
    """One sentence for the user."""


def settle(settings: Settings, operation: Operation) -> Settled:
    """Complete an open operation, or roll it back. The caller holds the lock. Idempotent.

    :raises SepolicydError: neither is possible now; the operation stays open, and the next command retries
    """
    details = operation.details
    store = Store(settings.root)
    _wait_for_leftovers(str(details.get("workdir", "")))
    store.wait_for_lock()
    store.mend()
    versions = Versions(settings.rollout_dir, str(details["module"]))
    origin, target = int(details["from"]), int(details["to"])
    with workdir("settle") as place:
        installed = find_installed(store, versions, settings.priority, place / "held").version.number
        if installed == target and target != origin:
            return _finish_or_undo(settings, store, versions, operation, place)
    store.realign()
    _tidy(details)
    text = f"{details['kind']} of {versions.name} version {target} was interrupted before the store changed"
    if installed != origin:
        text += f"; another program has installed version {installed} since"
    return close(settings, operation, Outcome.UNDONE, text)


def _finish_or_undo(settings: Settings, store: Store, versions: Versions, operation: Operation, place: Path) -> Settled:
    details = operation.details
    origin, target = int(details["from"]), int(details["to"])
    try:
        store.realign()
        if store.live and ENFORCE.exists():
            process.run(["load_policy"])  # the store may have been swapped without a load
        if details.get("linked_policy"):
            verify_store(store, str(details["linked_policy"]), None)
    except SepolicydError as error:
        to_version(settings, store, versions, target, origin, place)
        versions.set_current(origin)
        relabel(store, versions.load(target), versions.load(origin))
        _tidy(details)
        return close(settings, operation, Outcome.UNDONE, f"version {target} of {versions.name} was rolled back: {error.what}")
    finish(settings, versions, operation)
    _tidy(details)
    return Settled(
        operation.id, Outcome.DONE, f"version {target} of {versions.name} was in the store; its records have been completed"
    )


def finish(settings: Settings, versions: Versions, operation: Operation) -> None:
    """Write the records of an operation whose version is installed and verified. Idempotent.

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
    ApplyJournal(settings.rollout_dir).end(operation.id, time.time(), Outcome.DONE)
    announce_change(settings, details)


def close(settings: Settings, operation: Operation, how: Outcome, text: str) -> Settled:
    """End an operation in the journal."""
    ApplyJournal(settings.rollout_dir).end(operation.id, time.time(), how, {"why": text})
    announce(settings, text, MessageId.POLICY_CHANGE_UNDONE, Priority.WARNING)
    return Settled(operation.id, how, text)


def to_version(settings: Settings, store: Store, versions: Versions, origin: int, target: int, place: Path) -> None:
    """Install another version in one transaction; version 0 removes sepolicyd's modules.

    :raises ToolError: nothing has been changed
    :raises StateError: a kept package is damaged
    """
    old, new = versions.load(origin), versions.load(target)
    modules = store.modules()
    present = {module.name for module in modules if module.priority == settings.priority}
    own_modules = {versions.name, *unchanged_bases(store, modules, old, versions.name, settings.priority, place / "bases")}
    # a base module installed by another program since then is neither removed nor replaced
    packages = {name: data for name, data in versions.packages(target).items() if name in own_modules or name not in present}
    install(
        store,
        packages,
        settings.priority,
        place,
        remove=sorted((set(old.modules) - set(new.modules)) & present & own_modules),
        ports=target_ports(old.changes, ports_of(new.changes)),
        booleans=target_booleans(old.changes, booleans_of(new.changes)),
    )


def relabel(store: Store, old: Version, new: Version) -> None:
    """Relabel exactly the paths of both versions according to the store's policy. Only on this machine."""
    paths = {*paths_of(old.changes), *paths_of(new.changes)}
    existing = sorted(path for path in paths if os.path.lexists(path))
    if store.live and existing:
        # without -F, so that user, role and range are kept; every path begins with "/", so none looks like an option
        process.run(["restorecon", "-v", *existing], timeout=RELABEL_TIMEOUT_S)


def _wait_for_leftovers(place: str) -> None:
    """Wait for a semodule that outlived its killed sepolicyd and could still change the store."""
    named = os.fsencode(place)
    # a transaction reads its request from stdin, so its arguments do not name the directory: wait for all of them
    if place:
        surviving_semodule.wait_for(
            lambda words: surviving_semodule.TRANSACTION in words or any(named in word for word in words), place
        )


def _tidy(details: Mapping[str, Any]) -> None:
    """Remove the private directory of the killed process."""
    place = Path(str(details.get("workdir", "")))
    if place.parent == Path(gettempdir()) and place.name.startswith("sepolicyd-"):
        with suppress(OSError):
            if not place.is_symlink() and place.stat().st_uid == os.geteuid():
                shutil.rmtree(place, ignore_errors=True)
