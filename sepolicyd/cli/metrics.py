"""The `metrics` command: the state of the rollout in Prometheus' text format."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from sepolicyd import profiles
from sepolicyd.cli import terminal
from sepolicyd.cli.options import profile_option, settings_from, state_options
from sepolicyd.errors import Exit
from sepolicyd.rollout.metrics.gather import gather_metrics, write_metrics
from sepolicyd.rollout.metrics.metrics import metrics_text
from sepolicyd.rollout.session import Session


@click.command("metrics")
@click.option("--write", is_flag=True, help="Write metrics_file of the configuration instead of printing.")
@profile_option
@state_options
def metrics_command(write: bool, profile_name: Optional[str], **paths: Optional[Path]) -> int:
    """Print the state of the rollout for Prometheus, or write it to a file.

    sepolicyd-metrics.timer runs this with --write each minute, for node_exporter's textfile collector. It changes nothing
    else. What cannot be read is left out and reported, with exit code 1. docs/monitoring.md lists the metrics.

    \b
    Example:
      sepolicyd metrics
      sepolicyd metrics --write
    """
    settings = settings_from(**paths)
    # without the recovery of open_session(): watching changes nothing
    session = Session(settings, profiles.load(profile_name or settings.profile, settings.policy_dirs))
    facts, problems = gather_metrics(session)
    text = metrics_text(facts)
    if write:
        write_metrics(settings.metrics_file, text)
    else:
        terminal.print_out(text.rstrip("\n"))
    for problem in problems:
        terminal.print_err(f"sepolicyd: {terminal.escape(problem)}")
    return int(Exit.FINDINGS if problems else Exit.DONE)
