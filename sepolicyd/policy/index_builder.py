"""Pack what setools reads from a policy into the sections of :mod:`sepolicyd.policy.index_tables`."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from sepolicyd.policy import setools_adapter, setools_declarations
from sepolicyd.policy.index_tables import COLUMNS, key_of
from sepolicyd.policy.model import Condition, Constraint
from sepolicyd.policy.setools_adapter import RawPolicy

SOURCE_BITS = 16


def build(raw: RawPolicy) -> dict[str, bytes]:
    """Return all sections of the index of a policy."""
    return _Builder(raw).sections()


class _Builder:
    def __init__(self, raw: RawPolicy) -> None:
        self.raw = raw
        self.types = sorted(raw.types)
        self.attributes = sorted(raw.attributes)
        self.numbers = {name: number for number, name in enumerate((*self.types, *self.attributes))}
        self.classes = {name: sorted(raw.classes[name]) for name in sorted(raw.classes)}
        self.class_numbers = {name: number for number, name in enumerate(self.classes)}
        self.members = [1 << number for number in range(len(self.types))]
        self.members += [sum(1 << self.numbers[name] for name in raw.attributes[attribute]) for attribute in self.attributes]
        self.width = (len(self.types) + 7) // 8
        self.conditions: dict[tuple[tuple[str, ...], frozenset[tuple[bool, ...]], str], int] = {}
        self._masks: dict[tuple[str, frozenset[str]], int] = {}

    def sections(self) -> dict[str, bytes]:
        raw = self.raw
        found = {
            "names": _json(
                {"types": self.types, "attributes": self.attributes, "aliases": raw.aliases, "classes": self.classes}
            ),
            "facts": _json(self._facts()),
            "members": b"".join(map(self._bit_set, self.members[len(self.types) :])),
            **self._type_attributes(),
        }
        for kind in raw.av:
            found.update(self._rules(kind))
        found.update(self._self_rules())
        found.update(self._transitions())
        found["xperms"] = _json(self._xperms())
        found["conditions"] = _json([[booleans, sorted(rows), text] for booleans, rows, text in self.conditions])
        found.update(self._rest())
        return found

    def _facts(self) -> dict[str, Any]:
        raw = self.raw
        return {
            "version": raw.version,
            "mls": raw.mls,
            "handle_unknown": raw.handle_unknown,
            "booleans": raw.booleans,
            "permissive": sorted(raw.permissive),
            "neveraudit": sorted(raw.neveraudit),
            "bounds": raw.bounds,
        }

    def _bit_set(self, bits: int) -> bytes:
        return bits.to_bytes(self.width, "little")

    def _type_attributes(self) -> dict[str, bytes]:
        starts, symbols = array("I", [0]), array("H")
        for name in self.types:
            symbols.extend(sorted(self.numbers[attribute] for attribute in self.raw.types[name]))
            starts.append(len(symbols))
        return {"type_attributes.starts": starts.tobytes(), "type_attributes.symbols": symbols.tobytes()}

    # -- rules ---------------------------------------------------------------------------------------------------------

    def _mask(self, tclass: str, permissions: frozenset[str]) -> int:
        place = (tclass, permissions)
        found = self._masks.get(place)
        if found is None:
            names = self.classes[tclass]
            found = self._masks[place] = sum(1 << names.index(name) for name in permissions)
        return found

    def _condition(self, condition: Optional[Condition]) -> int:
        """Return the number of a condition, 0 for None. Equivalent conditions with different text get different numbers."""
        if condition is None:
            return 0
        return self.conditions.setdefault((condition.booleans, condition.on, condition.text), len(self.conditions) + 1)

    def _rules(self, kind: str) -> dict[str, bytes]:
        """Pack one row per rule, sorted by target, class, source."""
        numbers, class_numbers, mask = self.numbers, self.class_numbers, self._mask
        rows = []
        for (source, target, tclass), permissions in self.raw.av[kind].items():
            order = key_of(numbers[target], class_numbers[tclass]) << SOURCE_BITS | numbers[source]
            rows.append((order, mask(tclass, permissions), 0))
        for (source, target, tclass), conditional in self.raw.av_conditional[kind].items():
            order = key_of(numbers[target], class_numbers[tclass]) << SOURCE_BITS | numbers[source]
            rows.extend((order, mask(tclass, permissions), self._condition(when)) for permissions, when in conditional)
        rows.sort()
        return _grouped(kind, [row[0] for row in rows], masks=[row[1] for row in rows], conditions=[row[2] for row in rows])

    def _self_rules(self) -> dict[str, bytes]:
        """Pack the types that hold each permission on themselves, including by conditional rules."""
        found: dict[int, int] = {}
        numbers, members = self.numbers, self.members
        allowed = [(key, permissions) for key, permissions in self.raw.av["allow"].items()]
        for key, conditional in self.raw.av_conditional["allow"].items():
            allowed.extend((key, permissions) for permissions, _ in conditional)
        for (source, target, tclass), permissions in allowed:
            both = members[numbers[source]] & members[numbers[target]] if source != target else members[numbers[source]]
            if both:
                place, mask = self.class_numbers[tclass], self._mask(tclass, permissions)
                for bit in range(mask.bit_length()):
                    if mask >> bit & 1:
                        found[place << 5 | bit] = found.get(place << 5 | bit, 0) | both
        keys = array("I", sorted(found))
        return {"self.keys": keys.tobytes(), "self.types": b"".join(self._bit_set(found[key]) for key in keys)}

    def _xperms(self) -> list[Any]:
        return [[rule.rule, rule.key, rule.name, rule.ranges, self._condition(rule.condition)] for rule in self.raw.xperms]

    # -- transitions ---------------------------------------------------------------------------------------------------

    def _transitions(self) -> dict[str, bytes]:
        """Pack plain transitions by row, and named ones once per (target, class, name, default) with their set of sources."""
        plain: list[tuple[int, int, int, int]] = []
        named: dict[tuple[int, str, int], int] = {}
        for rule in self.raw.transitions:
            key = key_of(self.numbers[rule.key[1]], self.class_numbers[rule.key[2]])
            source, default = self.numbers[rule.key[0]], self.numbers[rule.default]
            if rule.filename:
                place = (key, rule.filename, default)
                named[place] = named.get(place, 0) | self.members[source]
            else:
                kind = setools_adapter.TRANSITION_RULES.index(rule.rule)
                plain.append((key << SOURCE_BITS | source, kind, default, self._condition(rule.condition)))
        plain.sort()
        found = _grouped(
            "transitions",
            [row[0] for row in plain],
            kinds=[row[1] for row in plain],
            defaults=[row[2] for row in plain],
            conditions=[row[3] for row in plain],
        )
        sets: dict[int, int] = {}
        rows = []
        for (key, filename, default), bits in named.items():
            rows.append([key, filename, default, sets.setdefault(bits, len(sets))])
        found["named_transitions"] = _json(sorted(rows))
        found["named_transitions.sources"] = b"".join(map(self._bit_set, sets))
        return found

    # -- the rest ------------------------------------------------------------------------------------------------------

    def _rest(self) -> dict[str, bytes]:
        handle = self.raw.handle
        roles = {name: sorted(types) for name, types in setools_declarations.read_roles(handle).items()}
        dominated = {name: sorted(found) for name, found in setools_declarations.read_dominated_roles(handle).items()}
        mls = self.raw.mls
        return {
            "roles": _json(
                {
                    "types": roles,
                    "dominated": dominated,
                    "allows": sorted(setools_declarations.read_role_allows(handle)),
                    "users": {name: sorted(found) for name, found in setools_declarations.read_users(handle).items()},
                }
            ),
            "levels": _json(
                {
                    "categories": setools_declarations.read_categories(handle) if mls else {},
                    "sensitivities": setools_declarations.read_sensitivities(handle) if mls else {},
                }
            ),
            "ports": _json([[one.protocol, one.low, one.high, one.type] for one in setools_declarations.read_ports(handle)]),
            "constraints": _json(self._constraints(setools_declarations.read_constraints(handle))),
            "statements": _json({name: sorted(found) for name, found in setools_declarations.read_statements(handle).items()}),
        }

    def _constraints(self, constraints: Sequence[Constraint]) -> Mapping[str, Any]:
        """Pack the constraints, with each set of names once: types by number, users and roles by name."""
        sets: dict[frozenset[str], int] = {}
        rows = []
        for one in constraints:
            expression = [sets.setdefault(item, len(sets)) if isinstance(item, frozenset) else item for item in one.expression]
            rows.append([one.rule, one.tclass, sorted(one.permissions), expression, one.text])
        return {"sets": [self._set(names) for names in sets], "rows": rows}

    def _set(self, names: Iterable[str]) -> list[Any]:
        found = sorted(names)
        numbers = [self.numbers.get(name, -1) for name in found]
        return numbers if all(0 <= number < len(self.types) for number in numbers) else found


def _grouped(name: str, orders: Sequence[int], **columns: Iterable[int]) -> dict[str, bytes]:
    """Pack the columns of a table sorted by (target, class, source): keys, the first row of each key, and the rest."""
    keys, starts = array("I"), array("I")
    for place, order in enumerate(orders):
        key = order >> SOURCE_BITS
        if not keys or keys[-1] != key:
            keys.append(key)
            starts.append(place)
    starts.append(len(orders))
    sources = array("H", [order & (1 << SOURCE_BITS) - 1 for order in orders])
    found = {"keys": keys, "starts": starts, "sources": sources}
    found.update({column: array(COLUMNS.get(column, "H"), values) for column, values in columns.items()})
    return {f"{name}.{column}": values.tobytes() for column, values in found.items()}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogateescape")
