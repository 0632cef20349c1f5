"""Guard checks on a whole policy difference: attributes, constraint exemptions, permissive types, a base module's rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Optional, Protocol

from sepolicyd.access import Access
from sepolicyd.policy.delta import Delta
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.profiles import Profile
from sepolicyd.rules.guard.access_groups import as_rules
from sepolicyd.rules.guard.level import GuardLevel
from sepolicyd.rules.guard.override import Override
from sepolicyd.rules.guard.rule import About, Finding

# Attributes of base policies for every process, service, user program, and domain with name lookups
KINDS = ("domain", "daemon", "application_domain_type", "nsswitch_domain")
MOST = 0.95  # share of an attribute's members; a rule on the attribute may exclude a few


class Judge(Protocol):
    """The functions of the guard used here; implemented by rules.guard.Guard."""

    def judge(
        self, accesses: Iterable[Access], profile: Optional[Profile] = None, policy: Optional[PolicyIndex] = None
    ) -> dict[Access, list[Finding]]: ...

    def judge_dontaudit(
        self, access: Access, profile: Optional[Profile] = None, policy: Optional[PolicyIndex] = None
    ) -> list[Finding]: ...

    def judge_joined(
        self, joined: Iterable[tuple[str, str]], exempted: Iterable[object] = (), profile: Optional[Profile] = None
    ) -> list[Finding]: ...

    def judge_statement(
        self, text: str, profile: Optional[Profile] = None, policy: Optional[PolicyIndex] = None
    ) -> list[Finding]: ...


def memberships(delta: Delta, guard: Judge, profile: Profile, drift: Optional[Delta] = None) -> list[Finding]:
    """Return findings on gains without an allow rule: joined attributes, constraint exemptions, permissive domains.

    :param drift: on this machine, the difference between store and kernel before the change
    """
    joined, exempted, permissive = delta.joined, delta.exempted, delta.permissive_gained
    if drift is not None:
        joined, exempted = joined - drift.joined, exempted - drift.exempted
    found = guard.judge_joined(joined, exempted, profile)
    for name in sorted(permissive):
        found += guard.judge_statement(f"permissive {name};", profile)
    return [finding for finding in found if finding.level is GuardLevel.REFUSE]


def base(delta: Delta, guard: Judge, profile: Profile, overrides: Iterable[Override] = ()) -> list[Finding]:
    """Return findings on the rules of a base module that the guard refuses, since no decision has approved these rules.

    Not checked are accesses of other domains to the module's own types, which follow from declaring a type (init_t starts it,
    an administrator reads it); rules whose source is another domain (R-017), which interfaces contain on purpose; and accesses
    that every domain, daemon or application of the base policy has.
    """
    own_names = {*profile.own_types, *profile.domains, *delta.new_types}
    excused = {override.access for override in overrides}
    asked = [
        one
        for one in delta.gained
        if one not in excused and (one.source in profile.domains or one.target_type not in own_names)
    ]
    refused: dict[str, list[tuple[Access, Finding]]] = {}
    for access, findings in sorted(guard.judge(asked, profile, delta.after).items()):
        for finding in findings:
            if finding.level is GuardLevel.REFUSE and finding.about is not About.OWNERSHIP and not given_to_all(delta, access):
                refused.setdefault(finding.code, []).append((access, finding))
    return [*memberships(delta, guard, profile), *(_together(refused[code]) for code in sorted(refused))]


def _together(refused: Sequence[tuple[Access, Finding]]) -> Finding:
    """Return one finding for all accesses that the same guard rule refuses."""
    first = refused[0][1]
    if len(refused) == 1:
        return first
    rules = "; ".join(as_rules(access for access, _ in refused))
    return replace(first, text=first.text.replace(str(refused[0][0]), f"{len(refused)} accesses: {rules}", 1))


def given_to_all(delta: Delta, access: Access) -> bool:
    """Tell whether the base policy grants an access to every domain of a kind, independently of the module.

    Fedora's policy lets every domain append to inherited temporary files (even of the package manager), and map any file (even
    shadow_t and the service's secrets) if a boolean is switched on.
    """
    before, target = delta.before, access.target
    # for a new type, only rules on its attributes count, since a rule on the type itself belongs to the module
    new = target != "self" and before.resolve(target) not in before.types
    targets = delta.after.attributes_of(target) & before.attributes.keys() if new else {target}
    holding = {one for name in targets for one in before.sources_of(access.tclass, access.permission, name)}
    for kind in KINDS:
        members = before.types_of(kind)
        if access.source in delta.after.types_of(kind) and len(members & holding) >= MOST * max(len(members), 1):
            return True
    return False
