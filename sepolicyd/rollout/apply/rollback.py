"""Back to a kept version, on request or at the end of a trial: one transaction, journalled like an apply."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

from sepolicyd.errors import RefusedError, SepolicydError, StateError
from sepolicyd.kernel.selinuxfs import SelinuxFs
from sepolicyd.module.build import workdir
from sepolicyd.module.store import Store, policy_is_mls
from sepolicyd.policy.index import Oracle
from sepolicyd.rollout.apply import trial as trials
from sepolicyd.rollout.apply.desired import Wanted
from sepolicyd.rollout.apply.installed import standing
from sepolicyd.rollout.apply.journal import DONE, Journal, Operation
from sepolicyd.rollout.apply.partial_return import keep_part, part_of, wanted_of
from sepolicyd.rollout.apply.recovery import Settled, finish, settle, to_version
from sepolicyd.rollout.apply.verify import some, verify_kernel
from sepolicyd.rollout.apply.versions import NONE, Versions, rules_to
from sepolicyd.rollout.history import Entry, History
from sepolicyd.settings import MODULE_PREFIX, Settings
from sepolicyd.storage.files import exclusive, refuse_unsafe

LOCK = "apply.lock"
BUSY = "is changing the policy"
LEFT_OUT = "left out, for they were denied or taken back since"


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """The one lock of all that changes the policy.

    :raises RefusedError: another command holds it, or on the machine itself: others than root can change what is kept
    """
    if settings.live:
        refuse_unsafe(settings.rollout_dir)
    with exclusive(settings.rollout_dir / LOCK, BUSY):
        yield


class AlreadyThereError(RefusedError):
    """The store holds the version that is asked for."""


def rollback(
    settings: Settings,
    profile: str,
    *,
    by: str,
    to: Optional[int] = None,
    reason: str = "",
    still: Optional[Wanted] = None,
) -> Settled:
    """Put a kept version back: modules, ports and booleans in one transaction, then the labels of the same paths.

    :param to: the version, 0 for none of ours; by default the one that stood before the present one
    :param still: what the standing decisions ask: what else the version holds was denied or taken back since, and is left
        out, which the text says; None brings the version back as it was
    :raises RefusedError: nothing of ours is in the store, or it is that version already
    :raises StateError: no such version, or its package is damaged
    :raises ToolError: nothing has been changed
    """
    with locked(settings):
        for operation in Journal(settings.rollout_dir).open():
            settle(settings, operation)
        running = _running(settings)
        done = move(settings, MODULE_PREFIX + profile, to, kind="rollback", by=by, reason=reason, still=still)
        if running is not None and running.module == MODULE_PREFIX + profile:
            trials.remove_trial(settings)
            trials.disarm(running, settings)
        return done


def confirm(settings: Settings, *, by: str) -> trials.Trial:
    """Keep the version that is on trial.

    :raises RefusedError: none is, or its time is over
    """
    with locked(settings):
        for operation in Journal(settings.rollout_dir).open():
            settle(settings, operation)
        trial = _running(settings)
        if trial is None:
            raise RefusedError("no version is on trial", "`sepolicyd history` shows what became of it")
        ended = end_trial_locked(settings)
        if ended is not None:
            raise RefusedError(f"too late: {ended.text}", "sepolicyd apply --confirm-within gives another window")
        # the history first: a crash between leaves the trial, which can be confirmed again
        History(settings.rollout_dir).add(
            Entry("confirm", by, time.time(), trial.module, trial.version, trial.operation, {"return_to": trial.return_to})
        )
        trials.remove_trial(settings)
        trials.disarm(trial, settings)
        return trial


def end_trial(settings: Settings, *, even_if_not_due: bool = False) -> Optional[Settled]:
    """What the timer runs: return to the earlier version if the trial is over.

    :raises SepolicydError: it could not be done; the trial stays, and the next try does it
    """
    with locked(settings):
        for operation in Journal(settings.rollout_dir).open():
            settle(settings, operation)
        return end_trial_locked(settings, even_if_not_due=even_if_not_due)


def end_trial_locked(settings: Settings, *, even_if_not_due: bool = False) -> Optional[Settled]:
    """:func:`end_trial` for a caller that holds the lock."""
    trial = _running(settings)
    if trial is None or not (even_if_not_due or trial.is_due(trials.now())):
        return None
    versions = Versions(settings.rollout_dir, trial.module)
    if versions.current() == trial.version:
        never_more = wanted_of(versions.load(trial.version))
        try:
            settled = move(
                settings, trial.module, trial.return_to,
                kind="return", by="sepolicyd", reason="nobody confirmed it", still=never_more,
            )  # fmt: skip
        except AlreadyThereError as error:  # our module was removed by hand
            versions.set_current(trial.return_to)
            settled = Settled(trial.operation, DONE, f"nobody confirmed it, but {error.what}")
    else:
        settled = Settled(trial.operation, DONE, f"version {trial.version} of {trial.module} was not kept anyway")
    trials.remove_trial(settings)
    trials.disarm(trial, settings)
    return settled


def _running(settings: Settings) -> Optional[trials.Trial]:
    """The trial that runs. One whose file is damaged is over: the journal tells what was on trial, and that goes.

    :raises StateError: the file is damaged, and the journal knows of no trial
    """
    try:
        return trials.read_trial(settings)
    except StateError:
        for operation in reversed(Journal(settings.rollout_dir).operations()):
            given = operation.details
            if given.get("kind") == "apply" and given.get("history", {}).get("confirm_within"):
                names = (str(given.get("profile", "")), str(given["module"]))
                return trials.Trial(*names, int(given["to"]), int(given["from"]), str(given["by"]), 0.0, 0.0, "", operation.id)
        raise


def move(
    settings: Settings, module: str, to: Optional[int], *, kind: str, by: str, reason: str, still: Optional[Wanted] = None
) -> Settled:
    """One journalled transaction from the version in the store to another; the caller holds the lock."""
    store, versions = Store(settings.root), Versions(settings.rollout_dir, module)
    store.check()
    store.wait_for_lock()
    with workdir(kind) as place:
        held = standing(store, versions, settings.priority, place / "held").version
        target = versions.load(held.parent if to is None else to)
        kept = ", ".join(map(str, versions.numbers())) or "none, nothing was ever applied"
        if to is None and held.number == NONE:
            raise RefusedError(
                f"no version of {module} is in the store, so that there is none to go back from",
                f"sepolicyd rollback --to VERSION brings one of these back: {kept}",
            )
        if held.number == target.number:
            raise AlreadyThereError(f"{module} is at version {held.number} already", f"versions kept: {kept}")
        versions.packages(target.number)
        left_out: tuple[str, ...] = ()
        if still is not None:
            part = part_of(target, still)
            left_out = part.left_out
            if left_out:
                mls = policy_is_mls(store.policy())
                target = keep_part(versions, target, part, versions.next(), place / "part", mls=mls)
        details = {
            "kind": kind,
            "module": module,
            "from": held.number,
            "to": target.number,
            "linked_policy": "",
            "workdir": str(place),
            "by": by,
            "history": {
                "previous": held.number,
                "reason": reason,
                "left_out": list(left_out),
                "added_rules": rules_to(set(target.rules) - set(held.rules)),
                "dropped_rules": rules_to(set(held.rules) - set(target.rules)),
            },
        }
        at, journal = time.time(), Journal(settings.rollout_dir)
        operation = Operation(uuid.uuid4().hex[:12], {**details, "at": at})
        journal.plan(operation.id, at, details)
        kernel = SelinuxFs()
        loads = kernel.loads() if store.live and kernel.enabled() else -1
        try:
            to_version(settings, store, versions, held.number, target.number, place)
            store.realign()
            if loads >= 0:
                verify_kernel(kernel, loads, Oracle.load(store.policy()))
        except SepolicydError:
            settle(settings, operation)
            raise
        finish(settings, versions, operation)
        back, gone = len(set(target.rules) - set(held.rules)), len(set(held.rules) - set(target.rules))
        text = f"{module} went from version {held.number or 'none'} to {target.number or 'none'}"
        text += f": {back} rules came back, {gone} went"
        if left_out:
            text += f"; {LEFT_OUT}: {some(left_out)}"
        return Settled(operation.id, DONE, text)
