"""A kernel policy, indexed once: one access in, an Verdict out; and who else may do it, by rules, attributes and booleans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Optional

from sepolicyd.access import Access
from sepolicyd.policy import setools_adapter
from sepolicyd.policy.model import (
    ALL_XPERMS,
    Condition,
    Conditional,
    Constraint,
    Key,
    PortRange,
    Ranges,
    Transition,
    Verdict,
    VerdictKind,
    XpermRule,
    join_ranges,
    subtract_ranges,
)
from sepolicyd.policy.setools_adapter import RawPolicy

# the attribute that unconfined_domain() of the reference policy and of Fedora's policy gives
UNCONFINED_ATTRIBUTES = ("unconfined_domain_type", "unconfined_domain", "unconfineddomain")
# binaries may lose attributes that no rule uses; by right, unconfined is who may do this to nearly every domain
UNCONFINED_RIGHTS = ("share", "ptrace", "sigkill")  # the rarest first; Debian: the same 24 as by attribute
UNCONFINED_SHARE = 0.9
MAX_BOUNDS = 64


class Pair(NamedTuple):
    """What rules give one source type on one target type and class, attributes expanded."""

    permissions: frozenset[str]
    conditional: tuple[Conditional, ...]

    def conditions(self, permission: str) -> tuple[Condition, ...]:
        return tuple(condition for permissions, condition in self.conditional if permission in permissions)


EMPTY = Pair(frozenset(), ())


class PolicyIndex:
    """One policy at one time; never changes once loaded. A command asks for it by :func:`identity_of` its file, each time."""

    def __init__(self, raw: RawPolicy) -> None:
        self.raw = raw
        self._pairs: dict[tuple[str, Key], Pair] = {}

    @classmethod
    def load(cls, path: Path) -> PolicyIndex:
        """Read and index a kernel policy (0.6 to 1 s for a distribution's).

        :raises ToolMissingError: no setools
        :raises InputError: no such file, not a kernel policy, or too new a version
        """
        return cls(setools_adapter.read_policy(Path(path)))

    # -- names ---------------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        return self.raw.path

    @property
    def version(self) -> int:
        return self.raw.version

    @property
    def mls(self) -> bool:
        return self.raw.mls

    @property
    def handle_unknown(self) -> str:
        """allow, deny or reject: what the kernel does with classes and permissions that the policy lacks."""
        return self.raw.handle_unknown

    @property
    def types(self) -> Mapping[str, frozenset[str]]:
        """Every type with its attributes."""
        return self.raw.types

    @property
    def classes(self) -> Mapping[str, frozenset[str]]:
        """Every class with all its permissions, the inherited ones included."""
        return self.raw.classes

    @property
    def booleans(self) -> Mapping[str, bool]:
        """Booleans with the state in this policy (a policy file holds the persistent one)."""
        return self.raw.booleans

    @property
    def permissive_types(self) -> frozenset[str]:
        return self.raw.permissive

    @property
    def dontaudit_rules(self) -> int:
        """Number of dontaudit rules; 0 in a policy built with `semodule -DB`."""
        tables = (self.raw.av["dontaudit"], self.raw.av_conditional["dontaudit"])
        return sum(len(table) for table in tables) + sum(1 for rule in self.raw.xperms if rule.rule == "dontauditxperm")

    def resolve(self, type_name: str) -> str:
        """The type behind an alias, else the name itself."""
        return self.raw.aliases.get(type_name, type_name)

    def types_of(self, attribute: str) -> frozenset[str]:
        """The types of an attribute; a type's own name gives that type; unknown gives nothing."""
        if attribute in self.raw.attributes:
            return self.raw.attributes[attribute]
        name = self.resolve(attribute)
        return frozenset((name,)) if name in self.raw.types else frozenset()

    def attributes_of(self, type_name: str) -> frozenset[str]:
        return self.raw.types.get(self.resolve(type_name), frozenset())

    def missing_names(self, access: Access) -> list[str]:
        """Names of the access that this policy lacks, as ["type x_t", "class y", "permission p of class file"]."""
        missing = []
        for name in dict.fromkeys((access.source, access.target_type)):
            if self.resolve(name) not in self.raw.types:
                missing.append(f"{'attribute, not a type:' if name in self.raw.attributes else 'type'} {name}")
        if access.tclass not in self.raw.classes:
            missing.append(f"class {access.tclass}")
        elif access.permission not in self.raw.classes[access.tclass]:
            missing.append(f"permission {access.permission} of class {access.tclass}")
        return missing

    # -- one access ----------------------------------------------------------------------------------------------------

    def pair(self, source: str, target: str, tclass: str, rule: str = "allow") -> Pair:
        """What `allow` (or dontaudit, auditallow) rules give the pair of types, bounds not applied."""
        place = (rule, (source, target, tclass))
        found = self._pairs.get(place)
        if found is None:
            found = self._pairs[place] = self._compute(rule, self.resolve(source), self.resolve(target), tclass)
        return found

    def _compute(self, rule: str, source: str, target: str, tclass: str) -> Pair:
        permissions: set[str] = set()
        conditional: list[Conditional] = []
        plain, under = self.raw.av[rule], self.raw.av_conditional[rule]
        for key in self.keys(source, target, tclass):
            if key in plain:
                permissions |= plain[key]
            if key in under:
                conditional.extend(under[key])
        return Pair(frozenset(permissions), tuple(conditional)) if permissions or conditional else EMPTY

    def keys(self, source: str, target: str, tclass: str) -> Iterator[Key]:
        """Every avtab key whose rules would apply to the pair."""
        targets = (target, *self.raw.types.get(target, ()))
        for left in (source, *self.raw.types.get(source, ())):
            if (left, tclass) in self._sources:
                for right in targets:
                    yield (left, right, tclass)

    @cached_property
    def _sources(self) -> frozenset[tuple[str, str]]:
        found = {(rule.key[0], rule.key[2]) for rule in self.raw.xperms}
        for rules in self.raw.av.values():
            found.update((key[0], key[2]) for key in rules)
        for conditional in self.raw.av_conditional.values():
            found.update((key[0], key[2]) for key in conditional)
        return frozenset(found)

    def grants(
        self, source: str, target: str, tclass: str, permission: str, states: Optional[Mapping[str, bool]] = None
    ) -> bool:
        """Whether allow rules give the permission with the booleans in these states (default: the policy's own)."""
        pair = self.pair(source, target, tclass)
        now = self.raw.booleans if states is None else states
        return permission in pair.permissions or any(item.active(now) for item in pair.conditions(permission))

    def allowed(self, access: Access) -> Verdict:
        """What type enforcement says of the access, with the booleans as they stand. Constraints: :func:`why.explain`."""
        unknown = self.missing_names(access)
        if unknown:
            return Verdict(VerdictKind.UNKNOWN, unknown=tuple(unknown))
        source, target, permission = access.source, access.target_type, access.permission
        conditions = self.pair(source, target, access.tclass).conditions(permission)
        silent = self._dontaudited(source, target, access.tclass, permission)
        if not self.grants(source, target, access.tclass, permission):
            kind = VerdictKind.BOOLEAN if conditions else VerdictKind.DONTAUDIT if silent else VerdictKind.NONE
            return Verdict(kind, conditions, silent)
        bound = self.bound_that_denies(access)
        if bound:
            return Verdict(VerdictKind.BOUNDS, conditions, silent, bound=bound)
        numbers = self.xperms(source, target, access.tclass, permission)
        left_out = numbers is not None and bool(subtract_ranges(access.xperms, numbers) or not numbers)
        kind = VerdictKind.XPERM if left_out else VerdictKind.ALLOWED
        return Verdict(kind, conditions, silent, xperms=numbers)

    def _dontaudited(self, source: str, target: str, tclass: str, permission: str) -> bool:
        pair = self.pair(source, target, tclass, "dontaudit")
        return permission in pair.permissions or any(item.active(self.raw.booleans) for item in pair.conditions(permission))

    def bound_that_denies(self, access: Access) -> str:
        """The bounding type that lacks the access, "" where none does (services.c, type_attribute_bounds_av).

        The kernel asks (parent of source, target), and where the target is bounded too (parent, parent of target).
        """
        source, target = self.resolve(access.source), self.resolve(access.target_type)
        for _ in range(MAX_BOUNDS):
            parent = self.raw.bounds.get(source)
            if parent is None:
                return ""
            target = self.raw.bounds.get(target, target)
            if not self.grants(parent, target, access.tclass, access.permission):
                return parent
            source = parent
        return ""

    def xperms(self, source: str, target: str, tclass: str, permission: str) -> Optional[Ranges]:
        """The numbers of ioctl (or nlmsg) that the policy lets through, None where it does not filter them.

        Any xperm rule of the pair makes the kernel filter, auditallowxperm and dontauditxperm too
        (services.c, services_compute_xperms_drivers); only allowxperm lets a number through.
        """
        rules = self._xperm_rules.get((tclass, permission))
        if not rules:
            return None
        keys = set(self.keys(self.resolve(source), self.resolve(target), tclass))
        mine = [
            rule for rule in rules if rule.key in keys and (rule.condition is None or rule.condition.active(self.raw.booleans))
        ]
        if not mine:
            return None
        return join_ranges(*(rule.ranges for rule in mine if rule.rule == "allowxperm"))

    @cached_property
    def _xperm_rules(self) -> dict[tuple[str, str], list[XpermRule]]:
        found: dict[tuple[str, str], list[XpermRule]] = {}
        for rule in self.raw.xperms:
            found.setdefault((rule.key[2], rule.name), []).append(rule)
        return found

    def numbers(self, source: str, target: str, tclass: str, permission: str) -> Ranges:
        """The numbers that are allowed in the end: none without the permission, all where nothing filters."""
        if not self.grants(source, target, tclass, permission):
            return ()
        numbers = self.xperms(source, target, tclass, permission)
        return ALL_XPERMS if numbers is None else numbers

    # -- who else ------------------------------------------------------------------------------------------------------

    def holders(self, tclass: str, permission: str, target_type: str) -> list[str]:
        """The confined domains that hold an access, sorted: rarity (domain.md C4).

        Conditional rules count with both branches. SELF as target counts rules of a domain on itself.
        """
        return sorted(self.sources_of(tclass, permission, target_type) & self.domains - self.unconfined)

    def sources_of(self, tclass: str, permission: str, target_type: str) -> frozenset[str]:
        """Every type that a rule gives the access, conditional rules of both branches counted."""
        if target_type == "self":
            return self._self_sources(tclass, permission)
        target = self.resolve(target_type)
        found: set[str] = set()
        for right in (target, *self.raw.types.get(target, ())):
            for left, permissions in self._by_target.get((right, tclass), ()):
                if permission in permissions:
                    found |= self.types_of(left)
        return frozenset(found)

    def _self_sources(self, tclass: str, permission: str) -> frozenset[str]:
        found: set[str] = set()
        for left, right, permissions in self._by_class.get(tclass, ()):
            if permission in permissions:
                found |= self.types_of(left) & self.types_of(right)
        return frozenset(found)

    @cached_property
    def _by_target(self) -> dict[tuple[str, str], list[tuple[str, frozenset[str]]]]:
        found: dict[tuple[str, str], list[tuple[str, frozenset[str]]]] = {}
        for (source, target, tclass), permissions in self._allow_rules():
            found.setdefault((target, tclass), []).append((source, permissions))
        return found

    @cached_property
    def _by_class(self) -> dict[str, list[tuple[str, str, frozenset[str]]]]:
        found: dict[str, list[tuple[str, str, frozenset[str]]]] = {}
        for (source, target, tclass), permissions in self._allow_rules():
            found.setdefault(tclass, []).append((source, target, permissions))
        return found

    def _allow_rules(self) -> Iterator[tuple[Key, frozenset[str]]]:
        yield from self.raw.av["allow"].items()
        for key, rules in self.raw.av_conditional["allow"].items():
            for permissions, _ in rules:
                yield key, permissions

    @cached_property
    def domains(self) -> frozenset[str]:
        """Types of processes: of the attribute `domain`, or where the binary lost it, those that may fork."""
        named = self.raw.attributes.get("domain")
        return named if named else self._self_sources("process", "fork")

    @cached_property
    def unconfined(self) -> frozenset[str]:
        """Domains that policy does not hold back: by attribute, and by what they may do to nearly every domain."""
        named: set[str] = set()
        for attribute in UNCONFINED_ATTRIBUTES:
            named |= self.raw.attributes.get(attribute, frozenset())
        return frozenset(named) | self._unconfined_by_right()

    def _unconfined_by_right(self) -> frozenset[str]:
        enough = UNCONFINED_SHARE * len(self.domains)
        left = self.domains
        for right in UNCONFINED_RIGHTS:
            reach: dict[str, set[str]] = {}
            for source, target, permissions in self._by_class.get("process", ()):
                if right in permissions:
                    targets = self.types_of(target)
                    for name in self.types_of(source) & left:
                        reach.setdefault(name, set()).update(targets)
            left = frozenset(name for name, targets in reach.items() if len(targets & self.domains) >= enough)
        return left

    def is_unconfined(self, type_name: str) -> bool:
        return self.resolve(type_name) in self.unconfined

    # -- the rest of the policy ----------------------------------------------------------------------------------------

    def transitions(self) -> tuple[Transition, ...]:
        """Every type_transition, type_change and type_member rule, attributes not expanded."""
        return self.raw.transitions

    def transition(self, source: str, target: str, tclass: str, filename: str = "") -> str:
        """The type that a new object (or process) gets, "" where it keeps its parent's; the named rule goes first."""
        lefts = {self.resolve(source), *self.attributes_of(source)}
        rights = {self.resolve(target), *self.attributes_of(target)}
        plain = ""
        for rule in self._transitions_by_class.get(tclass, ()):
            if rule.source in lefts and rule.target in rights:
                if rule.filename and rule.filename == filename:
                    return rule.default
                plain = plain or ("" if rule.filename else rule.default)
        return plain

    @cached_property
    def _transitions_by_class(self) -> dict[str, list[Transition]]:
        found: dict[str, list[Transition]] = {}
        for rule in self.raw.transitions:
            if rule.rule == "type_transition":
                found.setdefault(rule.tclass, []).append(rule)
        return found

    @property
    def bounds(self) -> Mapping[str, str]:
        """Bounded type -> the type that bounds it."""
        return self.raw.bounds

    @cached_property
    def roles(self) -> Mapping[str, frozenset[str]]:
        """Role -> its types."""
        return setools_adapter.read_roles(self.raw.handle)

    @cached_property
    def dominated_roles(self) -> Mapping[str, frozenset[str]]:
        """Role -> the roles that it dominates."""
        return setools_adapter.read_dominated_roles(self.raw.handle)

    @cached_property
    def role_allows(self) -> frozenset[tuple[str, str]]:
        """(from, to) of every role allow rule."""
        return setools_adapter.read_role_allows(self.raw.handle)

    @cached_property
    def users(self) -> Mapping[str, frozenset[str]]:
        """User -> its roles."""
        return setools_adapter.read_users(self.raw.handle)

    @cached_property
    def constraints(self) -> tuple[Constraint, ...]:
        return setools_adapter.read_constraints(self.raw.handle)

    @cached_property
    def ports(self) -> tuple[PortRange, ...]:
        """Every portcon in policy order."""
        return setools_adapter.read_ports(self.raw.handle)

    @cached_property
    def categories(self) -> Mapping[str, int]:
        """Category -> its place."""
        return setools_adapter.read_categories(self.raw.handle)

    @cached_property
    def sensitivities(self) -> Mapping[str, int]:
        """Sensitivity -> its rank."""
        return setools_adapter.read_sensitivities(self.raw.handle)

    @cached_property
    def statements(self) -> Mapping[str, frozenset[str]]:
        """portcon, genfscon, fs_use, users, range_transition, ... as statements by kind."""
        return setools_adapter.read_statements(self.raw.handle)
