"""The parts of `analyze --te` for one candidate: the accesses to allow, or comments that describe another fix."""

from __future__ import annotations

from sepolicyd.cli import terminal
from sepolicyd.rules.assess.assess import Assessed

SHOWN_COMMANDS = 4


def comments(item: Assessed) -> list[str]:
    """Return comment lines for the accesses that get no rule, each printable; [] if the rule covers all of them."""
    left = set(item.candidate.accesses) - set(item.ruled)
    if not left:
        return []
    lines = [f"# {terminal.access_text(item.candidate)} ({item.level.value})"]
    if item.ruled:
        lines.append(f"#   no rule for {' '.join(sorted(access.permission for access in left))}")
    if item.why_not:
        lines.append(f"#   cannot be approved: {_line(item.why_not)}")
    lines.append(f"#   {item.fix.kind}: {_line(item.fix.text)}")
    return lines + [f"#     {_line(command)}" for command in item.fix.commands[:SHOWN_COMMANDS]]


def warning(item: Assessed) -> str:
    """Return one line that says why the candidate has no rule."""
    why = f" ({item.why_not})" if item.why_not else ""
    return f"no rule for {terminal.access_text(item.candidate)}: {item.fix.kind}: {_line(item.fix.text + why)}"


def _line(text: str) -> str:
    return terminal.escape(" ".join(text.split()))
