"""A kept version and what is still wanted in, the part of it that may return out: what was denied since stays denied."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepolicyd.module.build import build
from sepolicyd.module.source import FileContext, Rule, SourceText, TypeTransition, render
from sepolicyd.module.transaction import BooleanValue, PortLabel
from sepolicyd.rollout.apply.desired import DesiredPolicy
from sepolicyd.rollout.apply.versions import Version, Versions, labels_of, sha256

NO_LABELS = sha256(b"")


@dataclass(frozen=True)
class Part:
    """What of a version returns, and in words what does not; () where all of it does."""

    rules: tuple[Rule, ...]
    contexts: tuple[FileContext, ...]
    transitions: tuple[TypeTransition, ...]
    changes: tuple[Mapping[str, Any], ...]
    left_out: tuple[str, ...]


def part_of(version: Version, still: DesiredPolicy) -> Part:
    """
    :param still: what the standing decisions ask, or what a later version holds: nothing else returns
    """
    rules, contexts, transitions = set(still.rules), set(still.contexts), set(still.transitions)
    left_out = [f"{rule.kind} {rule.access}" for rule in version.rules if rule not in rules]
    left_out += [f"{one.pattern} as {one.type}" for one in version.contexts if one not in contexts]
    left_out += [str(one) for one in version.transitions if one not in transitions]
    left_out += [_words(change) for change in version.changes if not _is_wanted(change, still)]
    unknown = version.labels not in {"", NO_LABELS} and not (version.contexts or version.transitions)
    if left_out and unknown:  # the package is made anew, and what stands in the old one cannot be told
        left_out.append("file contexts and type transitions, which an earlier sepolicyd has not noted")
    return Part(
        tuple(rule for rule in version.rules if rule in rules),
        tuple(one for one in version.contexts if one in contexts),
        tuple(one for one in version.transitions if one in transitions),
        tuple(change for change in version.changes if _is_wanted(change, still)),
        tuple(left_out),
    )


def desired_of(version: Version) -> DesiredPolicy:
    """What a version asks of the policy, in the form of what decisions ask."""
    return DesiredPolicy(
        rules=version.rules,
        contexts=version.contexts,
        transitions=version.transitions,
        ports=tuple(_port(change) for change in version.changes if change["kind"] == "port"),
        booleans=tuple(_boolean(change) for change in version.changes if change["kind"] == "boolean"),
    )


def keep_part(versions: Versions, whole: Version, part: Part, number: int, place: Path, *, mls: bool) -> Version:
    """Build the part as a version of its own and keep it, with the base packages of the whole one.

    :param place: a new directory to build in
    :raises SepolicydError: it could not be built or kept; nothing has been changed
    """
    source = render(versions.name, number, part.rules, part.contexts, part.transitions, mls=mls)
    place.mkdir()
    packages = {name: data for name, data in versions.packages(whole.number).items() if name != versions.name}
    packages[versions.name] = build(source, place, mls=mls).read_bytes()
    made = Version(
        number,
        {name: sha256(data) for name, data in packages.items()},
        part.rules,
        part.changes,
        labels_of(source),
        whole.parent,
        time.time(),
        part.contexts,
        part.transitions,
    )
    versions.write(made, files_of(source, packages))
    return made


def files_of(source: SourceText, packages: Mapping[str, bytes]) -> dict[str, bytes]:
    """What is kept of a version besides its description."""
    files = {f"{name}.pp": data for name, data in packages.items()}
    return {**files, f"{source.name}.te": source.te.encode(), f"{source.name}.fc": source.fc.encode()}


def _is_wanted(change: Mapping[str, Any], still: DesiredPolicy) -> bool:
    """Paths are labelled as the policy then says, so that they may stay."""
    if change["kind"] == "port":
        return _port(change) in still.ports
    return change["kind"] != "boolean" or _boolean(change) in still.booleans


def _words(change: Mapping[str, Any]) -> str:
    if change["kind"] == "port":
        return f"port {change['protocol']} {change['number']} as {change['type']}"
    return f"boolean {change['name']} {'on' if change['on'] else 'off'}"


def _port(change: Mapping[str, Any]) -> PortLabel:
    return PortLabel(change["protocol"], change["number"], change["type"])


def _boolean(change: Mapping[str, Any]) -> BooleanValue:
    return BooleanValue(change["name"], change["on"])
