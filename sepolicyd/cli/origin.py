"""Warnings for a log that seems to come from a machine with another policy than the one it is assessed with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from sepolicyd.audit.model import ErrorOperation, Sighting
from sepolicyd.cli import terminal
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.log_origin import LoggedDenial, log_origin
from sepolicyd.profiles import Profile

MANY = 0.5  # share of the enforced denials that this policy allows
UNKNOWN = 0.2  # share of the types that this policy does not have
SHOWN = 4
ADVICE = "assess it with that machine's policy: --policy FILE, or --root DIR to include its file contexts"


def origin_notes(sightings: Iterable[Sighting], policy_index: PolicyIndex, profile: Profile) -> tuple[str, ...]:
    """Return the signs, one sentence each, that the log was written on another machine; () if there are none."""
    sightings = list(sightings)
    found = log_origin(policy_index, _denials(sightings), ignore=profile.own_types)
    notes = []
    if found.allowed and found.allowed_share >= MANY:
        what = f"{len(found.allowed)} of {terminal.plural(len(found.enforced), 'access', 'accesses')}"
        notes.append(f"{what}, denied in enforcing mode, are allowed by this policy: another one was loaded then")
    if found.unknown_types and found.unknown_share >= UNKNOWN:
        names = terminal.first_few(sorted(found.unknown_types), SHOWN)
        notes.append(f"{len(found.unknown_types)} of the {len(found.types)} types of the log are not in this policy ({names})")
    nodes = {sighting.denial.event.node for sighting in sightings} - {""}
    if nodes and not nodes & {os.uname().nodename, os.uname().nodename.partition(".")[0]}:
        notes.append(f"the log was written by {terminal.first_few(sorted(nodes), SHOWN)}, not by this machine")
    return (*(f"another machine's log? {text}" for text in notes), *((ADVICE,) if notes else ()))


def _denials(sightings: Iterable[Sighting]) -> Iterator[LoggedDenial]:
    for sighting in sightings:
        denial = sighting.denial
        enforced = denial.permissive is False and not denial.success
        for access in denial.accesses():
            if ErrorOperation.of(access.permission) is None:
                yield LoggedDenial(access, denial.scontext, denial.tcontext, enforced)
