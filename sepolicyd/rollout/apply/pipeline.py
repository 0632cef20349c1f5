"""Entry points of `apply`: install a draft or a proved plan, and recover from interrupted operations.

:func:`recover` completes or rolls back an interrupted apply, depending on the store's actual content.
"""

from __future__ import annotations

import os
from typing import Optional, Union

from sepolicyd.errors import RefusedError
from sepolicyd.kernel.selinuxfs import SelinuxFs
from sepolicyd.rollout.apply import trial as trials
from sepolicyd.rollout.apply.end_trial import end_trial_locked
from sepolicyd.rollout.apply.execute import Applied, Execution, Order, now_allowed, refuse
from sepolicyd.rollout.apply.journal import ApplyJournal
from sepolicyd.rollout.apply.link_and_prove import Plan, proved_in_copy
from sepolicyd.rollout.apply.lock import BUSY, locked
from sepolicyd.rollout.apply.module_draft import Draft, OnStep
from sepolicyd.rollout.apply.recovery import Settled, settle
from sepolicyd.rollout.apply.verify_loaded import LoadedPolicy
from sepolicyd.rules.guard.policy_delta import Judge
from sepolicyd.settings import Settings


def recover(settings: Settings) -> list[Settled]:
    """Complete or roll back interrupted operations, and end an expired trial. Every command calls this first.

    :return: the settled operations; [] if there were none, or if another sepolicyd command is running
    :raises SepolicydError: an operation could not be settled and stays open
    """
    if not settings.rollout_dir.is_dir() or not os.access(settings.rollout_dir, os.W_OK):
        return []  # nothing was applied yet, or the user is not root
    journal = ApplyJournal(settings.rollout_dir)
    if not journal.open() and not (settings.rollout_dir / trials.FILE).exists():
        return []
    try:
        with locked(settings):
            return recover_locked(settings)
    except RefusedError as error:
        if BUSY in error.what:
            return []
        raise


def recover_locked(settings: Settings) -> list[Settled]:
    settled = [settle(settings, operation) for operation in ApplyJournal(settings.rollout_dir).open()]
    ended = end_trial_locked(settings)
    return settled + ([ended] if ended else [])


def apply(
    made: Union[Draft, Plan],
    settings: Settings,
    guard: Judge,
    order: Order,
    *,
    kernel: Optional[LoadedPolicy] = None,
    on_step: Optional[OnStep] = None,
) -> Applied:
    """Install a draft in one transaction, proving the policy between linking and installing.

    A Plan has already been proved in a copy: the transaction then checks that the store links the same policy.

    :raises RefusedError: the policy may not be loaded, or the store has changed since the draft; nothing has been changed
    :raises ToolError: a tool failed, or the result differs from the proved policy; the previous version is installed
    :raises StateError: a record cannot be written; the next command completes or rolls back from the journal
    """
    if isinstance(made, Plan):
        refuse(made)
    with locked(settings):
        recover_locked(settings)
        if made.empty:
            plan = made if isinstance(made, Plan) else proved_in_copy(made, settings, guard)
            refuse(plan)
            number = made.previous.number
            return Applied(number, number, changed=False, now_allowed=now_allowed(order, plan))
        running = trials.read_trial(settings)
        if running is not None:
            raise RefusedError(
                f"version {running.version} of {running.module} is on trial",
                "run: sepolicyd confirm, or: sepolicyd rollback",
            )
        return Execution(made, settings, guard, order, kernel or SelinuxFs(), on_step or (lambda _: None)).run()
