"""Declarations of a policy index: types, classes, booleans, roles, constraints, transitions and other statements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from sepolicyd.access import Access
from sepolicyd.policy.index_tables import CLASS_BITS, Tables, class_of, key_of
from sepolicyd.policy.model import Condition, Constraint, PortRange, Transition, XpermRule

TRANSITION_RULES = ("type_transition", "type_change", "type_member")  # rows of the tables hold an index into this tuple


class _NameSets(Mapping[str, frozenset[str]]):
    """Read-only mapping of a name to a set of names, looked up on demand."""

    def __init__(self, names: list[str], first: int, find: Any) -> None:
        self._numbers = {name: number for number, name in enumerate(names, start=first)}
        self._find = find

    def __getitem__(self, name: str) -> frozenset[str]:
        return frozenset(self._find(self._numbers[name]))

    def __contains__(self, name: object) -> bool:
        return name in self._numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


class PolicyDeclarations:
    """Declarations of one policy, decoded from its tables on first use."""

    def __init__(self, tables: Tables, path: Path) -> None:
        self.tables = tables
        self.path = path
        facts = tables.values("facts")
        self.version: int = facts["version"]
        self.mls: bool = facts["mls"]
        self.handle_unknown: str = facts["handle_unknown"]
        """allow, deny or reject: kernel action for classes and permissions that the policy lacks."""
        self.booleans: Mapping[str, bool] = facts["booleans"]
        """Booleans with their state in this policy (policy files hold the persistent state)."""
        self.permissive_types = frozenset(facts["permissive"])
        self.neveraudit_types = frozenset(facts["neveraudit"])
        self.bounds: Mapping[str, str] = facts["bounds"]
        """Bounded type to its bounding type."""

    # -- names ---------------------------------------------------------------------------------------------------------

    @cached_property
    def types(self) -> Mapping[str, frozenset[str]]:
        """Attributes by type."""
        tables = self.tables
        return _NameSets(tables.types, 0, lambda number: (tables.symbols[one] for one in tables.attributes_of(number)))

    @cached_property
    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Types by attribute."""
        tables = self.tables
        return _NameSets(tables.attributes, len(tables.types), lambda number: tables.names_of(tables.members(number)))

    @property
    def aliases(self) -> Mapping[str, str]:
        """Types by alias."""
        return self.tables.aliases

    @cached_property
    def classes(self) -> Mapping[str, frozenset[str]]:
        """Permissions by class, including inherited ones."""
        return {name: frozenset(permissions) for name, permissions in self.tables.classes.items()}

    def resolve(self, type_name: str) -> str:
        """Return the type of an alias, or the name itself."""
        return self.tables.aliases.get(type_name, type_name)

    def types_of(self, attribute: str) -> frozenset[str]:
        """Return the types of an attribute, the type itself for the name of a type, nothing for unknown names."""
        if attribute in self.attributes:
            return self.attributes[attribute]
        name = self.resolve(attribute)
        return frozenset((name,)) if name in self.types else frozenset()

    def attributes_of(self, type_name: str) -> frozenset[str]:
        return self.types.get(self.resolve(type_name), frozenset())

    def missing_names(self, access: Access) -> list[str]:
        """Return the names of the access that this policy lacks: ["type x_t", "class y", "permission p of class file"]."""
        missing = []
        for name in dict.fromkeys((access.source, access.target_type)):
            if self.resolve(name) not in self.types:
                missing.append(f"{'attribute, not a type:' if name in self.attributes else 'type'} {name}")
        if access.tclass not in self.classes:
            missing.append(f"class {access.tclass}")
        elif access.permission not in self.classes[access.tclass]:
            missing.append(f"permission {access.permission} of class {access.tclass}")
        return missing

    # -- other rules ---------------------------------------------------------------------------------------------------

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """All conditions; a rule row holds the position plus one."""
        return tuple(
            Condition(tuple(booleans), frozenset(map(tuple, rows)), text)
            for booleans, rows, text in self.tables.values("conditions")
        )

    @cached_property
    def xperm_rules(self) -> tuple[XpermRule, ...]:
        """Every allowxperm, auditallowxperm and dontauditxperm rule."""
        return tuple(
            XpermRule(rule, tuple(key), name, tuple(map(tuple, ranges)), self.conditions[condition - 1] if condition else None)
            for rule, key, name, ranges, condition in self.tables.values("xperms")
        )

    @cached_property
    def _transition_rows(self) -> dict[int, list[tuple[int, int, int, int]]]:
        """Transitions for any file name: key of target and class to (source, index of the rule word, default, condition)."""
        columns = {name: self.tables.column(f"transitions.{name}", code) for name, code in {
            "keys": "I", "starts": "I", "sources": "H", "kinds": "H", "defaults": "H", "conditions": "I",
        }.items()}  # fmt: skip
        rows = list(zip(columns["sources"], columns["kinds"], columns["defaults"], columns["conditions"]))
        starts = columns["starts"]
        return {key: rows[starts[place] : starts[place + 1]] for place, key in enumerate(columns["keys"])}

    @cached_property
    def _named_transition_rows(self) -> dict[int, list[tuple[str, int, int]]]:
        """Transitions for one file name: key of target and class to (file name, default, index of the set of sources)."""
        found: dict[int, list[tuple[str, int, int]]] = {}
        for key, filename, default, sources in self.tables.values("named_transitions"):
            found.setdefault(key, []).append((filename, default, sources))
        return found

    def transitions(self) -> Iterator[Transition]:
        """Yield every type_transition, type_change and type_member rule, attributes not expanded."""
        yield from self.plain_transitions()
        for (target, tclass, filename, default), sources in self.named_transitions.items():
            for source in sources:
                yield Transition("type_transition", source, target, tclass, default, filename)

    def plain_transitions(self) -> Iterator[Transition]:
        """Yield the transitions that apply to any file name."""
        for key, rows in self._transition_rows.items():
            yield from self._plain(key, rows)

    def transitions_on(self, target: str, tclass: str) -> Iterator[Transition]:
        """Yield the transitions of one target and class, without reading all transitions."""
        numbers = self.tables.numbers.get(target), self.tables.class_numbers.get(tclass)
        if numbers[0] is None or numbers[1] is None:
            return
        key = key_of(numbers[0], numbers[1])
        yield from self._plain(key, self._transition_rows.get(key, ()))
        for filename, default, place in self._named_transition_rows.get(key, ()):
            for source in self.tables.names_of(self._named_sources(place)):
                yield Transition("type_transition", source, target, tclass, self.tables.symbols[default], filename)

    def _plain(self, key: int, rows: Iterable[tuple[int, int, int, int]]) -> Iterator[Transition]:
        symbols, classes = self.tables.symbols, self.tables.class_names
        target, tclass = symbols[key >> CLASS_BITS], classes[class_of(key)]
        for source, kind, default, condition in rows:
            text = str(self.conditions[condition - 1]) if condition else ""
            yield Transition(TRANSITION_RULES[kind], symbols[source], target, tclass, symbols[default], "", text)

    @cached_property
    def named_transitions(self) -> Mapping[tuple[str, str, str, str], frozenset[str]]:
        """Source types of the type_transition rules for one file name, by (target, class, file name, default)."""
        sets: dict[int, frozenset[str]] = {}
        symbols, classes = self.tables.symbols, self.tables.class_names
        found = {}
        for key, rows in self._named_transition_rows.items():
            for filename, default, place in rows:
                if place not in sets:
                    sets[place] = frozenset(self.tables.names_of(self._named_sources(place)))
                found[symbols[key >> CLASS_BITS], classes[class_of(key)], filename, symbols[default]] = sets[place]
        return found

    def _named_sources(self, place: int) -> int:
        return self.tables.bit_set("named_transitions.sources", place)

    def transition(self, source: str, target: str, tclass: str, filename: str = "") -> str:
        """Return the type of a new object (or process), "" if inherited. A rule for the file name takes precedence."""
        tables = self.tables
        left, right = tables.numbers.get(self.resolve(source), -1), tables.numbers.get(self.resolve(target), -1)
        class_number = tables.class_numbers.get(tclass)
        if left < 0 or right < 0 or class_number is None:
            return ""
        keys = [key_of(one, class_number) for one in (right, *tables.attributes_of(right))]
        for key in keys if filename else ():
            for name, default, place in self._named_transition_rows.get(key, ()):
                if name == filename and self._named_sources(place) >> left & 1:
                    return tables.symbols[default]
        lefts = {left, *tables.attributes_of(left)}
        for key in keys:
            for one, kind, default, condition in self._transition_rows.get(key, ()):
                if one in lefts and kind == 0 and (not condition or self.conditions[condition - 1].active(self.booleans)):
                    return tables.symbols[default]
        return ""

    # -- roles, levels, constraints, contexts --------------------------------------------------------------------------

    @cached_property
    def _roles(self) -> dict[str, Any]:
        found: dict[str, Any] = self.tables.values("roles")
        return found

    @cached_property
    def roles(self) -> Mapping[str, frozenset[str]]:
        """Types by role."""
        return {role: frozenset(types) for role, types in self._roles["types"].items()}

    @cached_property
    def dominated_roles(self) -> Mapping[str, frozenset[str]]:
        """Dominated roles by role."""
        return {role: frozenset(found) for role, found in self._roles["dominated"].items()}

    @cached_property
    def role_allows(self) -> frozenset[tuple[str, str]]:
        """All role allow rules, as (from, to)."""
        return frozenset((source, target) for source, target in self._roles["allows"])

    @cached_property
    def users(self) -> Mapping[str, frozenset[str]]:
        """Roles by user."""
        return {user: frozenset(roles) for user, roles in self._roles["users"].items()}

    @cached_property
    def _levels(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = self.tables.values("levels")
        return found

    @property
    def categories(self) -> Mapping[str, int]:
        """Category numbers by name."""
        return self._levels["categories"]

    @property
    def sensitivities(self) -> Mapping[str, int]:
        """Sensitivity ranks by name."""
        return self._levels["sensitivities"]

    @cached_property
    def constraints(self) -> tuple[Constraint, ...]:
        """All constrain and mlsconstrain statements, names expanded to types, users and roles."""
        found = self.tables.values("constraints")
        types = self.tables.types
        sets = [frozenset(types[one] if isinstance(one, int) else one for one in names) for names in found["sets"]]
        return tuple(
            Constraint(
                rule,
                tclass,
                frozenset(permissions),
                tuple(sets[item] if isinstance(item, int) else item for item in expression),
                text,
            )
            for rule, tclass, permissions, expression, text in found["rows"]
        )

    @cached_property
    def ports(self) -> tuple[PortRange, ...]:
        """All portcon statements in policy order."""
        return tuple(PortRange(*row) for row in self.tables.values("ports"))

    @cached_property
    def statements(self) -> Mapping[str, frozenset[str]]:
        """portcon, genfscon, fs_use, users, range_transition, ... as statements by kind."""
        return {kind: frozenset(lines) for kind, lines in self.tables.values("statements").items()}
