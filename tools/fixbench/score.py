"""Figures of one tool over the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Optional

from sepolicyd.access import Access
from tools.fixbench.answers import Answer
from tools.fixbench.rows import OTHER, Row

COLUMNS = ("false alarms", "other kind 1st", "among 3", "covered", "surplus", "refuse-list", "interface 1st", "among 3 if.")
Refused = Callable[[frozenset[Access]], frozenset[Access]]


@dataclass(frozen=True)
class Share:
    """``part`` of ``whole``."""

    part: int
    whole: int

    def __str__(self) -> str:
        return f"{100 * self.part / self.whole:.0f} % ({self.part}/{self.whole})" if self.whole else "-"


@dataclass(frozen=True)
class Score:
    false_alarms: Share
    """Denied accesses that a maintainer gave outright and the tool flags."""
    kind_first: Share
    """Rows with another kind of fix, where the tool's first proposal has that kind."""
    kind_three: Share
    covered: Share
    """Denied accesses of rows where a rule was the answer, opened by the first proposals."""
    surplus: Optional[float]
    """Median of the accesses that the first proposals open beyond the denied ones."""
    refused: int
    """Accesses of the refuse list that first proposals open, over all rows."""
    interface_first: Share
    interface_three: Share

    def cells(self) -> list[str]:
        surplus = "-" if self.surplus is None else f"{self.surplus:g}"
        shares = map(str, (self.false_alarms, self.kind_first, self.kind_three, self.covered))
        return [*shares, surplus, str(self.refused), str(self.interface_first), str(self.interface_three)]


def score(rows: Iterable[Row], answers: Mapping[str, Answer], refused: Refused, known: Callable[[str], bool]) -> Score:
    """:param known: whether the headers have an interface"""
    rows = list(rows)
    given = [row for row in rows if row.gives and row.single]
    other = [row for row in rows if row.single and row.kinds & set(OTHER.values())]
    named = [row for row in rows if row.single and any(known(name) for name in row.interfaces)]
    flagged = sum(len(answers[row.id].flagged) for row in given)
    judged = sum(len(answers[row.id].judged) for row in given)
    opened = [(row, answers[row.id].opens()) for row in given]
    surpluses = [len(opens - row.accesses) for row, opens in opened if opens]
    return Score(
        Share(flagged, judged),
        _kinds(other, answers, 1),
        _kinds(other, answers, 3),
        Share(sum(len(opens & row.accesses) for row, opens in opened), sum(len(row.accesses) for row in given)),
        median(surpluses) if surpluses else None,
        sum(len(refused(answers[row.id].opens())) for row in rows),
        _interfaces(named, answers, 1),
        _interfaces(named, answers, 3),
    )


def _kinds(rows: Sequence[Row], answers: Mapping[str, Answer], first: int) -> Share:
    hits = sum(bool(answers[row.id].kinds(first) & row.kinds & set(OTHER.values())) for row in rows)
    return Share(hits, len(rows))


def _interfaces(rows: Sequence[Row], answers: Mapping[str, Answer], first: int) -> Share:
    hits = sum(bool(answers[row.id].interfaces(first) & set(row.interfaces)) for row in rows)
    return Share(hits, len(rows))
