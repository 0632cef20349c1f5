"""The part of a kept version that a rollback may restore, without rules that have been denied or reset since."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sepolicyd.module.build import build
from sepolicyd.module.source import FileContext, Rule, SourceText, TypeTransition, render
from sepolicyd.rollout.apply.changes_besides_modules import Change, ChangedBoolean, ChangedPort, booleans_of, ports_of
from sepolicyd.rollout.apply.desired_policy import DesiredPolicy
from sepolicyd.rollout.apply.versions import NO_LABELS, Version, Versions, labels_of, sha256


@dataclass(frozen=True)
class Part:
    """The subset of a kept version that a rollback may restore."""

    rules: tuple[Rule, ...]
    contexts: tuple[FileContext, ...]
    transitions: tuple[TypeTransition, ...]
    changes: tuple[Change, ...]
    left_out: tuple[str, ...]
    """Descriptions of withheld parts; empty if everything is restored."""


def part_of(version: Version, still: DesiredPolicy) -> Part:
    """Return the part of a version that may still be restored.

    :param still: the policy of the decisions in force, or of a later version; nothing else is restored
    """
    rules, contexts, transitions = set(still.rules), set(still.contexts), set(still.transitions)
    left_out = [f"{rule.kind} {rule.access}" for rule in version.rules if rule not in rules]
    left_out += [f"{one.pattern} as {one.type}" for one in version.contexts if one not in contexts]
    left_out += [str(one) for one in version.transitions if one not in transitions]
    left_out += [str(change) for change in version.changes if not _is_wanted(change, still)]
    unknown = version.labels not in {"", NO_LABELS} and not (version.contexts or version.transitions)
    if left_out and unknown:  # the package must be rebuilt, but only the old package contains them
        left_out.append("file contexts and type transitions, which an earlier sepolicyd did not record")
    return Part(
        tuple(rule for rule in version.rules if rule in rules),
        tuple(one for one in version.contexts if one in contexts),
        tuple(one for one in version.transitions if one in transitions),
        tuple(change for change in version.changes if _is_wanted(change, still)),
        tuple(left_out),
    )


def desired_of(version: Version) -> DesiredPolicy:
    """Return the policy of a version in the form of decisions."""
    return DesiredPolicy(
        rules=version.rules,
        contexts=version.contexts,
        transitions=version.transitions,
        ports=ports_of(version.changes),
        booleans=booleans_of(version.changes),
    )


def keep_part(versions: Versions, whole: Version, part: Part, number: int, place: Path, *, mls: bool) -> Version:
    """Build the part as a version of its own and store it with the base packages of the whole version.

    :param place: a new directory to build in
    :raises SepolicydError: the part could not be built or stored; nothing has been changed
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
    """Return the files of a version, except its description, by name."""
    files = {f"{name}.pp": data for name, data in packages.items()}
    return {**files, f"{source.name}.te": source.te.encode(), f"{source.name}.fc": source.fc.encode()}


def _is_wanted(change: Change, still: DesiredPolicy) -> bool:
    """Tell whether a change may be restored. Paths always may, since they are labelled by the restored policy."""
    if isinstance(change, ChangedPort):
        return change.label in still.ports
    return not isinstance(change, ChangedBoolean) or change.value in still.booleans
