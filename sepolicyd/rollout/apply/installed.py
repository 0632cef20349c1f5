"""What the store holds of ours, told by its content, and how a version of ours is put there: one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepolicyd.errors import RefusedError, ToolError
from sepolicyd.module.store import Installed, Store
from sepolicyd.module.transaction import BooleanValue, PortLabel, commit
from sepolicyd.rollout.apply.versions import EMPTY, NONE, Version, Versions, sha256


class ForeignModuleError(RefusedError):
    """A module of our name is not ours: only a person can say what is to become of it."""


@dataclass(frozen=True)
class InstalledVersion:
    """The version that the store holds, and all of its modules."""

    version: Version
    modules: tuple[Installed, ...]


def standing(store: Store, versions: Versions, priority: int, directory: Path) -> InstalledVersion:
    """
    :param directory: a new directory for the extracted package
    :raises RefusedError: a module of our name stands at another priority, or with a content that we never made
    """
    everything = store.modules()
    _check_priority(everything, versions.name, priority)
    if not any(module.name == versions.name for module in everything):
        return InstalledVersion(EMPTY, everything)
    digest = sha256(_content(store, versions.name, priority, directory))
    current = versions.current()
    if current != NONE and versions.load(current).modules.get(versions.name) == digest:
        return InstalledVersion(versions.load(current), everything)
    known = versions.numbers_of(versions.name, digest)
    if not known:
        raise ForeignModuleError(
            f"the module {versions.name} at priority {priority} was not made by sepolicyd, or was changed since",
            f"keep a copy (semodule -X {priority} -E {versions.name}), then semodule -X {priority} -r {versions.name}",
        )
    return InstalledVersion(versions.load(known[-1]), everything)


def fresh_bases(store: Store, kept: InstalledVersion, base: Sequence[Path], priority: int, directory: Path) -> dict[str, bytes]:
    """Those base packages that the store does not hold like this, by module name.

    :raises RefusedError: a module of that name stands at another priority
    """
    fresh = {}
    for path in base:
        name, data = path.stem, path.read_bytes()
        _check_priority(kept.modules, name, priority)
        present = any(module.name == name for module in kept.modules)
        if not present or _content(store, name, priority, directory) != data:
            fresh[name] = data
    return fresh


def still_ours(store: Store, version: Version, name: str, priority: int, directory: Path) -> list[str]:
    """The base modules that a version of ours brought and that stand as it did; `init` may have put newer ones there since."""
    present = {module.name for module in store.modules() if module.priority == priority}
    return sorted(
        module
        for module, digest in version.modules.items()
        if module != name and module in present and sha256(_content(store, module, priority, directory)) == digest
    )


def install(
    store: Store,
    packages: Mapping[str, bytes],
    priority: int,
    place: Path,
    *,
    remove: Sequence[str] = (),
    ports: Sequence[PortLabel] = (),
    booleans: Sequence[BooleanValue] = (),
) -> None:
    """One transaction: semodule's, or libsemanage's own where ports or booleans change with the modules.

    :param place: a private directory for the packages as files; semodule takes a module's name from the file's
    :raises ToolError: nothing has been changed
    """
    directory = place / "packages"
    files = [directory / f"{name}.pp" for name in sorted(packages)]
    try:
        directory.mkdir(exist_ok=True)
        for file in files:
            file.write_bytes(packages[file.stem])
    except OSError as error:
        raise ToolError(f"{directory} cannot be written: {error.strerror}", "free space there, or set TMPDIR") from error
    if ports or booleans:
        commit(store.root, store.kind, packages=files, remove=remove, priority=priority, ports=ports, booleans=booleans)
    elif files or remove:
        store.install(files, priority, remove)


def target_ports(previous: Version, ports: Iterable[PortLabel]) -> tuple[PortLabel, ...]:
    """The wanted labels, and for ports that the previous version labelled and nobody wants now, what they had before it."""
    found = {
        (change["protocol"], change["number"]): PortLabel(change["protocol"], change["number"], change["before"])
        for change in previous.changes
        if change["kind"] == "port"
    }
    found.update({(port.protocol, port.number): port for port in ports})
    return tuple(sorted(found.values()))


def target_booleans(previous: Version, booleans: Iterable[BooleanValue]) -> tuple[BooleanValue, ...]:
    """As :func:`target_ports`, for lasting values."""
    found = {
        change["name"]: BooleanValue(change["name"], change["before"])
        for change in previous.changes
        if change["kind"] == "boolean"
    }
    found.update({value.name: value for value in booleans})
    return tuple(found[name] for name in sorted(found))


def _check_priority(modules: Iterable[Installed], name: str, priority: int) -> None:
    for module in modules:
        if module.name == name and module.priority != priority:
            raise ForeignModuleError(
                f"a module {name} stands at priority {module.priority}, not ours ({priority})",
                f"see who made it: ours would hide it or be hidden; semodule -X {module.priority} -r {name} removes it",
            )


def _content(store: Store, name: str, priority: int, directory: Path) -> bytes:
    directory.mkdir(exist_ok=True)
    path = store.extract(name, priority, directory)
    try:
        return path.read_bytes()
    finally:
        path.unlink()
