"""sepolicyd's answers to the rows, assessed with a profile that treats each source as a service of its own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.audit.dialects.preprocess import Front
from sepolicyd.audit.scan.scan_files import scan_stream
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.interfaces import Interfaces
from sepolicyd.policy.labels import Labels
from sepolicyd.rules.assess.assess import Assessed, assess
from sepolicyd.rules.attribution.gather_evidence import attribute
from sepolicyd.rules.candidate import group
from sepolicyd.rules.evidence import Evidence
from sepolicyd.rules.fixes.detail import InterfaceCall, OnlyPermissions, booleans_of
from sepolicyd.rules.fixes.fix import Fix, FixKind
from sepolicyd.rules.guard.generic_profile import neutral_profile
from sepolicyd.rules.guard.guard import Guard
from sepolicyd.rules.guard.level import GuardLevel
from sepolicyd.rules.guard.type_facts import facts_of_policy
from sepolicyd.settings import Settings
from tools.fixbench.answers import Answer, Proposal
from tools.fixbench.masked import MaskedIndex, masked_labels
from tools.fixbench.rows import Row

KINDS = {
    FixKind.ALLOW: "give",
    FixKind.INTERFACE: "give",
    FixKind.RELABEL: "label",
    FixKind.OWN_TYPE: "label",
}


class Judge:
    """One policy with its labels and interfaces, for all rows."""

    def __init__(self, root: Path, policy: Path, include: Path, cache: Path, guard: Guard) -> None:
        self.index = MaskedIndex(PolicyIndex.load(policy))
        self.labels, self._files = masked_labels(Labels.load(Settings(root=root), self.index))
        self.interfaces = Interfaces.load(cache, include)
        self.guard = guard

    def assess(self, row: Row, *, masked: bool = True) -> list[Assessed]:
        """Return every candidate of the row; each source of the row is a service of its own."""
        evidence = attribute(scan_stream(io.BytesIO(row.log.encode()), front=Front()), None).evidence
        if masked:
            self._hide(row, evidence)
        found = []
        for source in sorted({access.source for access in evidence}):
            profile = neutral_profile(source, facts_of_policy(self.index))
            part = {access: seen for access, seen in evidence.items() if access.source == source}
            found += assess(
                group(part, self.guard.facets(part, profile)),
                profile=profile,
                guard=self.guard,
                policy_index=self.index,
                labels=self.labels,
                interfaces=self.interfaces,
            )
        return found

    def _hide(self, row: Row, evidence: dict[Access, Evidence]) -> None:
        rule = "dontaudit" if "dontaudit" in row.kinds else "allow"
        self.index.hide({*evidence, *row.opened}, conditional="boolean" not in row.kinds, rule=rule)
        self._files.hidden, self._files.patterns = {}, row.patterns
        if "label" in row.kinds:
            self._files.hidden = {path: access.target_type for access, seen in evidence.items() for path in seen.paths}

    def answer(self, row: Row) -> Answer:
        items = self.assess(row)
        asked = {access for item in items for access in item.candidate.evidence}
        refused = {access for item in items if item.level is GuardLevel.REFUSE for access in item.candidate.evidence}
        review = {access for item in items if item.level is GuardLevel.REVIEW for access in item.candidate.evidence}
        judged = {access for access in asked if not self.index.missing_names(access)}
        questions = tuple(tuple(self._proposal(item, fix) for fix in (item.fix, *item.alternatives)) for item in items)
        return Answer(questions, frozenset((review | refused) & judged), frozenset(refused & judged), judged=frozenset(judged))

    def _proposal(self, item: Assessed, fix: Fix) -> Proposal:
        asked = frozenset(item.candidate.accesses)
        detail, opens, name = fix.detail, frozenset[Access](), ""
        if isinstance(detail, OnlyPermissions):
            opens = frozenset(access for access in asked if access.permission in detail.permissions)
        elif isinstance(detail, InterfaceCall):
            name = detail.call.partition("(")[0]
            opens = self.interface_opens(name, item.candidate.source) or asked
        elif fix.kind is FixKind.ALLOW or booleans_of(detail):
            opens = asked
        return Proposal(KINDS.get(fix.kind, fix.kind.value), opens, name)

    def interface_opens(self, name: str, source: str) -> Optional[frozenset[Access]]:
        """Return the accesses that an interface call grants, with attributes expanded; None if it contains more than rules."""
        from sepolicyd.policy.interfaces import accesses_of

        text = self.interfaces.text(name) if name in self.interfaces else None
        if text is None:
            return None
        rules = (rule for rule in text.rules if rule.word == "allow")
        return frozenset(access for rule in rules for access in accesses_of(rule, source, self.index))

    def refused(self, accesses: frozenset[Access]) -> frozenset[Access]:
        """Accesses that the guard refuses for what they open, whoever asks."""
        facts = facts_of_policy(self.index)
        profiles = {source: neutral_profile(source, facts) for source in {access.source for access in accesses}}
        levels = {access: self.guard.judge_access(access, profiles[access.source], self.index) for access in accesses}
        return frozenset(access for access, found in levels.items() if any(str(one.level) == "refuse" for one in found))
