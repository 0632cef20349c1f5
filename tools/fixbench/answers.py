"""The answer of a tool to one row, in one form for all tools."""

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
    """The proposals for each of the tool's questions about the row, best first."""

    questions: tuple[tuple[Proposal, ...], ...] = ()
    flagged: frozenset[Access] = frozenset()
    """Denied accesses that the tool refuses or marks for review."""
    refused: frozenset[Access] = frozenset()
    """Denied accesses that the tool refuses."""
    warns: bool = True
    """Whether the tool assesses accesses at all; otherwise it cannot raise a false alarm."""
    judged: frozenset[Access] = frozenset()
    """Denied accesses that the tool could read and that the policy has names for."""

    def kinds(self, first: int) -> frozenset[str]:
        """Return the kinds among the first proposals of each question."""
        return frozenset(one.kind for question in self.questions for one in question[:first])

    def interfaces(self, first: int) -> frozenset[str]:
        """Return the first interfaces of each question, other proposals between them not counted."""
        named = ([one.interface for one in question if one.interface] for question in self.questions)
        return frozenset(name for names in named for name in names[:first])

    def opens(self) -> frozenset[Access]:
        """Return the accesses that the first proposals grant together."""
        return frozenset(access for question in self.questions if question for access in question[0].opens)
