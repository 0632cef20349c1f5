"""Generic profile for a domain that no profile describes."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from sepolicyd.profiles import Profile, Role
from sepolicyd.rules.guard.type_facts import PolicyFacts

NOWHERE = Path("/nonexistent")
"""A generic profile has no directory, and therefore no known denials."""


def neutral_profile(source: str, facts: Optional[PolicyFacts]) -> Profile:
    """Return a profile with a single domain that owns the types of the domain's own module or name.

    :param facts: facts about types from the policy; without them, only the source type is the service's own
    """
    own = frozenset({source})
    if facts is not None and source in facts.policy.types:
        own |= frozenset(name for name in facts.policy.types if facts.are_kin(source, name))
    code = tuple(sorted(name for name in own if name.endswith("_exec_t")))
    return Profile(
        name="neutral",
        description=f"all processes in {source}",
        directory=NOWHERE,
        units=(),
        roles=(Role("service", domains=(source,)),),
        code=code,
        own_types=own,
    )
