"""Signs that denials were logged on a machine with another policy than the one they are judged by."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Optional

from sepolicyd.access import Access
from sepolicyd.audit.model import Context
from sepolicyd.policy.explain import explain
from sepolicyd.policy.index import PolicyIndex


class LoggedDenial(NamedTuple):
    """One denied access with the contexts of its record, None where they cannot be read."""

    access: Access
    scontext: Optional[Context]
    tcontext: Optional[Context]
    enforced: bool
    """Whether the kernel denied it (permissive=0); a permissive domain's record proves nothing."""


@dataclass(frozen=True)
class LogOrigin:
    """What the denials of a log say about the policy under which they were logged. Facts: the caller decides."""

    types: frozenset[str]
    """The types that the log names, those to be ignored left out."""
    unknown_types: frozenset[str]
    """Those that this policy does not have."""
    enforced: frozenset[Access]
    """Accesses that the kernel denied."""
    allowed: frozenset[Access]
    """Of these, those that this policy allows in the logged contexts: another policy denied them, or an earlier one."""

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

    :param ignore: types that say nothing, because their module need not be loaded yet (a profile's own)
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
