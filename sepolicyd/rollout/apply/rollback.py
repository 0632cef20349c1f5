"""Return to a kept version, on request or at the end of a trial, in one transaction that is journalled like an apply."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from sepolicyd.errors import RefusedError, SepolicydError
from sepolicyd.kernel.selinuxfs import SelinuxFs
from sepolicyd.module.build import workdir
from sepolicyd.module.store import Store, policy_is_mls
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.policy_files import LIVE_POLICY
from sepolicyd.rollout.apply import trial as trials
from sepolicyd.rollout.apply.desired_policy import DesiredPolicy
from sepolicyd.rollout.apply.installed_version import find_installed
from sepolicyd.rollout.apply.journal import ApplyJournal, Operation, Outcome
from sepolicyd.rollout.apply.lock import locked
from sepolicyd.rollout.apply.recovery import Settled, finish, settle, to_version
from sepolicyd.rollout.apply.restorable_part import keep_part, part_of
from sepolicyd.rollout.apply.trial import running_trial
from sepolicyd.rollout.apply.verify_loaded import shortlist, verify_kernel
from sepolicyd.rollout.apply.versions import NONE, Version, Versions, module_name, rules_to
from sepolicyd.rollout.history import HistoryEvent
from sepolicyd.rollout.session import load_policy
from sepolicyd.settings import Settings

LEFT_OUT = "left out, because they have been denied or reset since"


class AlreadyThereError(RefusedError):
    """The store already holds the requested version."""


@dataclass(frozen=True)
class Move:
    """A request to install another version of a module."""

    module: str
    to: Optional[int]
    """The version, 0 for no module; None for the one before the installed version."""
    kind: HistoryEvent
    """ROLLBACK or RETURN."""
    by: str
    reason: str = ""
    still: Optional[DesiredPolicy] = None
    """The policy that may be restored; the rest of the version is left out. None restores the whole version."""


def rollback(
    settings: Settings,
    profile: str,
    *,
    by: str,
    to: Optional[int] = None,
    reason: str = "",
    still: Optional[DesiredPolicy] = None,
) -> Settled:
    """Install a kept version: modules, ports and booleans in one transaction, then the labels of the same paths.

    :param to: the version, 0 for no module; by default the one before the installed version
    :param still: the policy of the decisions in force. Other content of the version has been denied or reset since; it is
        left out and named in the result. None restores the whole version.
    :raises RefusedError: no version is installed, or it is already that version
    :raises StateError: no such version, or its package is damaged
    :raises ToolError: nothing has been changed
    """
    with locked(settings):
        for operation in ApplyJournal(settings.rollout_dir).open():
            settle(settings, operation)
        running = running_trial(settings)
        module = module_name(profile)
        done = move(settings, Move(module, to, HistoryEvent.ROLLBACK, by, reason, still))
        if running is not None and running.module == module:
            trials.remove_trial(settings)
            trials.disarm(running, settings)
        return done


def move(settings: Settings, request: Move) -> Settled:
    """Run one journalled transaction from the installed version to another; the caller holds the lock.

    :raises AlreadyThereError: that version is installed
    """
    store, versions = Store(settings.root), Versions(settings.rollout_dir, request.module)
    store.check()
    store.wait_for_lock()
    with workdir(request.kind.value) as place:
        installed = find_installed(store, versions, settings.priority, place / "held").version
        target = _target(versions, installed, request)
        left_out: tuple[str, ...] = ()
        if request.still is not None:
            part = part_of(target, request.still)
            left_out = part.left_out
            if left_out:
                mls = policy_is_mls(store.policy())
                target = keep_part(versions, target, part, versions.next(), place / "part", mls=mls)
        operation = _planned(settings, request, installed, target, left_out, place)
        kernel = SelinuxFs()
        loads = kernel.loads() if store.live and kernel.enabled() else -1
        try:
            to_version(settings, store, versions, installed.number, target.number, place)
            store.realign()
            if loads >= 0:
                verify_kernel(kernel, loads, PolicyIndex.load(store.policy()), lambda: load_policy(settings, LIVE_POLICY))
        except SepolicydError:
            settle(settings, operation)
            raise
        finish(settings, versions, operation)
        return Settled(operation.id, Outcome.DONE, _summary(request.module, installed, target, left_out))


def _target(versions: Versions, installed: Version, request: Move) -> Version:
    """Return the version to install, with its packages checked.

    :raises RefusedError: no version is installed, or it is already that one
    :raises StateError: no such version, or its package is damaged
    """
    kept = ", ".join(map(str, versions.numbers())) or "none, since nothing was applied"
    target = versions.load(installed.parent if request.to is None else request.to)
    if request.to is None and installed.number == NONE:
        raise RefusedError(
            f"no version of {request.module} is installed, so there is no previous version",
            f"run: sepolicyd rollback --to VERSION; versions kept: {kept}",
        )
    if installed.number == target.number:
        raise AlreadyThereError(f"{request.module} is already at version {installed.number}", f"versions kept: {kept}")
    versions.packages(target.number)
    return target


def _planned(
    settings: Settings, request: Move, installed: Version, target: Version, left_out: Sequence[str], place: Path
) -> Operation:
    """Write the operation's first line to the journal, and return the operation."""
    details = {
        "kind": request.kind.value,
        "module": request.module,
        "from": installed.number,
        "to": target.number,
        "linked_policy": "",
        "workdir": str(place),
        "by": request.by,
        "history": {
            "previous": installed.number,
            "reason": request.reason,
            "left_out": list(left_out),
            "added_rules": rules_to(set(target.rules) - set(installed.rules)),
            "dropped_rules": rules_to(set(installed.rules) - set(target.rules)),
        },
    }
    at = time.time()
    operation = Operation(uuid.uuid4().hex[:12], {**details, "at": at})
    ApplyJournal(settings.rollout_dir).plan(operation.id, at, details)
    return operation


def _summary(module: str, installed: Version, target: Version, left_out: Sequence[str]) -> str:
    back, gone = len(set(target.rules) - set(installed.rules)), len(set(installed.rules) - set(target.rules))
    text = f"{module} went from version {installed.number or 'none'} to {target.number or 'none'}"
    text += f": {back} rules added, {gone} removed"
    return text + (f"; {LEFT_OUT}: {shortlist(left_out)}" if left_out else "")
