"""The one-shot that systemd runs at the end of a trial: a version that nobody confirmed goes, the earlier one returns."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Optional

from sepolicyd import process
from sepolicyd import settings as configuration
from sepolicyd.errors import SepolicydError
from sepolicyd.module.store import Store
from sepolicyd.rollout.apply import trial as trials
from sepolicyd.rollout.apply.installed import ForeignModuleError
from sepolicyd.rollout.apply.journal import DONE
from sepolicyd.rollout.apply.recovery import Settled
from sepolicyd.rollout.apply.rollback import end_trial
from sepolicyd.rollout.apply.versions import Versions
from sepolicyd.settings import Settings

EXIT_DONE, EXIT_PENDING, EXIT_PERSON = 0, 3, 4
CRITICAL, NOTICE, INFO = "<2>", "<5>", "<6>"  # sd-daemon(3): how a line on stderr tells the journal its level


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Exit code 0: done or nothing to do; 3: not possible now, systemd tries again; 4: a person must do something first."""
    parser = argparse.ArgumentParser(description="End a trial of sepolicyd that is over.")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--module", default="", help="the module whose timer this is, for when its records are gone")
    # a timer that an earlier or a later version has armed must end its trial all the same
    given, _ = parser.parse_known_args(arguments)
    # a mistake in the configuration must not keep an unconfirmed module loaded
    settings = Settings(**{key: value for key, value in (("state", given.state), ("root", given.root)) if value is not None})
    with suppress(SepolicydError):
        config = given.config if given.config is not None and given.config.exists() else None
        settings = configuration.load(config, state=given.state, root=given.root)
    try:
        settled = end_trial(settings) or _end_forgotten(settings, given.module)
    except SepolicydError as error:
        _could_not(settings, str(error))
        return EXIT_PERSON if isinstance(error, ForeignModuleError) else EXIT_PENDING
    except Exception as error:  # noqa: BLE001 a fault of our own is shouted about like any other, and tried again
        _could_not(settings, f"{type(error).__name__}: {error}")
        return EXIT_PENDING
    trials.remove_problem(settings)
    if settled is not None:
        _say(settings, NOTICE, settled.text)
    return EXIT_DONE


def _end_forgotten(settings: Settings, module: str) -> Optional[Settled]:
    """The records of a module on trial are gone (somebody removed the state directory): unconfirmed as it is, it goes.

    `confirm` stops this timer, and as long as there are records they tell what is to be done.
    """
    if not module or Versions(settings.rollout_dir, module).directory.exists():
        return None
    store = Store(settings.root)
    if not any((one.name, one.priority) == (module, settings.priority) for one in store.modules()):
        return None
    store.install([], settings.priority, remove=[module])
    return Settled("", DONE, f"{module} was on trial and its records are gone: it was removed, as nobody had confirmed it")


def _could_not(settings: Settings, reason: str) -> None:
    """Once: this runs each minute, and who was told need not be told again. `doctor` and `status` show it until it is over."""
    text = f"a module on trial could not be taken back: {reason}"
    if trials.problem(settings) == text:
        sys.stderr.write(f"{_prefix(INFO)}sepolicyd: {text}\n")
        return
    _say(settings, CRITICAL, text)
    with suppress(SepolicydError):
        trials.write_problem(settings, text)


def _prefix(level: str) -> str:
    return level if "INVOCATION_ID" in os.environ else ""


def _say(settings: Settings, level: str, text: str) -> None:
    sys.stderr.write(f"{_prefix(level)}sepolicyd: {text}\n")
    if settings.alert_command:
        with suppress(SepolicydError):
            process.run([*settings.alert_command, text], timeout=30)


if __name__ == "__main__":
    raise SystemExit(main())
