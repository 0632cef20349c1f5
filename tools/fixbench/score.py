"""Scores of one tool over the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Optional

from sepolicyd.access import Access
from tools.fixbench.answers import Answer
from tools.fixbench.rows import OTHER, Row

COLUMNS = (
    "false alarms", "refused", "other kind 1st", "among 3", "no rule covers: 1st", "among 3 ", "covered", "surplus",
    "refuse-list", "interface 1st", "among 3 if.",
)  # fmt: skip
Accesses = frozenset[Access]


@dataclass(frozen=True)
class Share:
    """``part`` of ``whole``."""

    part: int
    whole: int

    def __str__(self) -> str:
        return f"{100 * self.part / self.whole:.0f} % ({self.part}/{self.whole})" if self.whole else "-"


@dataclass(frozen=True)
class Score:
    """One line of the table. A share of nothing means that the column has no meaning for the tool."""

    false_alarms: Share
    """Denied accesses that a maintainer gave outright and the tool flags."""
    refused: Share
    """Those that it refuses."""
    kind_first: Share
    """Rows with another kind of fix, where the tool's first proposal has that kind."""
    kind_three: Share
    needed_first: Share
    """The same over the rows in which no rule of the fix covers what was denied."""
    needed_three: Share
    covered: Share
    """Denied accesses of rows where a rule was the answer, opened by the first proposals. Those whose names the policy does
    not have and those of the refuse list do not count."""
    surplus: Optional[float]
    """Median of the accesses that the first proposals open beyond the denied ones."""
    refuse_list: int
    """Accesses of the refuse list that first proposals open, over all rows."""
    interface_first: Share
    interface_three: Share

    def cells(self) -> list[str]:
        kinds = (self.kind_first, self.kind_three, self.needed_first, self.needed_three)
        shares = map(str, (self.false_alarms, self.refused, *kinds, self.covered))
        surplus = "-" if self.surplus is None else f"{self.surplus:g}"
        return [*shares, surplus, str(self.refuse_list), str(self.interface_first), str(self.interface_three)]


@dataclass(frozen=True)
class Terms:
    """What the policy and its headers say of the rows."""

    refused: Callable[[Accesses], Accesses]
    """Those of some accesses that are on the refuse list."""
    known: Callable[[Access], bool]
    """Whether the policy has all names of an access."""
    has_interface: Callable[[str], bool]


def score(rows: Iterable[Row], answers: Mapping[str, Answer], terms: Terms) -> Score:
    rows = list(rows)
    given = [row for row in rows if row.gives and row.single]
    other = [row for row in rows if row.single and row.kinds & set(OTHER.values())]
    needed = [row for row in other if not row.ruled]
    named = [row for row in rows if row.single and any(map(terms.has_interface, row.interfaces))]
    warned = [answers[row.id] for row in given if answers[row.id].warns]
    judged = sum(len(one.judged) for one in warned)
    opened = [(row, answers[row.id].opens()) for row in given]
    surpluses = [len(opens - row.accesses) for row, opens in opened if opens]
    askable = {row.id: _askable(row, terms) for row in given}
    return Score(
        Share(sum(len(one.flagged) for one in warned), judged),
        Share(sum(len(one.refused) for one in warned), judged),
        _kinds(other, answers, 1),
        _kinds(other, answers, 3),
        _kinds(needed, answers, 1),
        _kinds(needed, answers, 3),
        Share(sum(len(opens & askable[row.id]) for row, opens in opened), sum(map(len, askable.values()))),
        median(surpluses) if surpluses else None,
        sum(len(terms.refused(answers[row.id].opens())) for row in rows),
        _interfaces(named, answers, 1),
        _interfaces(named, answers, 3),
    )


def _askable(row: Row, terms: Terms) -> Accesses:
    known = frozenset(access for access in row.accesses if terms.known(access))
    return known - terms.refused(known)


def _kinds(rows: Sequence[Row], answers: Mapping[str, Answer], first: int) -> Share:
    hits = sum(bool(answers[row.id].kinds(first) & row.kinds & set(OTHER.values())) for row in rows)
    return Share(hits, len(rows))


def _interfaces(rows: Sequence[Row], answers: Mapping[str, Answer], first: int) -> Share:
    hits = sum(bool(answers[row.id].interfaces(first) & set(row.interfaces)) for row in rows)
    return Share(hits, len(rows))
