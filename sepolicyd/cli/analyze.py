"""analyze: log files in, candidates, JSON or a module's source out, without any state."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import click

from sepolicyd.audit.scan import ScanResult, scan_files, scan_stream
from sepolicyd.cli import as_json as keys
from sepolicyd.cli import render
from sepolicyd.cli.options import json_option, policy_option, profile_option, state_options
from sepolicyd.cli.screen import one_line, screen
from sepolicyd.cli.session import Session, Taken, judge, open_oracle, open_session, take
from sepolicyd.errors import UsageError
from sepolicyd.rules.assess import Assessed

PROGRESS_BYTES = 32 << 20
SHOWN_UNPARSED = 5


@click.command("analyze")
@click.argument("files", nargs=-1, metavar="[FILE|-]...")
@click.option("--all", "everything", is_flag=True, help="Take every denial, not only the profile's.")
@click.option("--te", is_flag=True, help="Print a module's source that allows what was found and not refused.")
@click.option("--name", default="local_candidates", metavar="NAME", help="The module's name for --te.")
@click.option("--details", is_flag=True, help="Show each candidate in full.")
@click.option("--unparsed", "show_unparsed", is_flag=True, help="List every line that could not be read.")
@json_option
@profile_option
@policy_option
@state_options
def analyze_command(
    files: tuple[str, ...],
    everything: bool,
    te: bool,
    name: str,
    details: bool,
    show_unparsed: bool,
    as_json: bool,
    profile_name: Optional[str],
    policy_file: Optional[Path],
    config: Optional[Path],
    state: Optional[Path],
    root: Optional[Path],
) -> None:
    """Turn audit logs into candidate rules, once, without any state.

    Reads the files in the order given ("-" is standard input; a gzipped file is unpacked), keeps what the profile says is
    the service's, groups it into candidates, and judges each by the guard and by the policy.

    \b
    Example:
      sepolicyd analyze --json /var/log/audit/audit.log.1 /var/log/audit/audit.log
    """
    session = open_session(profile_name, config, state, root)
    result = _scan(files or (str(session.settings.log),))
    taken = take(result.sightings, None if everything else session.profile)
    oracle, note = open_oracle(session.settings, policy_file)
    items = judge(session, taken.evidence, oracle, foreign=policy_file is not None)
    if te:
        _print_te(name, items)
    elif as_json:
        render.print_json(document(result, taken, items, note))
    else:
        _print(session, result, taken, items, details)
    for line in result.unparsed if show_unparsed else ():
        render.talk(f"line {line.line}: {line.reason}: {render.escape(line.text)}")
    if note:
        render.talk(f"sepolicyd: {render.escape(note)}")


def _scan(files: Sequence[str]) -> ScanResult:
    if "-" in files:
        if len(files) > 1:
            raise UsageError("standard input cannot be read together with files", "name the files, or - alone")
        return scan_stream(sys.stdin.buffer)
    paths = [Path(name) for name in files]
    size = sum(path.stat().st_size for path in paths if path.is_file())
    if size < PROGRESS_BYTES or not sys.stderr.isatty():
        return scan_files(paths)
    with click.progressbar(length=size, label="reading", file=sys.stderr) as bar:
        return scan_files(paths, on_progress=bar.update)


def document(result: ScanResult, taken: Taken, items: Sequence[Assessed], note: str) -> dict[str, Any]:
    """The JSON of analyze; counts are of the whole log, ``foreign`` of denials that are not the profile's."""
    return {
        "lines": result.lines,
        "events": result.events,
        "denials": result.denials,
        "granted": result.granted,
        "notices": result.notices,
        "other": result.other,
        "foreign": taken.foreign,
        "unparsed": [keys.unparsed(line) for line in result.unparsed],
        "unparsed_count": result.unparsed_count,
        "policy_note": note or None,
        "candidates": [keys.assessed(item) for item in items],
    }


def _print_te(name: str, items: Sequence[Assessed]) -> None:
    from sepolicyd.module.source import render_te

    kept = [item for item in items if item.level != "refuse"]
    source = render_te(name, [access for item in kept for access in item.candidate.accesses])
    render.data(source.te.rstrip("\n"))
    for item in items:
        if item.level == "refuse":
            render.talk(f"left out, refused: {' '.join(one_line(item)[3:4])} ({', '.join(f.code for f in item.findings)})")
    for reason in source.refused:
        render.talk(f"left out: {render.escape(str(reason))}")


def _print(session: Session, result: ScanResult, taken: Taken, items: Sequence[Assessed], details: bool) -> None:
    if details:
        for item in items:
            render.data("\n".join(screen(item)) + "\n")
    elif items:
        header = ("ID", "LEVEL", "FIX", "ACCESS", "ASKED BY", "ON")
        render.data("\n".join(render.table([one_line(item) for item in items], header)))
    render.talk(
        f"{render.plural(result.lines, 'line')}, {render.plural(result.events, 'event')}: "
        f"{render.plural(result.denials, 'denial')}, {result.granted} granted, "
        f"{render.plural(result.unparsed_count, 'line')} unparsed; "
        f"{render.plural(len(items), 'candidate')} of profile {session.profile.name}, "
        f"{render.plural(taken.foreign, 'denial')} of others left out"
    )
    for line in result.unparsed[:SHOWN_UNPARSED]:
        render.talk(f"  unparsed line {line.line}: {line.reason}")
    if result.unparsed_count > SHOWN_UNPARSED:
        render.talk("  ... all of them with --unparsed")
