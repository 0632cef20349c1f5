"""Render a report as one HTML page without scripts and external resources.

In every value, control, bidirectional and look-alike characters are replaced by escapes; then the value is escaped as HTML.
Only the output of sepolicyd.report.svg is markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sepolicyd.cli.terminal import duration, when
from sepolicyd.report import plots
from sepolicyd.report.model import Grant, GrantState, Report
from sepolicyd.report.visible import visible
from sepolicyd.rules.guard.access_groups import as_rules

TEMPLATES = Path(__file__).parent / "templates"
MAX_ROWS = 10_000  # per table; the page mentions omitted rows, and the bundle has them
MAX_REASON = 240
OPEN_ROWS = 30  # longer tables are folded
MANY = 3000  # with more rows in all, reasons are cut shorter, so that the page stays small


def render(report: Report) -> str:
    """Return the page, which depends only on the report and the local time zone."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown,
        loader=FileSystemLoader(TEMPLATES),
    )  # fmt: skip
    rows = len(report.grants) + len(report.refusals) + len(report.silenced) + len(report.pending)
    reason = partial(_cut, limit=60 if rows > MANY else MAX_REASON)
    environment.filters.update(when=when, duration=duration, rules=as_rules, reason=reason)
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    return environment.get_template("report.html").render(
        r=report, style=Markup(style), drawings=_drawings(report), grants=_by_domain(report.grants),  # noqa: S704 our own file
        refusals=_by_domain(report.refusals), silenced=_by_domain(report.silenced), totals=_totals(report),
        max_rows=MAX_ROWS, open_rows=OPEN_ROWS, GrantState=GrantState,
    )  # fmt: skip


def _shown(value: object) -> object:
    """Prepare a value of the template for escaping."""
    return value if isinstance(value, Markup) else visible(str(value))


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _by_domain(grants: Iterable[Grant]) -> list[tuple[str, list[Grant]]]:
    found: dict[str, list[Grant]] = {}
    for one in grants:
        found.setdefault(one.source, []).append(one)
    return sorted(found.items())


def _totals(report: Report) -> Mapping[str, Any]:
    def count(grants: Iterable[Grant]) -> int:
        return sum(len(one.permissions) for one in grants)

    unseen = report.readiness.unseen
    return {
        "allowed": count(report.grants),
        "loaded": count(one for one in report.grants if one.state.in_force),
        "refused": count(report.refusals),
        "silenced": count(report.silenced),
        "pending": sum(len(one.permissions) for one in report.pending),
        "permissive": sum(one.seconds(report.made) for one in report.leases),
        "unseen": None if unseen is None else round(unseen.unseen),
    }


def _drawings(report: Report) -> Mapping[str, Any]:
    """Draw each figure in two widths; the style sheet shows one of them."""
    widths = (plots.WIDE, plots.NARROW)
    names = [when(one.opened)[:16] for one in report.leases]
    return {
        "reach": [plots.reach_graph(report.reach, width) for width in widths],
        "bars": {one.domain: [plots.reach_bars(one, width) for width in widths] for one in report.reach},
        "curve": [plots.learning_curve(report.readiness, width) for width in widths],
        "leases": [plots.lease_bars(report.leases, names, report.made, width) for width in widths],
    }
