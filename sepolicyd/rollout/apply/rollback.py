"""Back to a kept version, on request or at the end of a trial: one transaction, journalled like an apply."""

from __future__ import annotations

import time
import uuid
from typing import Optional

from sepolicyd.errors import RefusedError, SepolicydError
from sepolicyd.kernel.selinuxfs import SelinuxFs
from sepolicyd.module.build import workdir
from sepolicyd.module.store import Store, policy_is_mls
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rollout.apply import trial as trials
from sepolicyd.rollout.apply.desired import DesiredPolicy
from sepolicyd.rollout.apply.installed import standing
from sepolicyd.rollout.apply.journal import DONE, ApplyJournal, Operation
from sepolicyd.rollout.apply.lock import locked
from sepolicyd.rollout.apply.partial_return import keep_part, part_of
from sepolicyd.rollout.apply.recovery import Settled, finish, settle, to_version
from sepolicyd.rollout.apply.trial import running_trial
from sepolicyd.rollout.apply.verify import some, verify_kernel
from sepolicyd.rollout.apply.versions import NONE, Versions, rules_to
from sepolicyd.settings import MODULE_PREFIX, Settings

LEFT_OUT = "left out, for they were denied or taken back since"


class AlreadyThereError(RefusedError):
    """The store holds the version that is asked for."""


def rollback(
    settings: Settings,
    profile: str,
    *,
    by: str,
    to: Optional[int] = None,
    reason: str = "",
    still: Optional[DesiredPolicy] = None,
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
        for operation in ApplyJournal(settings.rollout_dir).open():
            settle(settings, operation)
        running = running_trial(settings)
        done = move(settings, MODULE_PREFIX + profile, to, kind="rollback", by=by, reason=reason, still=still)
        if running is not None and running.module == MODULE_PREFIX + profile:
            trials.remove_trial(settings)
            trials.disarm(running, settings)
        return done


def move(
    settings: Settings,
    module: str,
    to: Optional[int],
    *,
    kind: str,
    by: str,
    reason: str,
    still: Optional[DesiredPolicy] = None,
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
        at, journal = time.time(), ApplyJournal(settings.rollout_dir)
        operation = Operation(uuid.uuid4().hex[:12], {**details, "at": at})
        journal.plan(operation.id, at, details)
        kernel = SelinuxFs()
        loads = kernel.loads() if store.live and kernel.enabled() else -1
        try:
            to_version(settings, store, versions, held.number, target.number, place)
            store.realign()
            if loads >= 0:
                verify_kernel(kernel, loads, PolicyIndex.load(store.policy()))
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
