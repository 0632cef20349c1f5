"""End of a trial: `confirm` keeps the version, or the one-shot command run by systemd returns to the previous one."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Optional

from sepolicyd import process
from sepolicyd import settings as configuration
from sepolicyd.errors import RefusedError, SepolicydError
from sepolicyd.kernel.journal import MessageId, Priority
from sepolicyd.module.store import Store
from sepolicyd.rollout.apply import trial as trials
from sepolicyd.rollout.apply.announce import announce, say_in_unit
from sepolicyd.rollout.apply.installed_version import ForeignModuleError
from sepolicyd.rollout.apply.journal import ApplyJournal, Outcome
from sepolicyd.rollout.apply.lock import locked
from sepolicyd.rollout.apply.recovery import Settled, settle
from sepolicyd.rollout.apply.restorable_part import desired_of
from sepolicyd.rollout.apply.rollback import AlreadyThereError, Move, move
from sepolicyd.rollout.apply.trial import running_trial
from sepolicyd.rollout.apply.versions import Versions
from sepolicyd.rollout.history import Entry, History, HistoryEvent
from sepolicyd.settings import Settings

EXIT_DONE, EXIT_PENDING, EXIT_PERSON = 0, 3, 4
INFO = "<6>"  # sd-daemon(3): level prefix of lines on stderr


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the one-shot command. Returns 0 if done or nothing to do, 3 for a retry by systemd, 4 if a user must act first."""
    parser = argparse.ArgumentParser(description="End a trial of sepolicyd whose time is over.")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--module", default="", help="the module on trial, used if its records are gone")
    # ignore unknown options: another version of sepolicyd may have armed the timer
    given, _ = parser.parse_known_args(arguments)
    # an error in the configuration must not keep an unconfirmed module loaded
    settings = Settings(**{key: value for key, value in (("state", given.state), ("root", given.root)) if value is not None})
    with suppress(SepolicydError):
        config = given.config if given.config is not None and given.config.exists() else None
        settings = configuration.load(config, state=given.state, root=given.root)
    try:
        settled = end_trial(settings) or _end_forgotten(settings, given.module)
    except SepolicydError as error:
        _could_not(settings, str(error))
        return EXIT_PERSON if isinstance(error, ForeignModuleError) else EXIT_PENDING
    except Exception as error:  # noqa: BLE001 a bug is reported and tried again like any other failure
        _could_not(settings, f"{type(error).__name__}: {error}")
        return EXIT_PENDING
    trials.remove_problem(settings)
    if settled is not None:
        _say(settings, Priority.NOTICE, settled.text)
    return EXIT_DONE


def _end_forgotten(settings: Settings, module: str) -> Optional[Settled]:
    """Remove a module on trial whose records are gone (the state directory was removed).

    Since `confirm` stops this timer, the module has not been confirmed. Existing records take precedence.
    """
    if not module or Versions(settings.rollout_dir, module).directory.exists():
        return None
    store = Store(settings.root)
    if not any((one.name, one.priority) == (module, settings.priority) for one in store.modules()):
        return None
    store.install([], settings.priority, remove=[module])
    return _over(settings, "", f"{module} was on trial without confirmation, and its records are gone: it was removed")


def _over(settings: Settings, operation: str, text: str) -> Settled:
    """Return the end of a trial without a change of versions (that is announced where it is recorded)."""
    announce(settings, text, MessageId.TRIAL_RETURNED)
    return Settled(operation, Outcome.DONE, text)


def _could_not(settings: Settings, reason: str) -> None:
    """Report a failure at the first of the timer's attempts; `doctor` and `status` show it until it is resolved."""
    text = f"a module on trial could not be rolled back: {reason}"
    if trials.problem(settings) == text:
        sys.stderr.write(f"{INFO if 'INVOCATION_ID' in os.environ else ''}sepolicyd: {text}\n")
        return
    announce(settings, text, MessageId.TRIAL_NOT_RETURNED, Priority.CRITICAL)
    _say(settings, Priority.CRITICAL, text)
    with suppress(SepolicydError):
        trials.write_problem(settings, text)


def _say(settings: Settings, priority: Priority, text: str) -> None:
    say_in_unit(settings, text, priority)
    if settings.alert_command:
        with suppress(SepolicydError):
            process.run([*settings.alert_command, text], timeout=30)


def confirm(settings: Settings, *, by: str) -> trials.Trial:
    """Keep the version that is on trial.

    :raises RefusedError: no version is on trial, or the deadline has passed
    """
    with locked(settings):
        for operation in ApplyJournal(settings.rollout_dir).open():
            settle(settings, operation)
        trial = running_trial(settings)
        if trial is None:
            raise RefusedError("no version is on trial", "see: sepolicyd history")
        ended = end_trial_locked(settings)
        if ended is not None:
            raise RefusedError(f"the deadline has passed: {ended.text}", "run: sepolicyd apply --confirm-within")
        # history first: a crash in between leaves the trial, which can be confirmed again
        History(settings.rollout_dir).add(
            Entry(
                HistoryEvent.CONFIRM,
                by,
                time.time(),
                trial.module,
                trial.version,
                trial.operation,
                {"return_to": trial.return_to},
            )
        )
        trials.remove_trial(settings)
        trials.disarm(trial, settings)
        text = f"version {trial.version} of {trial.module} was confirmed by {by} and stays"
        announce(settings, text, MessageId.TRIAL_CONFIRMED, profile=trial.profile)
        return trial


def end_trial(settings: Settings, *, even_if_not_due: bool = False) -> Optional[Settled]:
    """Return to the previous version if the trial is over.

    :raises SepolicydError: the return failed; the trial stays open for the next attempt
    """
    with locked(settings):
        for operation in ApplyJournal(settings.rollout_dir).open():
            settle(settings, operation)
        return end_trial_locked(settings, even_if_not_due=even_if_not_due)


def end_trial_locked(settings: Settings, *, even_if_not_due: bool = False) -> Optional[Settled]:
    """Do the work of :func:`end_trial` for a caller that holds the lock."""
    trial = running_trial(settings)
    if trial is None or not (even_if_not_due or trial.is_due(trials.now())):
        return None
    versions = Versions(settings.rollout_dir, trial.module)
    if versions.current() == trial.version:
        never_more = desired_of(versions.load(trial.version))
        try:
            settled = move(
                settings,
                Move(trial.module, trial.return_to, HistoryEvent.RETURN, "sepolicyd", "it was not confirmed", never_more),
            )
        except AlreadyThereError as error:  # the module was removed by another program
            versions.set_current(trial.return_to)
            settled = _over(settings, trial.operation, f"it was not confirmed, but {error.what}")
    else:
        settled = _over(settings, trial.operation, f"version {trial.version} of {trial.module} is no longer installed")
    trials.remove_trial(settings)
    trials.disarm(trial, settings)
    return settled


if __name__ == "__main__":
    raise SystemExit(main())
