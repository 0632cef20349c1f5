"""Record the reviewer's answer to a candidate."""

from __future__ import annotations

import time
from typing import Optional

from sepolicyd.errors import RefusedError, UsageError
from sepolicyd.rollout.session import Session, invoking_user
from sepolicyd.rules.assess.assess import Assessed
from sepolicyd.rules.fixes.detail import NO_DETAIL
from sepolicyd.rules.fixes.fix import Fix
from sepolicyd.state.decisions import AnswerKind, Decision, DecisionStore


def store_decision(
    session: Session, store: DecisionStore, answer: AnswerKind, item: Assessed, number: Optional[int] = None, reason: str = ""
) -> Decision:
    """Check one answer and store it.

    :raises RefusedError: the candidate cannot be approved
    """
    candidate = item.candidate
    fix = chosen(item, number) if answer == AnswerKind.ALLOW else None
    if answer == AnswerKind.ALLOW and not item.approvable:
        raise RefusedError(
            f"{candidate.id} cannot be approved: {item.why_not}",
            f"only an override in {session.settings.config} can allow it" if item.level == "refuse" else "",
        )
    if answer == AnswerKind.ALLOW and item.needs_reason and not reason:
        raise RefusedError(
            f"{candidate.id} requires a written reason: {'; '.join(f'{f.code} {f.text}' for f in item.findings[:2])}",
            f'sepolicyd approve {candidate.id} --reason "..."',
        )
    return store.add(
        Decision(
            answer=answer,
            accesses=candidate.accesses,
            by=invoking_user(),
            at=time.time(),
            reason=reason,
            candidate_id=candidate.id,
            fix_kind=None if fix is None else fix.kind,
            fix_detail=NO_DETAIL if fix is None else fix.detail,
            last_seen=None if fix is None else candidate.merged.last,
        )
    )


def chosen(item: Assessed, number: Optional[int]) -> Fix:
    """Return the fix with this number, as numbered by `show`.

    :raises UsageError: there is no such fix
    """
    fixes = (item.fix, *item.alternatives)
    if number is None:
        return fixes[0]
    if number > len(fixes):
        raise UsageError(f"{item.candidate.id} offers {len(fixes)} fixes, not {number}")
    return fixes[number - 1]
