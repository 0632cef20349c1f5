"""The `run` command: the daemon in the foreground, as systemd starts it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Optional

import click

from sepolicyd import profiles
from sepolicyd.cli.options import profile_option, settings_from, state_options
from sepolicyd.errors import UsageError


@click.command("run")
@click.option("--log", type=click.Path(path_type=Path), metavar="FILE", help="The audit log to follow.")
@click.option("--since", metavar="TIME", help="On the first start, ignore older records: epoch seconds or 2026-11-22T20:00.")
@click.option("--once", is_flag=True, help="Read to the end of the log and stop.")
@profile_option
@state_options
def run_command(
    log: Optional[Path],
    since: Optional[str],
    once: bool,
    profile_name: Optional[str],
    **paths: Optional[Path],
) -> int:
    """Follow the audit log and collect evidence (the daemon).

    Does not need root: it reads the log and writes evidence. It resumes where it stopped, across log rotations; rotated
    files that it has not read come first.

    \b
    Example:
      sepolicyd run --log /var/log/audit/audit.log
    """
    from sepolicyd.daemon import service

    settings = settings_from(**paths)
    if log is not None:
        settings = replace(settings, log=log.absolute())
    profile = profiles.load(profile_name or settings.profile, settings.policy_dirs)
    return service.run(settings, profile, since=None if since is None else moment(since), once=once)


def moment(text: str) -> float:
    """Return a time from the command line in epoch seconds.

    :raises UsageError: the text is neither a number nor an ISO 8601 date
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise UsageError(f"{text!r} is not a time", "give epoch seconds or a date such as 2026-11-22T20:00") from None
