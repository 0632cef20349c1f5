"""What a version changes besides modules: port labels, lasting boolean values and labels of single paths.

Each record keeps what was there before the first version of ours, so that taking the version back restores it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Optional, Union

from sepolicyd.module.transaction import Before, BooleanValue, PortLabel
from sepolicyd.rollout.apply.desired_policy import DesiredPolicy


@dataclass(frozen=True)
class ChangedPort:
    """A local port label that a version sets."""

    protocol: str
    number: int
    type: str
    before: str = ""
    """The local label before, "" for none."""

    @property
    def label(self) -> PortLabel:
        return PortLabel(self.protocol, self.number, self.type)

    def __str__(self) -> str:
        return f"port {self.protocol} {self.number} as {self.type}"


@dataclass(frozen=True)
class ChangedBoolean:
    """A lasting boolean value that a version sets."""

    name: str
    on: bool
    before: Optional[bool] = None
    """The local value before, None for none."""

    @property
    def value(self) -> BooleanValue:
        return BooleanValue(self.name, self.on)

    def __str__(self) -> str:
        return f"boolean {self.name} {'on' if self.on else 'off'}"


@dataclass(frozen=True)
class ChangedPath:
    """A path that is relabelled as the policy of the version says."""

    path: str
    before: str = ""
    """Its whole context before; "" where it had none or the store is not this machine's."""

    def __str__(self) -> str:
        return f"label of {self.path}"


Change = Union[ChangedPort, ChangedBoolean, ChangedPath]
# The names in version.json and history.jsonl.
KINDS: Mapping[str, type[Change]] = {"port": ChangedPort, "boolean": ChangedBoolean, "path": ChangedPath}
NAMES = {kind: name for name, kind in KINDS.items()}


def to_json(change: Change) -> dict[str, Any]:
    return {"kind": NAMES[type(change)], **asdict(change)}


def from_json(values: Mapping[str, Any]) -> Change:
    """
    :raises KeyError: unknown kind
    :raises TypeError: other fields than that kind has
    """
    fields = dict(values)
    return KINDS[fields.pop("kind")](**fields)


def ports_of(changes: Iterable[Change]) -> tuple[PortLabel, ...]:
    return tuple(change.label for change in changes if isinstance(change, ChangedPort))


def booleans_of(changes: Iterable[Change]) -> tuple[BooleanValue, ...]:
    return tuple(change.value for change in changes if isinstance(change, ChangedBoolean))


def paths_of(changes: Iterable[Change]) -> tuple[str, ...]:
    return tuple(change.path for change in changes if isinstance(change, ChangedPath))


def target_ports(previous: Iterable[Change], wanted: Iterable[PortLabel]) -> tuple[PortLabel, ...]:
    """The wanted labels; ports that the previous version labelled and no decision wants now get their earlier label."""
    found = {
        (change.protocol, change.number): PortLabel(change.protocol, change.number, change.before)
        for change in previous
        if isinstance(change, ChangedPort)
    }
    found.update({(port.protocol, port.number): port for port in wanted})
    return tuple(sorted(found.values()))


def target_booleans(previous: Iterable[Change], wanted: Iterable[BooleanValue]) -> tuple[BooleanValue, ...]:
    """As :func:`target_ports`, for lasting boolean values."""
    found = {change.name: BooleanValue(change.name, change.before) for change in previous if isinstance(change, ChangedBoolean)}
    found.update({value.name: value for value in wanted})
    return tuple(found[name] for name in sorted(found))


def recorded(changes: Iterable[Change]) -> Before:
    """The local labels and values that a version's records say the store holds."""
    changes = tuple(changes)
    return Before(ports_of(changes), booleans_of(changes))


def changes_of(
    desired: DesiredPolicy, previous: Iterable[Change], local: Before, contexts: Mapping[str, str]
) -> tuple[Change, ...]:
    """The changes of a new version.

    :param previous: the changes of the version that it replaces, whose ``before`` values stay
    :param local: the store's present labels and values
    :param contexts: the present context of each path, "" where unknown
    """
    known = {_subject(change): change for change in previous}
    ports = {(port.protocol, port.number): port.type for port in local.ports}
    values = {value.name: value.on for value in local.booleans}
    made: list[Change] = []
    for port in desired.ports:
        old = known.get(("port", port.protocol, port.number))
        before = old.before if isinstance(old, ChangedPort) else ports[port.protocol, port.number]
        made.append(ChangedPort(port.protocol, port.number, port.type, before))
    for one in desired.booleans:
        old = known.get(("boolean", one.name))
        made.append(ChangedBoolean(one.name, bool(one.on), old.before if isinstance(old, ChangedBoolean) else values[one.name]))
    for path in desired.paths:
        old = known.get(("path", path))
        made.append(ChangedPath(path, old.before if isinstance(old, ChangedPath) else contexts.get(path, "")))
    return tuple(made)


def _subject(change: Change) -> tuple[Any, ...]:
    if isinstance(change, ChangedPort):
        return ("port", change.protocol, change.number)
    return ("boolean", change.name) if isinstance(change, ChangedBoolean) else ("path", change.path)
