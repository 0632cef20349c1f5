"""The `analyze` command: assess the denials of log files without any state; print candidates, JSON or module source."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from sepolicyd.audit.dialects.preprocess import Front
from sepolicyd.audit.scan.scan_files import ScanResult, scan_files, scan_stream
from sepolicyd.cli import json_output as keys
from sepolicyd.cli import terminal
from sepolicyd.cli.options import json_option, policy_option, profile_option, sarif_option, settings_from, state_options
from sepolicyd.errors import Exit, UsageError
from sepolicyd.rules.attribution.gather_evidence import Attributed, attribute
from sepolicyd.rules.candidate import group

# The assessing modules are imported where they are used, because --grouped does not need them and must start fast.
if TYPE_CHECKING:
    from sepolicyd.profiles import Profile
    from sepolicyd.rollout.session import Session
    from sepolicyd.rules.assess.assess import Assessed
    from sepolicyd.settings import Settings

PROGRESS_BYTES = 32 << 20
SHOWN_UNPARSED = 5


@click.command("analyze")
@click.argument("files", nargs=-1, metavar="[FILE|-]...")
@click.option(
    "--all", "everything", is_flag=True, help="Include every denial; assess each source type as a service of its own."
)
@click.option("--te", is_flag=True, help="Print module source: allow rules, and comments where the fix is not a rule.")
@click.option("--name", default="local_candidates", metavar="NAME", help="The module's name for --te.")
@click.option("--details", is_flag=True, help="Show each candidate in full.")
@click.option("--grouped", is_flag=True, help="Only group denials into candidates; do not assess them or read a policy.")
@click.option("--unparsed", "show_unparsed", is_flag=True, help="List every line that could not be parsed.")
@json_option
@sarif_option
@profile_option
@policy_option
@state_options
def analyze_command(
    files: tuple[str, ...],
    everything: bool,
    te: bool,
    name: str,
    details: bool,
    grouped: bool,
    show_unparsed: bool,
    as_json: bool,
    as_sarif: bool,
    profile_name: Optional[str],
    policy_file: Optional[Path],
    **paths: Optional[Path],
) -> int:
    """Turn audit logs into candidate rules, once, without any state.

    Reads the files in the order given ("-" is standard input; gzip, xz and bzip2 are unpacked), keeps the denials that
    the profile attributes to the service, groups them into candidates, and checks each against the guard and the policy.

    Candidates cover every access denied in the logs. `list` works on the collected evidence instead: it omits accesses
    that are decided, allowed by now or covered by a dontaudit rule of the base module, and it adds exercises, taints and
    reopened decisions.

    \b
    Example:
      sepolicyd analyze --json /var/log/audit/audit.log.1 /var/log/audit/audit.log
    """
    _check_options(grouped=grouped, as_sarif=as_sarif)
    settings = settings_from(**paths)
    front = Front()
    names = files or (str(settings.log),)
    result = _scan(names, front)
    notes = input_notes(result, front, names)
    if grouped:
        taken = _attribute(result, None if everything else _profile(settings, profile_name))
        result = result.without_details()
        _grouped(result, taken, as_json, notes)
    else:
        session = _open_session(profile_name, **paths)
        taken = _attribute(result, None if everything else session.profile)
        judged = _judge(session, settings, result, taken, policy_file, everything=everything)
        notes = (*notes, *judged.notes)
        if te:
            _print_te(name, judged.items)
        elif as_sarif or as_json:
            shown = _sarif(session, judged, names, notes) if as_sarif else _document(result, taken, judged, notes)
            terminal.print_json(shown)
        else:
            _print(judged.items, details)
            _print_counts(result, taken, len(judged.items))
        _print_policy_note(judged)
    _print_remarks(result, notes, show_unparsed=show_unparsed)
    return int(Exit.FINDINGS if is_unread(result, front) else Exit.DONE)


def _print_policy_note(judged: _Judged) -> None:
    if judged.policy_note:
        terminal.print_err(f"sepolicyd: {terminal.escape(judged.policy_note)}")


def _check_options(*, grouped: bool, as_sarif: bool) -> None:
    if grouped and as_sarif:
        raise UsageError("--sarif needs what --grouped leaves out", "leave one of them out")


def _print_remarks(result: ScanResult, notes: Sequence[str], *, show_unparsed: bool) -> None:
    for line in (*result.unparsed, *result.imitations) if show_unparsed else ():
        terminal.print_err(f"line {line.line}: {terminal.escape(line.message)}: {terminal.escape(line.text)}")
    for text in notes:
        terminal.print_err(f"sepolicyd: {text}")


@dataclass(frozen=True)
class _Judged:
    items: Sequence[Assessed]
    notes: Sequence[str]
    """Whether log and policy belong together."""
    policy_note: str
    """Why no policy could be read, "" if one was."""


def _sarif(session: Session, judged: _Judged, names: Sequence[str], notes: Sequence[str]) -> dict[str, Any]:
    from sepolicyd.report.log_lines import find_lines
    from sepolicyd.report.sarif import analyzed

    samples = {item.candidate.id: item.candidate.merged.samples for item in judged.items}
    places = find_lines([Path(name) for name in names if name != "-"], samples)
    return analyzed(judged.items, places, session.guard(), [*notes, *([judged.policy_note] if judged.policy_note else [])])


def _document(result: ScanResult, taken: Attributed, judged: _Judged, notes: Sequence[str]) -> dict[str, Any]:
    more = {"input_notes": list(notes), "policy_note": judged.policy_note or None}
    return {**document(result, taken), **more, "candidates": [keys.assessed(item) for item in judged.items]}


def _attribute(result: ScanResult, profile: Optional[Profile]) -> Attributed:
    if profile is None:
        return attribute(result, None)
    from sepolicyd.rules.attribution.matcher import Matcher

    return attribute(result, Matcher(profile))


def _open_session(profile_name: Optional[str], **paths: Optional[Path]) -> Session:
    from sepolicyd.cli.session import open_session

    return open_session(profile_name, **paths)


def _judge(
    session: Session,
    settings: Settings,
    result: ScanResult,
    taken: Attributed,
    policy_file: Optional[Path],
    *,
    everything: bool,
) -> _Judged:
    from sepolicyd.rollout.review.all_sources import judge_all
    from sepolicyd.rollout.review.queue import judge
    from sepolicyd.rollout.session import open_policy

    policy_index, policy_note = open_policy(settings, policy_file)
    judged = judge_all if everything else judge
    items = judged(session, taken.evidence, policy_index, foreign=policy_file is not None)
    if policy_index is None:
        return _Judged(items, (), policy_note)
    from sepolicyd.cli.origin import origin_notes

    return _Judged(items, origin_notes(result.sightings, policy_index, session.profile), policy_note)


def _profile(settings: Settings, name: Optional[str]) -> Profile:
    from sepolicyd import profiles

    return profiles.load(name or settings.profile, settings.policy_dirs)


def _grouped(result: ScanResult, taken: Attributed, as_json: bool, notes: Sequence[str]) -> None:
    """Print the candidates without assessing them."""
    candidates = group(taken.evidence, {})
    if as_json:
        terminal.print_json(
            {
                **document(result, taken),
                "input_notes": list(notes),
                "candidates": [keys.candidate(one) for one in candidates],
            }
        )
        return
    rows = [(one.id, terminal.access_text(one), terminal.escape(",".join(one.merged.roles)) or "-") for one in candidates]
    if rows:
        terminal.print_out("\n".join(terminal.table(rows, ("ID", "ACCESS", "ASKED BY"))))
    _print_counts(result, taken, len(candidates))


def _scan(files: Sequence[str], front: Front) -> ScanResult:
    if "-" in files:
        if len(files) > 1:
            raise UsageError("standard input cannot be combined with files", "give the files, or - alone")
        return scan_stream(sys.stdin.buffer, front=front)
    paths = [Path(name) for name in files]
    size = sum(path.stat().st_size for path in paths if path.is_file())
    if size < PROGRESS_BYTES or not sys.stderr.isatty():
        return scan_files(paths, front=front)
    with click.progressbar(length=size, label="reading", file=sys.stderr) as bar:
        return scan_files(paths, on_progress=bar.update, front=front)


def input_notes(result: ScanResult, front: Front, names: Sequence[str]) -> tuple[str, ...]:
    """Return warnings about the input, one sentence each; () for a plain auditd log."""
    notes = []
    if front.lines:
        forms = ", ".join(form.value for form, _ in front.forms.most_common())
        notes.append(
            f"{terminal.plural(front.lines, 'line')} in a form that is not auditd's ({forms}): "
            "its origin is unproven; compare it with the output of `ausearch --raw` on the machine"
        )
    notes.extend(refusal.value for refusal in front.refusals)
    attempts = result.attempts + result.imitation_count
    if attempts:
        named = ", ".join(f"{count} of {source or 'an unknown domain'}" for source, count in _most(result))
        notes.append(f"{terminal.plural(attempts, 'line')} may be attempts to forge records ({named}); --unparsed lists them")
    shown = terminal.escape(", ".join(names))
    if result.lines and not front.refusals and not _holds_records(result, front):
        notes.append(
            f"{shown}: none of the lines is an audit record. "
            "Give /var/log/audit/audit.log, or the output of `ausearch --raw -m AVC`"
        )
    elif is_unread(result, front) and result.unparsed:
        first = result.unparsed[0]
        notes.append(f"{shown}: nothing could be read; line {first.line}: {terminal.escape(first.message)}")
    return tuple(notes)


def _most(result: ScanResult) -> list[tuple[str, int]]:
    """Return the three domains with the most attempts."""
    return sorted(result.attempt_sources.items(), key=lambda item: (-item[1], item[0]))[:3]


def is_unread(result: ScanResult, front: Front) -> bool:
    """Tell whether the input is not empty but no denial in it could be parsed."""
    unread = bool(front.refusals or result.unparsed_count) or not _holds_records(result, front)
    return bool(result.lines or result.unparsed_count) and unread and not (result.denials or result.granted)


def _holds_records(result: ScanResult, front: Front) -> bool:
    return bool(
        front.has_records
        or result.has_records
        or result.denials
        or result.unparsed_count
        or result.granted
        or result.notices
        or result.errors
    )


def document(result: ScanResult, taken: Attributed) -> dict[str, Any]:
    """Return the counts of the whole log for the JSON output; ``foreign`` counts denials of other services."""
    return {
        "lines": result.lines,
        "denials": result.denials,
        "granted": result.granted,
        "notices": result.notices,
        "other": result.other,
        "foreign": sum(taken.foreign.values()),
        "unparsed": [keys.unparsed(line) for line in result.unparsed],
        "unparsed_count": result.unparsed_count,
        "attempts": {
            "count": result.attempts + result.imitation_count,
            "by_domain": dict(result.attempt_sources),
            "imitations": [keys.unparsed(line) for line in result.imitations],
        },
    }


def _print_te(name: str, items: Sequence[Assessed]) -> None:
    """Print module source. Candidates without a rule become comments in it and warnings on stderr."""
    from sepolicyd.cli.module_text import comments, warning
    from sepolicyd.module.source import render_te

    kept = [access for item in items for access in item.ruled]
    source = render_te(name, kept)
    terminal.print_out(source.te.rstrip("\n"))
    for item in items:
        lines = comments(item)
        if lines:
            terminal.print_out("\n".join(("", *lines)))
            terminal.print_err(f"sepolicyd: {warning(item)}")
    for reason in source.refused:
        terminal.print_out(f"\n# left out: {terminal.escape(str(reason))}")
        terminal.print_err(f"sepolicyd: left out: {terminal.escape(str(reason))}")


def _print(items: Sequence[Assessed], details: bool) -> None:
    from sepolicyd.cli.candidate_view import one_line, screen

    if details:
        for item in items:
            terminal.print_out("\n".join(screen(item)) + "\n")
    elif items:
        header = ("ID", "LEVEL", "FIX", "ACCESS", "ASKED BY", "ON")
        terminal.print_out("\n".join(terminal.table([one_line(item) for item in items], header)))


def _print_counts(result: ScanResult, taken: Attributed, count: int) -> None:
    foreign = sum(taken.foreign.values())
    terminal.print_err(
        f"{terminal.plural(result.lines, 'line')}: "
        f"{terminal.plural(result.denials, 'denial')}, {result.granted} granted, "
        f"{terminal.plural(result.unparsed_count, 'line')} unparsed; "
        f"{terminal.plural(count, 'candidate')}, {terminal.plural(foreign, 'denial')} of other services left out"
    )
    for line in result.unparsed[:SHOWN_UNPARSED]:
        terminal.print_err(f"  unparsed line {line.line}: {terminal.escape(line.message)}")
    if result.unparsed_count > SHOWN_UNPARSED:
        terminal.print_err("  ... all of them with --unparsed")
