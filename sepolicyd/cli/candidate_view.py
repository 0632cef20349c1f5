"""Render one assessed candidate as one screen of text."""

from __future__ import annotations

import textwrap

from sepolicyd.cli import terminal
from sepolicyd.rules.assess.assess import Assessed
from sepolicyd.rules.evidence import Evidence

WIDTH = 110
SAMPLE_CHARS = 600


def one_line(item: Assessed) -> tuple[str, ...]:
    """Return a row of `list`: id, level, kind of fix, access, roles, one example object."""
    candidate = item.candidate
    seen = candidate.merged
    return (
        candidate.id,
        terminal.level(item.level),
        item.fix.kind.value,
        terminal.access_text(candidate),
        terminal.escape(",".join(seen.roles)) or "-",
        terminal.first_few(seen.paths or seen.names or [f"{key} {port}" for key, port in seen.ports], 1) or "-",
    )


def screen(item: Assessed) -> list[str]:
    """Return every detail of one candidate, as lines of text."""
    candidate = item.candidate
    lines = [
        terminal.style(f"{candidate.id}@{candidate.revision}", bold=True) + f"  {terminal.level(item.level)}",
        *_wrap(item.sentence),
        "",
        f"  asks     {terminal.access_text(candidate)}",
        *_evidence(candidate.merged),
    ]
    if item.opens:
        lines += ["", "What it opens", *(line for text in item.opens for line in _wrap(text, "  "))]
    if item.findings:
        lines += ["", "Findings (explain CODE tells more)"]
        for finding in item.findings:
            lines += _wrap(f"{finding.code} {finding.level}: {finding.text}", "  ", "      ")
    lines += ["", "Fixes (approve ID --fix N; 1 is proposed)"]
    for number, fix in enumerate((item.fix, *item.alternatives), 1):
        lines += _wrap(f"{number}. {fix.kind}: {fix.text}", "  ", "     ")
        lines += [f"       {terminal.escape_command(line)}" for line in fix.commands]
    if not item.approvable:
        lines += ["", *_wrap(f"Cannot be approved here: {item.why_not}")]
    return lines


def _wrap(text: str, indent: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(terminal.escape(text), WIDTH, initial_indent=indent, subsequent_indent=rest or indent)


def _evidence(seen: Evidence) -> list[str]:
    times = "enforced" if seen.enforced == seen.count else "permissive" if not seen.enforced else "enforced and permissive"
    rows = [
        ("seen", f"{terminal.when(seen.first)} to {terminal.when(seen.last)} ({times}{_exercises(seen)})"),
        ("by", ", ".join(part for part in (terminal.first_few(seen.comms), terminal.first_few(seen.exes, 2)) if part)),
        ("role", terminal.first_few(seen.roles)),
        ("because", terminal.first_few(seen.reasons, 2)),
        ("on", terminal.first_few(seen.paths or seen.names, 4)),
        ("ports", terminal.first_few([f"{key} {port}" for key, port in seen.ports], 6)),
        ("ioctls", terminal.first_few([f"{number:#x}" for number in seen.ioctls], 8)),
        ("tainted", terminal.first_few(seen.taints)),
    ]
    lines = [f"  {name.ljust(8)} {text}" for name, text in rows if text]
    for sample in seen.samples[:1]:
        first = sample.split("\n", 1)[0]
        shown = terminal.escape(first[:SAMPLE_CHARS]) + (" ..." if len(first) > SAMPLE_CHARS else "")
        lines += ["  record", *textwrap.wrap(shown, WIDTH, initial_indent="    ", subsequent_indent="    ")]
    return lines


def _exercises(seen: Evidence) -> str:
    return (
        f"; in {terminal.plural(len(seen.exercises), 'exercise')}: {terminal.first_few(seen.exercises)}"
        if seen.exercises
        else ""
    )
