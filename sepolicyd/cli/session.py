"""Open the session of one command: read the settings, load the profile, finish what a crash interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from sepolicyd import profiles
from sepolicyd.cli import terminal
from sepolicyd.cli.options import settings_from
from sepolicyd.errors import SepolicydError
from sepolicyd.rollout.session import Session
from sepolicyd.settings import Settings


def open_session(
    profile_name: Optional[str], config: Optional[Path] = None, state: Optional[Path] = None, root: Optional[Path] = None
) -> Session:
    """Return the session of a command after recovering from an interrupted change.

    :raises UsageError: a mistake in the configuration or the profile
    """
    settings = settings_from(config, state, root)
    session = Session(settings, profiles.load(profile_name or settings.profile, settings.policy_dirs))
    _settle(settings)
    return session


def _settle(settings: Settings) -> None:
    """Complete or roll back a change that a crash interrupted. Report a recovery that fails; the next command tries again."""
    if not settings.rollout_dir.is_dir():
        return
    from sepolicyd.rollout.apply.pipeline import recover

    try:
        for settled in recover(settings):
            terminal.print_err(f"sepolicyd: {terminal.escape(settled.text)}")
    except SepolicydError as failure:
        terminal.print_err(f"sepolicyd: an interrupted change is still open: {terminal.escape(str(failure))}")
