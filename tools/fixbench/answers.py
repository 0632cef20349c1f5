"""What a tool answers to one row, in one shape for all tools."""

from __future__ import annotations

from dataclasses import dataclass

from sepolicyd.access import Access


@dataclass(frozen=True)
class Proposal:
    """One fix. ``kind`` is "give" for a rule of any form, else as in rows.OTHER, or another word of the tool's."""

    kind: str
    opens: frozenset[Access] = frozenset()
    interface: str = ""


@dataclass(frozen=True)
class Answer:
    """The tool's proposals for each question that it makes of the row, best first."""

    questions: tuple[tuple[Proposal, ...], ...] = ()
    flagged: frozenset[Access] = frozenset()
    """Denied accesses that the tool would not give without a second look, or not at all."""
    refused: frozenset[Access] = frozenset()
    """Those of them that it would not give at all."""
    warns: bool = True
    """Whether the tool has an opinion on whether an access should be given; one without cannot raise a false alarm."""
    judged: frozenset[Access] = frozenset()
    """Denied accesses that the tool could read and that the policy has names for."""

    def kinds(self, first: int) -> frozenset[str]:
        """The kinds among the first proposals of each question."""
        return frozenset(one.kind for question in self.questions for one in question[:first])

    def interfaces(self, first: int) -> frozenset[str]:
        """The first interfaces of each question, other proposals between them not counted."""
        named = ([one.interface for one in question if one.interface] for question in self.questions)
        return frozenset(name for names in named for name in names[:first])

    def opens(self) -> frozenset[Access]:
        """What the first proposals open together."""
        return frozenset(access for question in self.questions if question for access in question[0].opens)
