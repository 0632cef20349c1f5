"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional, TypeVar

import click

from sepolicyd import settings as settings_file
from sepolicyd.settings import Settings

Function = TypeVar("Function", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON (keys: docs/json.md).")
sarif_option = click.option("--sarif", "as_sarif", is_flag=True, help="Print SARIF 2.1.0, for code hosts.")
profile_option = click.option(
    "--profile", "profile_name", metavar="NAME|FILE", help="The service's profile, by name or file [default: as configured]."
)
policy_option = click.option(
    "--policy",
    "policy_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Assess against this kernel policy instead of the machine's own.",
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation; required without a terminal.")
reason_option = click.option("--reason", default="", metavar="TEXT", help="Reason, kept in the history.")


def state_options(function: Function) -> Function:
    """Add --config, --state and --root."""
    for option in (
        click.option(
            "--root",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Work on the policy store below this directory, not on the machine's own.",
        ),
        click.option(
            "--state", type=click.Path(path_type=Path), metavar="DIR", help="Directory of evidence, decisions and journals."
        ),
        click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file."),
    ):
        function = option(function)
    return function


def settings_from(config: Optional[Path], state: Optional[Path], root: Optional[Path]) -> Settings:
    """Return the settings of a command. Paths become absolute because they are written into units and journals."""
    return settings_file.load(
        config,
        state=None if state is None else state.absolute(),
        root=None if root is None else root.absolute(),
    )
