"""Changes of a version besides modules: port labels, persistent boolean values and labels of single paths.

Each change records the state before sepolicyd's first version, so that a rollback can restore it.
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
    """The previous local label, "" for none."""

    @property
    def label(self) -> PortLabel:
        return PortLabel(self.protocol, self.number, self.type)

    def __str__(self) -> str:
        return f"port {self.protocol} {self.number} as {self.type}"


@dataclass(frozen=True)
class ChangedBoolean:
    """A persistent boolean value that a version sets."""

    name: str
    on: bool
    before: Optional[bool] = None
    """The previous local value, None for none."""

    @property
    def value(self) -> BooleanValue:
        return BooleanValue(self.name, self.on)

    def __str__(self) -> str:
        return f"boolean {self.name} {'on' if self.on else 'off'}"


@dataclass(frozen=True)
class ChangedPath:
    """A path that is relabelled according to the version's policy."""

    path: str
    before: str = ""
    """The previous context; "" if it had none or the store is not this machine's."""

    def __str__(self) -> str:
        return f"label of {self.path}"


Change = Union[ChangedPort, ChangedBoolean, ChangedPath]
# The kind names in version.json and history.jsonl.
KINDS: Mapping[str, type[Change]] = {"port": ChangedPort, "boolean": ChangedBoolean, "path": ChangedPath}
NAMES = {kind: name for name, kind in KINDS.items()}


def to_json(change: Change) -> dict[str, Any]:
    return {"kind": NAMES[type(change)], **asdict(change)}


def from_json(values: Mapping[str, Any]) -> Change:
    """Return the change in a JSON object.

    :raises KeyError: unknown kind
    :raises TypeError: the fields do not match the kind
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
    """Return the wanted labels; ports labelled by the previous version and no longer wanted get their earlier label."""
    found = {
        (change.protocol, change.number): PortLabel(change.protocol, change.number, change.before)
        for change in previous
        if isinstance(change, ChangedPort)
    }
    found.update({(port.protocol, port.number): port for port in wanted})
    return tuple(sorted(found.values()))


def target_booleans(previous: Iterable[Change], wanted: Iterable[BooleanValue]) -> tuple[BooleanValue, ...]:
    """Return the wanted persistent values, with the same rule as :func:`target_ports`."""
    found = {change.name: BooleanValue(change.name, change.before) for change in previous if isinstance(change, ChangedBoolean)}
    found.update({value.name: value for value in wanted})
    return tuple(found[name] for name in sorted(found))


def recorded(changes: Iterable[Change]) -> Before:
    """Return the local labels and values of the store according to a version's records."""
    changes = tuple(changes)
    return Before(ports_of(changes), booleans_of(changes))


def changes_of(
    desired: DesiredPolicy, previous: Iterable[Change], local: Before, contexts: Mapping[str, str]
) -> tuple[Change, ...]:
    """Return the changes of a new version.

    :param previous: the changes of the replaced version, whose ``before`` values are kept
    :param local: the store's present labels and values
    :param contexts: the present context of each path, "" if unknown
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
