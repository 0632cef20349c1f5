"""Reopen decisions whose fix did not help: accesses denied again after a relabel, port or application fix.

After a fix to an application's setting, a file label or a port type, the denied access should no longer be requested. If it is
requested again, the decision is reopened.
"""

from __future__ import annotations

from collections.abc import Mapping

from sepolicyd.access import Access
from sepolicyd.errors import StateError
from sepolicyd.rollout.apply.desired_policy import rule_kind
from sepolicyd.rollout.apply.versions import NONE, Versions, module_name
from sepolicyd.rules.evidence import Evidence
from sepolicyd.rules.fixes.detail import is_automatic
from sepolicyd.settings import Settings
from sepolicyd.state.decisions import AnswerKind, Decision

GRACE_S = 60.0  # files are relabelled after the version is written


def reopened(
    settings: Settings, profile: str, evidence: Mapping[Access, Evidence], decided: Mapping[Access, Decision]
) -> dict[Access, Evidence]:
    """Return the accesses that were decided by a fix other than a rule and were seen again after that fix took effect.

    A manual fix takes effect at the time of the decision, an automatic fix at the time of the version that `apply` made.
    """
    found = {}
    for access, seen in evidence.items():
        decision = decided.get(access)
        if decision is None or decision.answer != AnswerKind.ALLOW or rule_kind(decision, access) is not None:
            continue
        if decision.last_seen is None or seen.last <= decision.last_seen:
            continue
        if not is_automatic(decision.fix_detail) or seen.last > _applied(settings, profile, decision.at) + GRACE_S:
            found[access] = seen
    return found


def _applied(settings: Settings, profile: str, decided_at: float) -> float:
    """Return the time of the first version that contains a decision (epoch seconds); infinity if there is none."""
    versions = Versions(settings.rollout_dir, module_name(profile))
    try:
        current = versions.current()
        made = [versions.load(number).at for number in versions.numbers() if NONE < number <= current]
    except StateError:
        return float("inf")
    return min((at for at in made if at >= decided_at), default=float("inf"))
