"""The `doctor` command: check this machine for conditions that would spoil a rollout, and print the repair of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Optional

import click

from sepolicyd.cli import terminal
from sepolicyd.cli.options import json_option, profile_option, settings_from, state_options
from sepolicyd.cli.session import open_session
from sepolicyd.errors import Exit
from sepolicyd.problems import Problem, Severity
from sepolicyd.rollout.doctor import examine
from sepolicyd.rollout.doctor.baseline import BaselineCheck, CheckReport, CheckResult, run_checks, worst
from sepolicyd.rollout.doctor.gather_baseline import gather_baseline

SCHEMA_VERSION = 1
WORDS = {Severity.STOP: ("must fix", "red"), Severity.WARN: ("warning", "yellow"), Severity.NOTE: ("note", "cyan")}
RESULT_COLOURS = {CheckResult.PASS: "green", CheckResult.FAIL: "red", CheckResult.UNKNOWN: "yellow"}
BASELINE_EXITS = {CheckResult.PASS: Exit.DONE, CheckResult.FAIL: Exit.FINDINGS, CheckResult.UNKNOWN: Exit.TOOL_FAILED}
LEVELS = {Severity.STOP: "stop", Severity.WARN: "warn", Severity.NOTE: "note"}


@click.command("doctor")
@click.option("--baseline", is_flag=True, help="Answer the checks of security baselines instead, for the whole machine.")
@click.option(
    "--check",
    "names",
    multiple=True,
    type=click.Choice([check.value for check in BaselineCheck]),
    help="Answer this check of --baseline only; may be repeated.",
)
@json_option
@profile_option
@state_options
def doctor_command(
    baseline: bool, names: Sequence[str], as_json: bool, profile_name: Optional[str], **paths: Optional[Path]
) -> int:
    """Check the machine for problems that would impair a rollout, and show the fix for each.

    Exit code 1 if a problem must be fixed before a rollout.

    With --baseline it answers what security baselines ask of any machine: exit code 0 if every check passes, 1 if one
    fails, 3 if none fails but one could not be answered. It changes nothing and needs no profile; run it as root.

    \b
    Example:
      sepolicyd doctor
      sepolicyd doctor --baseline --json
    """
    if baseline or names:
        reports = run_checks(gather_baseline(settings_from(**paths)), [BaselineCheck.named(name) for name in names])
        if as_json:
            terminal.print_json(baseline_document(reports))
        else:
            _print_baseline(reports)
        return int(BASELINE_EXITS[worst(reports)])
    session = open_session(profile_name, **paths)
    problems = examine.examine(session.settings, session.profile)
    if as_json:
        terminal.print_json(problems_document(session.profile.name, problems))
    else:
        _print_problems(problems)
    return int(Exit.FINDINGS if any(one.level is Severity.STOP for one in problems) else Exit.DONE)


def problems_document(profile: str, problems: Iterable[Problem]) -> dict[str, Any]:
    """Return the JSON of doctor; policies/schema/doctor.schema.json describes it."""
    return {
        "schema": SCHEMA_VERSION,
        "profile": profile,
        "problems": [
            {"code": str(one.code), "level": LEVELS[one.level], "what": one.what, "mend": one.hint} for one in problems
        ],
    }


def baseline_document(reports: Sequence[CheckReport]) -> dict[str, Any]:
    """Return the JSON of doctor --baseline; policies/schema/doctor.schema.json describes it."""
    return {
        "schema": SCHEMA_VERSION,
        "result": worst(reports).value,
        "checks": [
            {
                "check": report.check.value,
                "requirement": report.check.requirement,
                "controls": list(report.check.controls),
                "result": report.result.value,
                "findings": [{"object": one.name, "what": one.what, "mend": one.hint} for one in report.findings],
                "notes": list(report.notes),
            }
            for report in reports
        ],
    }


def _print_problems(problems: Sequence[Problem]) -> None:
    for problem in problems:
        word, colour = WORDS[problem.level]
        terminal.print_out(f"{terminal.style(word.ljust(9), fg=colour)} {problem.code} {terminal.escape(problem.what)}")
        if problem.hint:
            terminal.print_out(f"          {terminal.escape(problem.hint)}")
    if not problems:
        terminal.print_err("nothing found")


def _print_baseline(reports: Sequence[CheckReport]) -> None:
    for report in reports:
        word = terminal.style(report.result.value.ljust(8), fg=RESULT_COLOURS[report.result])
        controls = f" [{'; '.join(report.check.controls)}]" if report.check.controls else ""
        terminal.print_out(f"{word} {report.check.value}: {report.check.requirement}{controls}")
        for finding in report.findings:
            hint = f" ({finding.hint})" if finding.hint else ""
            terminal.print_out(f"         {terminal.escape(finding.what + hint)}")
        for note in report.notes:
            terminal.print_out(f"         note: {terminal.escape(note)}")
