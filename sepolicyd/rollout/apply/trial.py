"""Record and timer of a trial: the deadline for confirming a version, and the version that returns otherwise."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Optional

from sepolicyd import process
from sepolicyd.errors import StateError
from sepolicyd.rollout.apply.journal import ApplyJournal
from sepolicyd.rollout.clock import Deadline, Moment, SystemClock
from sepolicyd.settings import Settings
from sepolicyd.storage.files import cannot_write, sync_directory, write_whole

FILE, PROBLEM = "trial.json", "trial.problem"
ONE_SHOT = "sepolicyd.rollout.apply.end_trial"


@dataclass(frozen=True)
class Trial:
    """One trial. ``version`` stays if it is confirmed before the deadline; otherwise ``return_to`` is installed.

    ``return_to`` allows only accesses that ``version`` also allows: if the previous version allowed more, ``return_to`` is the
    intersection. The deadline uses two clocks, as for a lease.
    """

    profile: str
    module: str
    version: int
    return_to: int
    by: str
    deadline_wall: float
    deadline_boottime: float
    boot_id: str
    operation: str

    @property
    def deadline(self) -> Deadline:
        """The deadline for confirmation; a reboot ends the trial earlier."""
        return Deadline(self.deadline_wall, self.deadline_boottime, self.boot_id)

    def is_due(self, now: Moment) -> bool:
        """Tell whether the deadline has passed."""
        return self.deadline.is_due(now)

    def remaining(self, now: Moment) -> float:
        """Return the seconds left, 0 if due."""
        return self.deadline.remaining(now)


def now() -> Moment:
    return SystemClock().now()


def read_trial(settings: Settings) -> Optional[Trial]:
    """Return the running trial, None without one.

    :raises StateError: the file is damaged
    """
    path = settings.rollout_dir / FILE
    try:
        return Trial(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StateError(f"{path} cannot be read: {error}", "remove it if there is no trial; see: sepolicyd history") from None


def write_trial(settings: Settings, trial: Trial) -> None:
    """Write the record of the running trial.

    :raises StateError: the record could not be written
    """
    write_whole(settings.rollout_dir / FILE, (json.dumps(asdict(trial), sort_keys=True, indent=1) + "\n").encode())


def remove_trial(settings: Settings) -> None:
    """Remove the record of the trial. Idempotent."""
    path = settings.rollout_dir / FILE
    try:
        if path.exists():
            path.unlink()
            sync_directory(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def problem(settings: Settings) -> str:
    """Return the reason why the last attempt to end an expired trial failed, "" without a failure."""
    try:
        return (settings.rollout_dir / PROBLEM).read_text(encoding="utf-8") if (settings.rollout_dir / FILE).exists() else ""
    except (OSError, ValueError):
        return ""


def write_problem(settings: Settings, text: str) -> None:
    """Record why an expired trial could not be ended.

    :raises StateError: the reason could not be written
    """
    write_whole(settings.rollout_dir / PROBLEM, text.encode())


def remove_problem(settings: Settings) -> None:
    """Remove the recorded reason. Idempotent."""
    with suppress(OSError):
        (settings.rollout_dir / PROBLEM).unlink()


def unit_of(trial: Trial) -> str:
    return f"sepolicyd-trial-{trial.operation}"


def argv_arm(trial: Trial, settings: Settings, seconds: float) -> list[str]:
    """Return the systemd-run command for a trial's timer.

    One timer covers both clocks. systemd restarts the service while it fails (Restart= for Type=oneshot, systemd 244).
    """
    properties = ("Type=oneshot", "Restart=on-failure", "RestartPreventExitStatus=4", "RestartSec=20s", "TimeoutStartSec=30min")
    argv = ["systemd-run", f"--unit={unit_of(trial)}", "--description=End of a trial of sepolicyd", "--quiet"]
    # rounded up: a timer that fires a fraction of a second early finds nothing due, and does not fire again
    argv += [f"--on-active={max(1, math.ceil(seconds))}s", f"--on-calendar=@{math.ceil(trial.deadline_wall)}"]
    argv += ["--timer-property=AccuracySec=1s", *(f"--property={text}" for text in properties)]
    argv += [f"--setenv={key}={value}" for key, value in process.module_environment().items()]
    command = [*process.module_argv(ONE_SHOT), "--state", str(settings.state), "--config", str(settings.config)]
    return [*argv, "--", *command, "--module", trial.module]


def arm(trial: Trial, settings: Settings, seconds: float) -> None:
    """Arm a systemd timer that ends the trial independently of sepolicyd. Below another root, the next command ends it.

    :raises ToolError: the timer could not be armed
    """
    if settings.live:
        process.run(argv_arm(trial, settings, seconds), timeout=60)


def disarm(trial: Trial, settings: Settings) -> None:
    """Stop the trial's timer; a timer that is not armed is not an error."""
    if settings.live:
        process.run(["systemctl", "stop", f"{unit_of(trial)}.timer"], ok=range(256), timeout=60)


def running_trial(settings: Settings) -> Optional[Trial]:
    """Return the running trial. If its file is damaged, the trial counts as expired, and its version is read from the journal.

    :raises StateError: the file is damaged, and the journal contains no trial
    """
    try:
        return read_trial(settings)
    except StateError:
        for operation in reversed(ApplyJournal(settings.rollout_dir).operations()):
            given = operation.details
            if given.get("kind") == "apply" and given.get("history", {}).get("confirm_within"):
                names = (str(given.get("profile", "")), str(given["module"]))
                return Trial(*names, int(given["to"]), int(given["from"]), str(given["by"]), 0.0, 0.0, "", operation.id)
        raise
