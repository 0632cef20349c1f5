"""One match pattern of guard.yaml or a known-denials file, and the code that tests an access against it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property, lru_cache
from typing import Optional, Protocol

from sepolicyd.access import SELF, Access
from sepolicyd.document import Section
from sepolicyd.profiles import Profile
from sepolicyd.rules.guard.type_facts import PolicyFacts, facts_of_policy

Matcher = Callable[[str], bool]
OWN_CODE, SECRETS = "@own_code", "@secrets"
WHEN = (
    "target_own",
    "target_foreign",
    "target_other",
    "target_service",
    "target_not_service",
    "target_hub",
    "source_foreign",
    "source_user",
    "answering",
    "not_answering",
    "source_client",
    "target_public",
    "not_client",
    "target_self",
    "with_policy",
    "target_kin",
    "target_not_kin",
    "target_of_service",
    "target_domain",
    "common",
    "not_usual",
    "held_alike",
    "broad",
    "source_powerful",
    "source_not_powerful",
)
PATHS_SHARE = 0.5
"""Share of a type's file_contexts patterns that must match ``paths``."""


class AttributesOf(Protocol):
    def attributes_of(self, type_name: str) -> frozenset[str]: ...


@dataclass(frozen=True)
class View:
    """An access with its profile and policy, as tested by patterns."""

    access: Access
    profile: Optional[Profile]
    policy: Optional[AttributesOf]

    @cached_property
    def attributes(self) -> frozenset[str]:
        target = self.access.target_type
        return self.policy.attributes_of(target) if self.policy is not None else frozenset()

    @cached_property
    def facts(self) -> Optional[PolicyFacts]:
        return facts_of_policy(self.policy)

    def holds(self, condition: str) -> bool:
        if condition in POLICY_CONDITIONS:
            return POLICY_CONDITIONS[condition](self)
        return CONDITIONS[condition](self.access, self.profile)

    @cached_property
    def is_kin(self) -> bool:
        """Whether the target belongs to the source's service, according to the profile or the policy."""
        access = self.access
        if access.target == SELF or _own(access, self.profile):
            return True
        return self.facts is not None and self.facts.are_kin(access.source, access.target_type)

    def has_paths(self, globs: tuple[str, ...], key: str) -> bool:
        """Tell whether most of the target type's patterns in file_contexts match."""
        if self.facts is None:
            return False
        place = (key, self.access.target_type)
        found = self.facts.matched_paths.get(place)
        if found is None:
            paths = self.facts.paths_of(self.access.target_type)
            found = bool(paths) and sum(map(compile_names(globs), paths)) >= PATHS_SHARE * len(paths)
            self.facts.matched_paths[place] = found
        return found


def _own(access: Access, profile: Optional[Profile]) -> bool:
    target = access.target_type
    return profile is not None and (target in profile.own_types or target in profile.domains)


def _answering(access: Access, profile: Optional[Profile]) -> bool:
    known = profile.answering if profile is not None else ()
    return any(part.domain == access.source and access.tclass in part.classes for part in known)


def _client(access: Access, profile: Optional[Profile]) -> bool:
    return profile is not None and access.source in profile.clients


def _public(access: Access, profile: Optional[Profile]) -> bool:
    """Tell whether the target is the profile's first port, which is the one for clients."""
    return profile is not None and bool(profile.ports) and access.target == profile.ports[0].type


def _foreign(access: Access, profile: Optional[Profile]) -> bool:
    if profile is None or access.source in profile.domains:
        return False
    # for the permission associate, the source is the type of a file on a file system
    return not (access.permission == "associate" and access.source in profile.own_types)


# Without a profile, no domain counts as foreign, and no type as the service's own.
CONDITIONS: dict[str, Callable[[Access, Optional[Profile]], bool]] = {
    "target_own": _own,
    "target_foreign": lambda access, profile: not _own(access, profile),
    "target_self": lambda access, _: access.target == SELF,
    "target_other": lambda access, _: access.target != SELF,
    "target_service": lambda access, profile: profile is not None and access.target_type in profile.domains,
    "target_not_service": lambda access, profile: profile is None or access.target_type not in profile.domains,
    "target_hub": lambda access, profile: profile is not None and access.target_type in profile.service_domains,
    "source_foreign": _foreign,
    "source_user": lambda access, profile: profile is not None and access.source in profile.user_domains,
    "answering": _answering,
    "not_answering": lambda access, profile: not _answering(access, profile),
    "source_client": _client,
    "target_public": _public,
    "not_client": lambda access, profile: not (_client(access, profile) and _public(access, profile)),
}


# Without a policy, only the profile determines kinship, and no access counts as common.
POLICY_CONDITIONS: dict[str, Callable[[View], bool]] = {
    "with_policy": lambda view: view.facts is not None,
    "target_kin": lambda view: view.is_kin,
    "target_not_kin": lambda view: not view.is_kin,
    "target_of_service": lambda view: (
        not view.is_kin and view.facts is not None and bool(view.facts.service_of(view.access.target_type))
    ),
    "target_domain": lambda view: view.policy is not None and "domain" in view.attributes,
    "common": lambda view: view.facts is not None and view.facts.is_common(view.access),
    "not_usual": lambda view: view.facts is None or not view.facts.is_usual(view.access),
    "held_alike": lambda view: view.facts is not None and view.facts.holds_alike(view.access),
    "source_powerful": lambda view: view.facts is not None and view.facts.is_powerful(view.access.source),
    "source_not_powerful": lambda view: view.facts is None or not view.facts.is_powerful(view.access.source),
    "broad": lambda view: view.facts is not None and view.facts.is_broad(view.access),
}


@dataclass(frozen=True)
class Pattern:
    """One pattern. All keys must match; an empty key matches everything."""

    source: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    tclass: tuple[str, ...] = ()
    perms: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    not_attributes: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_source: tuple[str, ...] = ()
    not_target: tuple[str, ...] = ()
    not_perms: tuple[str, ...] = ()
    when: tuple[str, ...] = ()

    @classmethod
    def read(cls, part: Section, sets: Mapping[str, Sequence[str]]) -> Pattern:
        def names(key: str) -> tuple[str, ...]:
            given = part.texts(key, check=lambda text: _unknown_set(text, sets))
            return expand_sets(given, sets)

        when = part.texts("when", check=lambda text: "" if text in WHEN else f"must be one of {', '.join(WHEN)}")
        return cls(
            names("source"),
            names("target"),
            names("class"),
            names("perms"),
            part.texts("attributes"),
            part.texts("not_attributes"),
            names("paths"),
            names("not_source"),
            names("not_target"),
            names("not_perms"),
            tuple(condition for condition in when if condition in WHEN),
        )

    def fits_operation(self, tclass: str, permission: str) -> bool:
        """Tell whether class and permission match, regardless of the types."""
        if not (_any(self.tclass, tclass) and _any(self.perms, permission)):
            return False
        return not (self.not_perms and _any(self.not_perms, permission))

    def fits_source(self, source: str) -> bool:
        """Tell whether the source matches, regardless of the other keys."""
        return _any(self.source, source) and not (self.not_source and _any(self.not_source, source))

    def fits(self, view: View) -> bool:
        access = view.access
        if not (self.fits_operation(access.tclass, access.permission) and self.fits_source(access.source)):
            return False
        return self.fits_target(view)

    def fits_target(self, view: View) -> bool:
        """Tell whether target and conditions match, if source and operation do."""
        if not self._fits_name(view):
            return False
        if self.not_target and self._excludes(view):
            return False
        return all(view.holds(condition) for condition in self.when)

    def _fits_name(self, view: View) -> bool:
        if self.not_attributes and not view.attributes.isdisjoint(self.not_attributes):
            return False
        target = view.access.target_type
        if self.target and (self._target_matcher or _matcher_for(self.target, view.profile))(target):
            return True
        if self.attributes and (target in self.attributes or not view.attributes.isdisjoint(self.attributes)):
            return True
        if self.paths:
            return view.has_paths(self.paths, self._paths_key)
        return not self.target and not self.attributes

    def _excludes(self, view: View) -> bool:
        return (self._not_target_matcher or _matcher_for(self.not_target, view.profile))(view.access.target_type)

    @cached_property
    def _target_matcher(self) -> Optional[Matcher]:
        return _own_matcher(self.target)

    @cached_property
    def _not_target_matcher(self) -> Optional[Matcher]:
        return _own_matcher(self.not_target)

    @cached_property
    def _paths_key(self) -> str:
        """The paths as one string, whose hash Python keeps."""
        return "\n".join(self.paths)


def _own_matcher(names: tuple[str, ...]) -> Optional[Matcher]:
    """Return the matcher of names that do not depend on a profile, None if they do."""
    return None if OWN_CODE in names or SECRETS in names else compile_names(names)


def _matcher_for(names: tuple[str, ...], profile: Optional[Profile]) -> Matcher:
    return compile_names(_of_profile(names, profile))


def expand_sets(names: Sequence[str], sets: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the names with each @NAME replaced by the members of the set; the profile's own sets are kept."""
    expanded: list[str] = []
    for name in names:
        if name.startswith("@") and name not in (OWN_CODE, SECRETS):
            expanded.extend(sets.get(name[1:], ()))
        else:
            expanded.append(name)
    return tuple(expanded)


@lru_cache(maxsize=512)
def compile_names(names: tuple[str, ...]) -> Matcher:
    """Return a function that tells whether a name equals or matches one of these names and shell patterns."""
    plain = frozenset(name for name in names if not set(name) & set("*?["))
    globs = [translate(name) for name in names if set(name) & set("*?[")]
    if not globs:
        return plain.__contains__
    found = re.compile("|".join(globs))
    return lambda name: name in plain or found.match(name) is not None


def _any(names: tuple[str, ...], name: str) -> bool:
    return not names or compile_names(names)(name)


def _of_profile(names: tuple[str, ...], profile: Optional[Profile]) -> tuple[str, ...]:
    if OWN_CODE not in names and SECRETS not in names:
        return names
    found: list[str] = []
    for name in names:
        if name == OWN_CODE:
            found.extend(profile.code if profile is not None else ())
        elif name == SECRETS:
            found.extend(profile.secrets if profile is not None else ())
        else:
            found.append(name)
    return tuple(found) or ("",)  # an empty set matches nothing rather than everything


def _unknown_set(text: str, sets: Mapping[str, Sequence[str]]) -> str:
    if text.startswith("@") and text not in (OWN_CODE, SECRETS) and text[1:] not in sets:
        return f"there is no set {text}"
    return ""
