"""Signs that denials were logged under another policy than the one that is used for the evaluation."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Optional

from sepolicyd.access import Access
from sepolicyd.audit.model import Context
from sepolicyd.policy.explain import explain
from sepolicyd.policy.index import PolicyIndex


class LoggedDenial(NamedTuple):
    """One denied access with the contexts of its record, None if unreadable."""

    access: Access
    scontext: Optional[Context]
    tcontext: Optional[Context]
    enforced: bool
    """Whether the kernel denied it (permissive=0). Records of permissive domains prove nothing."""


@dataclass(frozen=True)
class LogOrigin:
    """Comparison of a log with a policy. The caller draws the conclusion."""

    types: frozenset[str]
    """Types that the log names, without ignored types."""
    unknown_types: frozenset[str]
    """Types of the log that this policy does not have."""
    enforced: frozenset[Access]
    """Number of accesses that the kernel denied."""
    allowed: frozenset[Access]
    """Of these, accesses that this policy allows in the logged contexts: an earlier or another policy denied them."""

    @property
    def unknown_share(self) -> float:
        """The share of the log's types that this policy does not have, 0 to 1."""
        return len(self.unknown_types) / len(self.types) if self.types else 0.0

    @property
    def allowed_share(self) -> float:
        """The share of the enforced denials that this policy allows, 0 to 1."""
        return len(self.allowed) / len(self.enforced) if self.enforced else 0.0


def log_origin(policy_index: PolicyIndex, denials: Iterable[LoggedDenial], ignore: Collection[str] = ()) -> LogOrigin:
    """Compare the denials of one log with a policy.

    :param ignore: types without significance, such as those of a profile module that is not loaded yet
    """
    types: set[str] = set()
    enforced: set[Access] = set()
    denied: set[Access] = set()
    for one in denials:
        names = {one.access.source, one.access.target_type}
        types |= names
        if one.enforced and not names.intersection(ignore):
            enforced.add(one.access)
            if not explain(policy_index, one.access, one.scontext, one.tcontext).allowed:
                denied.add(one.access)
    types.difference_update(ignore)
    unknown = frozenset(name for name in types if policy_index.resolve(name) not in policy_index.types)
    return LogOrigin(frozenset(types), unknown, frozenset(enforced), frozenset(enforced - denied))
