"""Encode and decode fix details as stored in decisions.db: JSON objects whose keys are stable since the first release."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sepolicyd.rules.fixes.detail import (
    BooleanSetting,
    BooleanSettings,
    ConfigurationLine,
    CreatedLabel,
    DomainTransition,
    FixDetail,
    InterfaceCall,
    LabelledPort,
    LabelledPorts,
    NewLabels,
    NoDetail,
    OnlyPermissions,
    OwnType,
    PathLabel,
)


def encode(detail: FixDetail) -> dict[str, Any]:
    """Return the JSON object of a detail."""
    return _ENCODERS[type(detail)](detail)


def decode(stored: Mapping[str, Any]) -> FixDetail:
    """Return the detail of a JSON object. Its class follows from the keys.

    :raises ValueError: a key is missing, or a value is out of range
    :raises TypeError: a value has the wrong type
    """
    if not isinstance(stored, Mapping):
        raise TypeError("a fix detail must be a JSON object")
    for keys, read in _DECODERS:
        if keys & stored.keys():
            try:
                return read(stored)
            except KeyError as error:
                raise ValueError(f"a fix without {error}") from None
    return NoDetail()


def _labels(detail: NewLabels) -> dict[str, Any]:
    contexts = [{"pattern": one.pattern, "type": one.type, "kind": one.kind} for one in detail.contexts]
    return {"paths": list(detail.paths), "contexts": contexts}


def _own_type(detail: OwnType) -> dict[str, Any]:
    created = [{"source": one.source, "target": one.target, "class": one.tclass, "type": one.type} for one in detail.created]
    return {**_labels(detail.labels), "transitions": created, "allow": list(detail.allowed)}


def _ports(detail: LabelledPorts) -> dict[str, Any]:
    return {
        "ports": [
            {"protocol": one.protocol, "number": one.number, "type": one.type, "owner": one.owner} for one in detail.ports
        ]
    }


_ENCODERS: Mapping[type, Callable[[Any], dict[str, Any]]] = {
    NoDetail: lambda _: {},
    ConfigurationLine: lambda detail: {"file": detail.file, "line": detail.line},
    NewLabels: _labels,
    OwnType: _own_type,
    LabelledPorts: _ports,
    BooleanSetting: lambda detail: {"boolean": detail.boolean, "value": detail.value},
    BooleanSettings: lambda detail: {"booleans": [[one.boolean, one.value] for one in detail.settings]},
    DomainTransition: lambda detail: {"program": detail.program, "domain": detail.domain},
    InterfaceCall: lambda detail: {"call": detail.call},
    OnlyPermissions: lambda detail: {"only": list(detail.permissions)},
}


def _read_labels(stored: Mapping[str, Any]) -> NewLabels:
    contexts = tuple(
        PathLabel(_text(one["pattern"]), _text(one["type"]), _text(one.get("kind", ""))) for one in stored.get("contexts", ())
    )
    return NewLabels(_texts(stored.get("paths", ())), contexts)


def _read_own_type(stored: Mapping[str, Any]) -> OwnType:
    created = tuple(
        CreatedLabel(_text(one["source"]), _text(one["target"]), _text(one["class"]), _text(one["type"]))
        for one in stored.get("transitions", ())
    )
    return OwnType(_read_labels(stored), created, _texts(stored.get("allow", ())))


def _read_ports(stored: Mapping[str, Any]) -> LabelledPorts:
    return LabelledPorts(
        tuple(
            LabelledPort(_text(one["protocol"]), int(one["number"]), _text(one["type"]), _text(one.get("owner", "")))
            for one in stored["ports"]
        )
    )


# The first entry with a matching key wins. own-type precedes labels because it has a superset of their keys.
_DECODERS: tuple[tuple[frozenset[str], Callable[[Mapping[str, Any]], FixDetail]], ...] = (
    (frozenset({"transitions", "allow"}), _read_own_type),
    (frozenset({"paths", "contexts"}), _read_labels),
    (frozenset({"ports"}), _read_ports),
    (
        frozenset({"booleans"}),
        lambda stored: BooleanSettings(tuple(BooleanSetting(_text(name), bool(on)) for name, on in stored["booleans"])),
    ),
    (frozenset({"boolean"}), lambda stored: BooleanSetting(_text(stored["boolean"]), bool(stored["value"]))),
    (
        frozenset({"file", "line"}),
        lambda stored: ConfigurationLine(_text(stored.get("file", "")), _text(stored.get("line", ""))),
    ),
    (
        frozenset({"program", "domain"}),
        lambda stored: DomainTransition(_text(stored.get("program", "")), _text(stored.get("domain", ""))),
    ),
    (frozenset({"call"}), lambda stored: InterfaceCall(_text(stored["call"]))),
    (frozenset({"only"}), lambda stored: OnlyPermissions(_texts(stored["only"]))),
)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:128]!r} is not text")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"{str(values)[:128]!r} is not a list")
    return tuple(_text(value) for value in values)
