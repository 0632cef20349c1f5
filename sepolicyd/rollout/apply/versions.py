"""Storage of a module's versions below root's rollout directory: source, packages, rules and hashes of each."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepolicyd.access import Access
from sepolicyd.errors import StateError
from sepolicyd.module.source import FileContext, Rule, SourceText, TypeTransition
from sepolicyd.rollout.apply.changes_besides_modules import Change, from_json, to_json
from sepolicyd.settings import MODULE_PREFIX
from sepolicyd.storage.files import cannot_write, ensure_directory, sync_directory, write_whole

META, CURRENT = "version.json", "current"
SCHEMA = 1
NONE = 0  # the version before the first one: the module is not installed


@dataclass(frozen=True)
class Version:
    """One version of a profile's module."""

    number: int
    modules: Mapping[str, str]
    """The sha256 of the package of each module in the version, by module name."""
    rules: tuple[Rule, ...] = ()
    changes: tuple[Change, ...] = ()
    """Ports, booleans and labelled paths."""
    labels: str = ""
    """Hash of ``contexts`` and ``transitions`` (:func:`labels_of`)."""
    parent: int = NONE
    """The version that was installed when this one was built."""
    at: float = 0.0
    """Epoch seconds."""
    contexts: tuple[FileContext, ...] = ()
    transitions: tuple[TypeTransition, ...] = ()


EMPTY = Version(NONE, {})


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def labels_of(source: SourceText) -> str:
    """Return a hash of a module's content besides rules: file contexts and transitions."""
    return sha256((source.fc + "\n".join(map(str, source.transitions))).encode())


NO_LABELS = sha256(b"")


class Versions:
    """``versions/NAME/N/`` and ``versions/NAME/current`` in root's rollout directory. A number is never reused."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.directory = directory / "versions" / name

    def numbers(self) -> list[int]:
        """Return the numbers of all versions, ascending, including those of failed applies."""
        return sorted(int(path.name) for path in self.directory.glob("*") if path.name.isdigit() and (path / META).is_file())

    def next(self) -> int:
        return max([*(int(path.name) for path in self.directory.glob("*") if path.name.isdigit()), NONE]) + 1

    def current(self) -> int:
        """Return the installed version according to the records, 0 for none.

        :raises StateError: the file is damaged
        """
        path = self.directory / CURRENT
        try:
            return int(path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return NONE
        except (OSError, ValueError) as error:
            raise StateError(
                f"{path} cannot be read: {error}", f"write the loaded version's number into it: {self.numbers()}"
            ) from None

    def set_current(self, number: int) -> None:
        write_whole(self.directory / CURRENT, b"%d\n" % number)

    def write(self, version: Version, files: Mapping[str, bytes]) -> None:
        """Write a version with its files atomically.

        :raises StateError: the version could not be written
        """
        target = self.directory / str(version.number)
        temporary = self.directory / f".{version.number}.new"
        try:
            ensure_directory(self.directory)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(mode=0o700)
            for name, data in sorted(files.items()):
                write_whole(temporary / name, data)
            write_whole(temporary / META, _to_text(version).encode())
            temporary.rename(target)
            sync_directory(self.directory)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise cannot_write(target, error) from error
        except StateError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def load(self, number: int) -> Version:
        """Read a version.

        :raises StateError: there is no such version, or it is damaged
        """
        if number == NONE:
            return EMPTY
        path = self.directory / str(number) / META
        try:
            return _from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            known = ", ".join(map(str, self.numbers())) or "none"
            raise StateError(f"{self.name} has no version {number}", f"versions kept: {known}") from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StateError(f"{path} cannot be read: {error}", "restore it from a backup") from None

    def package(self, number: int, module: str) -> bytes:
        """Return a kept package after checking its hash.

        :raises StateError: the package is missing or damaged
        """
        version = self.load(number)
        path = self.directory / str(number) / f"{module}.pp"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StateError(f"{path} cannot be read: {error.strerror}", "restore it from a backup") from None
        if sha256(data) != version.modules.get(module):
            raise StateError(f"the hash of {path} has changed since it was stored", "restore it from a backup")
        return data

    def packages(self, number: int) -> dict[str, bytes]:
        """Return all packages of a version by module name; {} for version 0."""
        return {module: self.package(number, module) for module in self.load(number).modules}

    def numbers_of(self, module: str, digest: str) -> list[int]:
        """Return the versions whose package of this module has this hash."""
        found = []
        for number in self.numbers():
            with suppress(StateError):
                if self.load(number).modules.get(module) == digest:
                    found.append(number)
        return found


def rules_from(items: Iterable[Any]) -> tuple[Rule, ...]:
    """Parse rules from their JSON; the inverse of :func:`rules_to`."""
    return tuple(
        Rule(Access(source, target, tclass, permission, tuple((int(low), int(high)) for low, high in xperms)), kind)
        for kind, source, target, tclass, permission, xperms in items
    )


def rules_to(rules: Iterable[Rule]) -> list[list[Any]]:
    return [
        [rule.kind, a.source, a.target, a.tclass, a.permission, [list(pair) for pair in a.xperms]]
        for rule in sorted(rules)
        for a in (rule.access,)
    ]


def _to_text(version: Version) -> str:
    values = {
        "schema": SCHEMA,
        "number": version.number,
        "at": version.at,
        "modules": dict(version.modules),
        "labels": version.labels,
        "parent": version.parent,
        "rules": rules_to(version.rules),
        "changes": [to_json(change) for change in version.changes],
        "contexts": [[one.pattern, one.type, one.kind] for one in version.contexts],
        "transitions": [[one.source, one.target, one.tclass, one.type] for one in version.transitions],
    }
    return json.dumps(values, sort_keys=True, indent=1) + "\n"


def _from_json(values: Mapping[str, Any]) -> Version:
    if values["schema"] != SCHEMA:
        raise ValueError(f"schema {values['schema']} is not {SCHEMA}")
    return Version(
        int(values["number"]),
        {str(name): str(digest) for name, digest in values["modules"].items()},
        rules_from(values["rules"]),
        tuple(from_json(change) for change in values["changes"]),
        str(values["labels"]),
        int(values["parent"]),
        float(values["at"]),
        tuple(FileContext(*map(str, item)) for item in values.get("contexts", ())),
        tuple(TypeTransition(*map(str, item)) for item in values.get("transitions", ())),
    )


def module_name(profile: str) -> str:
    """Return the name of the module that holds a profile's decisions."""
    return MODULE_PREFIX + profile
