"""Known denials of a service (its known_denials.yaml) and of services in general, with their fixes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Optional

from sepolicyd.access import is_identifier
from sepolicyd.document import Section, read
from sepolicyd.errors import InputError
from sepolicyd.profiles import Profile
from sepolicyd.rules.candidate import Candidate
from sepolicyd.rules.evidence import Evidence
from sepolicyd.rules.fixes.detail import (
    BooleanSetting,
    ConfigurationLine,
    DomainTransition,
    FixDetail,
    NewLabels,
    NoDetail,
    OwnType,
    PathLabel,
)
from sepolicyd.rules.fixes.fix import Fix, FixKind
from sepolicyd.rules.guard.level import GuardLevel
from sepolicyd.rules.guard.pattern import AttributesOf, Pattern, View
from sepolicyd.settings import policy_dirs

FILE = "known_denials.yaml"


@dataclass(frozen=True)
class KnownDenial:
    """One known denial. All conditions must be met: ``patterns`` by an access, the others by the evidence.

    ``fixes`` are in order of preference, () if only level and reason are known. An empty ``level`` leaves it to the guard.
    ``every``: all accesses of the candidate must match, not only one.
    """

    name: str
    patterns: tuple[Pattern, ...]
    why: str
    link: str
    fixes: tuple[Fix, ...] = ()
    level: str = ""
    comms: tuple[str, ...] = ()
    exes: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    every: bool = False

    def fits(self, candidate: Candidate, profile: Optional[Profile], policy: Optional[AttributesOf]) -> bool:
        views = [View(access, profile, policy) for access in candidate.evidence]
        fitting = [any(pattern.fits(view) for pattern in self.patterns) for view in views]
        return (all if self.every else any)(fitting) and self._supported(candidate.merged)

    def _supported(self, seen: Evidence) -> bool:
        numbers = [str(number) for _, number in seen.ports]
        wanted = (
            (self.comms, seen.comms),
            (self.exes, seen.exes),
            (self.paths, (*seen.paths, *seen.names)),
            (self.ports, numbers),
            (self.roles, seen.roles),
        )
        return all(not globs or any(_like(value, globs) for value in values) for globs, values in wanted)


def matching(
    known: Iterable[KnownDenial], candidate: Candidate, profile: Optional[Profile] = None, policy: Optional[AttributesOf] = None
) -> list[KnownDenial]:
    """Return the known denials that match a candidate, in the order of the files."""
    return [one for one in known if one.fits(candidate, profile, policy)]


def load(directory: Path) -> tuple[KnownDenial, ...]:
    """Return the known denials of a profile's directory, then those of services in general.

    :raises InputError: a file has errors (the message lists all)
    """
    general = next((path for path in (one / FILE for one in policy_dirs()) if path.is_file()), None)
    files = [path for path in (directory / FILE, general) if path is not None and path.is_file()]
    return tuple(one for file in files for one in _cached(file, file.stat().st_mtime_ns))


@lru_cache(maxsize=64)
def _cached(file: Path, _changed: int) -> tuple[KnownDenial, ...]:
    top = read(file)
    found = top.each("known_denials", _known_denial, required=True)
    top.done()
    top.mistakes.raise_if_any(f"known denials {file}")
    if not found:
        raise InputError(f"{file} contains no known denial")
    return found


def _known_denial(part: Section) -> KnownDenial:
    return KnownDenial(
        name=part.text("name", required=True),
        patterns=part.each("match", lambda inner: Pattern.read(inner, {}), required=True),
        why=part.text("why", required=True),
        link=part.text("link"),
        fixes=part.each("fixes", _fix),
        level=part.text("level", oneof=tuple(GuardLevel)),
        comms=part.texts("comms"),
        exes=part.texts("exes"),
        paths=part.texts("paths"),
        ports=part.texts("ports"),
        roles=part.texts("roles"),
        every=part.flag("every"),
    )


def _fix(part: Section) -> Fix:
    kind = FixKind(part.text("kind", FixKind.APPLICATION.value, required=True, oneof=[kind.value for kind in FixKind]))
    for key in ("boolean", "program", "domain", "type"):
        if part.has(key) and not is_identifier(part.text(key)):
            part.wrong(key, f"{part.text(key)!r} is not a valid name in a policy")
    return Fix(kind, part.text("text", required=True), part.texts("commands"), _detail(part, kind))


def _detail(part: Section, kind: FixKind) -> FixDetail:
    """Return the detail, whose class follows from the keys."""
    if part.has("boolean"):
        return BooleanSetting(part.text("boolean"), True)
    if part.has("type") or part.has("pattern"):
        labels = NewLabels(contexts=(PathLabel(part.text("pattern", required=True), part.text("type", required=True)),))
        return OwnType(labels) if kind is FixKind.OWN_TYPE else labels
    if part.has("program") or part.has("domain"):
        return DomainTransition(part.text("program"), part.text("domain"))
    if part.has("file") or part.has("line"):
        return ConfigurationLine(part.text("file"), part.text("line"))
    return NoDetail()


def _like(value: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(value, glob) for glob in globs)
