"""Read-only index of one kernel policy: decide single accesses, and find the types that hold an access."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Optional

from sepolicyd.access import SELF, Access
from sepolicyd.policy import setools_adapter
from sepolicyd.policy.declarations import PolicyDeclarations
from sepolicyd.policy.index_tables import EMPTY, NO_RULES, Group, Pair, Tables, count, key_of
from sepolicyd.policy.model import (
    ALL_XPERMS,
    Condition,
    Conditional,
    Key,
    Ranges,
    Verdict,
    VerdictKind,
    XpermRule,
    join_ranges,
    subtract_ranges,
)

# the attribute that unconfined_domain() of the reference policy and of Fedora's policy gives
UNCONFINED_ATTRIBUTES = ("unconfined_domain_type", "unconfined_domain", "unconfineddomain")
# a binary policy may lack attributes that no rule uses; then a type with these permissions on nearly all domains counts
UNCONFINED_RIGHTS = ("share", "ptrace", "sigkill")  # the rarest first; Debian: same 24 types as by attribute
UNCONFINED_SHARE = 0.9
MAX_BOUNDS = 64
MAX_CACHED_GROUPS = 48  # each holds the rules of one (target, class): up to 100 kB


class PolicyIndex(PolicyDeclarations):
    """Immutable index of one policy. Commands look it up by the :func:`identity_of` its file."""

    def __init__(self, tables: Tables, path: Path) -> None:
        super().__init__(tables, path)
        self._groups: dict[tuple[str, int], Group] = {}
        self._source_bits = lru_cache(maxsize=1024)(self._compute_source_bits)
        self._by_key: dict[str, tuple[dict[Key, frozenset[str]], dict[Key, tuple[Conditional, ...]]]] = {}

    @classmethod
    def load(cls, path: Path) -> PolicyIndex:
        """Read and index a kernel policy with setools (1 to 2 s for a distribution policy).

        :func:`sepolicyd.policy.index_store.load` caches the result.

        :raises ToolMissingError: no setools
        :raises InputError: no such file, not a kernel policy, or too new a version
        """
        return cls.of(setools_adapter.read_content(Path(path)), Path(path))

    @classmethod
    def of(cls, content: bytes, path: Path) -> PolicyIndex:
        """Index the content of a kernel policy; ``path`` names it in messages.

        :raises ToolMissingError: no setools
        :raises InputError: not a policy that the installed libsepol can read
        """
        from sepolicyd.policy import index_builder  # not needed with a cached index

        raw = setools_adapter.read_policy(content, path)
        with setools_adapter.without_collector():
            return cls(Tables(index_builder.build(raw)), path)

    # -- rules ---------------------------------------------------------------------------------------------------------

    def rules(
        self, kind: str, sources: Optional[Collection[str]] = None
    ) -> Iterator[tuple[Key, frozenset[str], Optional[Condition]]]:
        """Yield (key, permissions, condition) of the rules of a kind in the binary policy, attributes not expanded.

        :param kind: allow, dontaudit or auditallow
        :param sources: only rules whose source is one of these names
        """
        tables, conditions = self.tables, self.conditions
        symbols, classes = tables.symbols, tables.class_names
        wanted = None if sources is None else {tables.numbers[name] for name in sources if name in tables.numbers}
        for row in tables.rules(kind).rows():
            if wanted is None or row.source in wanted:
                key = (symbols[row.source], symbols[row.target], classes[row.tclass])
                permissions = tables.permissions(row.tclass, row.mask)
                yield key, permissions, conditions[row.condition - 1] if row.condition else None

    def rule(self, kind: str, source: str, target: str, tclass: str) -> frozenset[str]:
        """Return the permissions of the unconditional rule with exactly this source and target, each a type or an attribute."""
        tables = self.tables
        left, right, number = tables.numbers.get(source), tables.numbers.get(target), tables.class_numbers.get(tclass)
        if left is None or right is None or number is None:
            return frozenset()
        found = 0
        for one, mask, condition in tables.rules(kind).of(key_of(right, number)):
            found |= mask if one == left and not condition else 0
        return tables.permissions(number, found)

    def rule_sources(self, kind: str, target: str, tclass: str, permission: str, *, conditional: bool = True) -> frozenset[str]:
        """Return the sources (types and attributes) of the rules on exactly this target, a type or an attribute.

        :param conditional: include conditional rules
        """
        tables = self.tables
        right, number = tables.numbers.get(target), tables.class_numbers.get(tclass)
        if right is None or number is None:
            return frozenset()
        bit = tables.mask(number, permission)
        rows = tables.rules(kind).of_pair(right, number)
        return frozenset(tables.symbols[source] for source, mask, when in rows if mask & bit and (conditional or not when))

    def plain_rules(self, kind: str) -> Mapping[Key, frozenset[str]]:
        """Return the unconditional rules of a kind by key."""
        return self._rules_by_key(kind)[0]

    def conditional_rules(self, kind: str) -> Mapping[Key, tuple[Conditional, ...]]:
        """Return the conditional rules of a kind by key."""
        return self._rules_by_key(kind)[1]

    def _rules_by_key(self, kind: str) -> tuple[dict[Key, frozenset[str]], dict[Key, tuple[Conditional, ...]]]:
        if kind not in self._by_key:
            plain: dict[Key, frozenset[str]] = {}
            conditional: dict[Key, tuple[Conditional, ...]] = {}
            for key, permissions, condition in self.rules(kind):
                if condition is None:
                    plain[key] = permissions
                else:
                    conditional[key] = (*conditional.get(key, ()), (permissions, condition))
            self._by_key[kind] = plain, conditional
        return self._by_key[kind]

    def _group(self, kind: str, target: int, tclass: int) -> Group:
        """Return all rules on a target symbol, including those on its attributes."""
        place = (kind, key_of(target, tclass))
        found = self._groups.get(place)
        if found is None:
            if len(self._groups) >= MAX_CACHED_GROUPS:
                del self._groups[next(iter(self._groups))]
            found = self._groups[place] = self._compute_group(kind, target, tclass)
        return found

    def _compute_group(self, kind: str, target: int, tclass: int) -> Group:
        rules = self.tables.rules(kind)
        found = Group({}, [])
        for right in (target, *self.tables.attributes_of(target)):
            for source, mask, condition in rules.of(key_of(right, tclass)):
                if condition:
                    found.conditional.append((source, mask, condition))
                else:
                    found.masks[source] = found.masks.get(source, 0) | mask
        return found

    def _group_by_name(self, kind: str, target: str, tclass: str) -> tuple[Group, int]:
        """Return the rules on a type or attribute, with the number of the class."""
        right, number = self.tables.numbers.get(self.resolve(target)), self.tables.class_numbers.get(tclass)
        if right is None or number is None:
            return NO_RULES, 0
        return self._group(kind, right, number), number

    def _symbols(self, name: str) -> tuple[int, ...]:
        """Return the symbols whose rules apply to a type: the type and its attributes."""
        number = self.tables.numbers.get(self.resolve(name))
        return () if number is None else (number, *self.tables.attributes_of(number))

    def pair(self, source: str, target: str, tclass: str, rule: str = "allow") -> Pair:
        """Return the permissions of a pair of types by `allow` (or dontaudit, auditallow) rules, without type bounds."""
        group, number = self._group_by_name(rule, target, tclass)
        mask, conditional = self._select(group, self._symbols(source))
        if not mask and not conditional:
            return EMPTY
        permissions, conditions = self.tables.permissions, self.conditions
        return Pair(
            permissions(number, mask),
            tuple((permissions(number, some), conditions[condition - 1]) for some, condition in conditional),
        )

    @staticmethod
    def _select(group: Group, lefts: tuple[int, ...]) -> tuple[int, list[tuple[int, int]]]:
        """Return the unconditional mask of the sources, and their (mask, condition) pairs."""
        mask = 0
        for left in lefts:
            mask |= group.masks.get(left, 0)
        if not group.conditional:
            return mask, []
        return mask, [(some, condition) for source, some, condition in group.conditional if source in lefts]

    # -- one access ----------------------------------------------------------------------------------------------------

    def grants(
        self, source: str, target: str, tclass: str, permission: str, states: Optional[Mapping[str, bool]] = None
    ) -> bool:
        """Tell whether allow rules give the permission with the booleans in these states (default: the policy's own)."""
        group, number = self._group_by_name("allow", target, tclass)
        if group is NO_RULES:
            return False
        bit = self.tables.mask(number, permission)
        mask, conditional = self._select(group, self._symbols(source))
        if mask & bit:
            return True
        now = self.booleans if states is None else states
        return any(some & bit and self.conditions[condition - 1].active(now) for some, condition in conditional)

    def allowed(self, access: Access) -> Verdict:
        """Decide an access by type enforcement with the current booleans.

        Constraints need whole contexts: :func:`sepolicyd.policy.explain.explain`.
        """
        unknown = self.missing_names(access)
        if unknown:
            return Verdict(VerdictKind.UNKNOWN, unknown=tuple(unknown))
        source, target, permission = access.source, access.target_type, access.permission
        pair = self.pair(source, target, access.tclass)
        conditions = pair.conditions(permission)
        silent = self._dontaudited(source, target, access.tclass, permission)
        if permission not in pair.permissions and not any(item.active(self.booleans) for item in conditions):
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
        return permission in pair.permissions or any(item.active(self.booleans) for item in pair.conditions(permission))

    def bound_that_denies(self, access: Access) -> str:
        """Return the bounding type that lacks the access, or "" (services.c, type_attribute_bounds_av).

        The kernel checks (parent of source, target), or (parent, parent of target) if the target is bounded too.
        """
        source, target = self.resolve(access.source), self.resolve(access.target_type)
        for _ in range(MAX_BOUNDS):
            parent = self.bounds.get(source)
            if parent is None:
                return ""
            target = self.bounds.get(target, target)
            if not self.grants(parent, target, access.tclass, access.permission):
                return parent
            source = parent
        return ""

    def xperms(self, source: str, target: str, tclass: str, permission: str) -> Optional[Ranges]:
        """Return the ioctl (or nlmsg) numbers that the policy allows, None if it does not filter them.

        Any xperm rule of the pair makes the kernel filter, even auditallowxperm and dontauditxperm
        (services.c, services_compute_xperms_drivers). Only allowxperm allows a number.
        """
        rules = self._xperms_by_permission.get((tclass, permission))
        if not rules:
            return None
        symbols = self.tables.symbols
        lefts = {symbols[one] for one in self._symbols(source)}
        rights = {symbols[one] for one in self._symbols(target)}
        mine = [
            rule
            for rule in rules
            if rule.key[0] in lefts
            and rule.key[1] in rights
            and (rule.condition is None or rule.condition.active(self.booleans))
        ]
        if not mine:
            return None
        return join_ranges(*(rule.ranges for rule in mine if rule.rule == "allowxperm"))

    @cached_property
    def _xperms_by_permission(self) -> dict[tuple[str, str], list[XpermRule]]:
        found: dict[tuple[str, str], list[XpermRule]] = {}
        for rule in self.xperm_rules:
            found.setdefault((rule.key[2], rule.name), []).append(rule)
        return found

    def permitted_numbers(self, source: str, target: str, tclass: str, permission: str) -> Ranges:
        """Return the allowed ioctl numbers: none without the permission, all if no xperm rule filters them."""
        if not self.grants(source, target, tclass, permission):
            return ()
        numbers = self.xperms(source, target, tclass, permission)
        return ALL_XPERMS if numbers is None else numbers

    # -- holders -----------------------------------------------------------------------------------------------------

    def holders(self, tclass: str, permission: str, target_type: str) -> list[str]:
        """Return the confined domains that hold an access, sorted. A short list means an unusual access.

        Conditional rules count with both branches. SELF as target counts rules of a domain on itself.
        """
        return self.tables.names_of(self._source_bits(tclass, (permission,), target_type) & self._confined_bits)

    def holders_of_any(self, tclass: str, permissions: Iterable[str], target_type: str) -> list[str]:
        """Return the confined domains that hold at least one of several permissions, sorted."""
        return self.tables.names_of(self._source_bits(tclass, tuple(permissions), target_type) & self._confined_bits)

    def count_holding_all(self, accesses: Iterable[Access]) -> int:
        """Return the number of confined domains that hold all of the accesses, without the sources of the accesses."""
        found = self._confined_bits
        for access in accesses:
            found &= self._source_bits(access.tclass, (access.permission,), access.target)
        return count(found)

    def sources_of(self, tclass: str, permission: str, target_type: str) -> frozenset[str]:
        """Return every type that a rule allows the access, counting both branches of conditional rules."""
        return frozenset(self.tables.names_of(self._source_bits(tclass, (permission,), target_type)))

    def _compute_source_bits(self, tclass: str, permissions: tuple[str, ...], target_type: str) -> int:
        """Return the types that hold at least one of the permissions, counting both branches of conditional rules."""
        found = 0
        if target_type == SELF:
            for permission in permissions:
                found |= self._self_bits(tclass, permission)
            return found
        group, number = self._group_by_name("allow", target_type, tclass)
        if group is NO_RULES:
            return 0
        wanted, members = 0, self.tables.members
        for permission in permissions:
            wanted |= self.tables.mask(number, permission)
        for source, mask in group.masks.items():
            if mask & wanted:
                found |= members(source)
        for source, mask, _ in group.conditional:
            if mask & wanted:
                found |= members(source)
        return found

    def _self_bits(self, tclass: str, permission: str) -> int:
        number = self.tables.class_numbers.get(tclass)
        bit = self.tables.mask(number, permission) if number is not None else 0
        place = self._self_places.get((number or 0) << 5 | bit.bit_length() - 1) if bit else None
        return 0 if place is None else self.tables.bit_set("self.types", place)

    @cached_property
    def _self_places(self) -> dict[int, int]:
        return {key: place for place, key in enumerate(self.tables.column("self.keys", "I"))}

    @cached_property
    def _domain_bits(self) -> int:
        number = self.tables.numbers.get("domain")
        return (self.tables.members(number) if number is not None else 0) or self._self_bits("process", "fork")

    @cached_property
    def _unconfined_bits(self) -> int:
        named = (self.tables.numbers.get(name) for name in UNCONFINED_ATTRIBUTES)
        found = self._unconfined_by_right()
        for number in named:
            found |= self.tables.members(number) if number is not None else 0
        return found

    @property
    def _confined_bits(self) -> int:
        return self._domain_bits & ~self._unconfined_bits

    @cached_property
    def domains(self) -> frozenset[str]:
        """Types of processes: the members of `domain`, or the types that may fork if the binary lacks that attribute."""
        return frozenset(self.tables.names_of(self._domain_bits))

    @cached_property
    def unconfined(self) -> frozenset[str]:
        """Unconfined domains: by attribute, or by permissions on nearly every domain."""
        return frozenset(self.tables.names_of(self._unconfined_bits))

    def _unconfined_by_right(self) -> int:
        number = self.tables.class_numbers.get("process")
        if number is None:
            return 0
        tables, domains = self.tables, self._domain_bits
        enough = UNCONFINED_SHARE * count(domains)
        left = domains
        for right in UNCONFINED_RIGHTS:
            bit = tables.mask(number, right)
            reach: dict[int, int] = {}
            for target in tables.rules("allow").keys_by_class.get(number, ()):
                for source, mask, _ in tables.rules("allow").of(key_of(target, number)):
                    if mask & bit:
                        reach[source] = reach.get(source, 0) | tables.members(target)
            left = self._reaching(reach, left, enough)
        return left

    def _reaching(self, reach: Mapping[int, int], among: int, enough: float) -> int:
        """Return the types of a set whose rules together reach enough domains."""
        found = 0
        for name in self.tables.names_of(among):
            reached = 0
            for symbol in self._symbols(name):
                reached |= reach.get(symbol, 0)
            if count(reached & self._domain_bits) >= enough:
                found |= 1 << self.tables.numbers[name]
        return found

    def is_unconfined(self, type_name: str) -> bool:
        return self.resolve(type_name) in self.unconfined
