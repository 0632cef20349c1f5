"""Determine the installed version of sepolicyd's module by package hash, and install another in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepolicyd.errors import RefusedError, ToolError
from sepolicyd.module.listing import Installed
from sepolicyd.module.store import Store
from sepolicyd.module.transaction import BooleanValue, Check, PortLabel, commit
from sepolicyd.rollout.apply.outstanding import Outstanding
from sepolicyd.rollout.apply.versions import EMPTY, NONE, Version, Versions, sha256


class ForeignModuleError(RefusedError):
    """A module with sepolicyd's module name was not built by sepolicyd. The administrator must remove or rename it."""


@dataclass(frozen=True)
class InstalledVersion:
    """The version of sepolicyd's module in a store."""

    version: Version
    modules: tuple[Installed, ...]
    """All modules of the store, including those of other programs."""


def find_installed(store: Store, versions: Versions, priority: int, directory: Path) -> InstalledVersion:
    """Compare the installed package with those of the kept versions.

    :param directory: a new directory for the extracted package
    :raises ForeignModuleError: a module of that name has another priority, or a content that sepolicyd did not build
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
            f"the module {versions.name} at priority {priority} was not built by sepolicyd, or has been modified",
            f"save a copy: semodule -X {priority} -E {versions.name}; then: semodule -X {priority} -r {versions.name}",
        )
    return InstalledVersion(versions.load(known[-1]), everything)


def fresh_bases(store: Store, kept: InstalledVersion, base: Sequence[Path], priority: int, directory: Path) -> dict[str, bytes]:
    """Return the base packages that are missing from the store or differ from its content, by module name.

    :raises ForeignModuleError: a module of that name has another priority
    """
    fresh = {}
    for path in base:
        name, data = path.stem, path.read_bytes()
        _check_priority(kept.modules, name, priority)
        present = any(module.name == name for module in kept.modules)
        if not present or _content(store, name, priority, directory) != data:
            fresh[name] = data
    return fresh


def unchanged_bases(
    store: Store, modules: Iterable[Installed], version: Version, name: str, priority: int, directory: Path
) -> list[str]:
    """Return the base modules of a version whose installed content is that version's; `init` may have installed newer ones
    since.

    :param modules: every module of the store
    :param name: the version's own module, which is omitted
    """
    present = {module.name for module in modules if module.priority == priority}
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
    """Install and remove modules in one transaction, run by semodule or, if ports or booleans change too, by sepolicyd.

    :param place: a private directory for the package files
    :raises ToolError: nothing has been changed
    """
    files = package_files(packages, place)
    if ports or booleans:
        commit(store.root, store.kind, packages=files, remove=remove, priority=priority, ports=ports, booleans=booleans)
    elif files or remove:
        store.install(files, priority, remove)


def install_checked(
    store: Store, packages: Mapping[str, bytes], todo: Outstanding, priority: int, place: Path, judge: Callable[[], None]
) -> None:
    """Install in one transaction that calls ``judge`` between linking and installing. An exception aborts the transaction.

    :param place: a private directory
    :raises ToolError: nothing has been changed
    """
    check = Check(place / "check", judge)
    check.directory.mkdir()
    files = package_files(packages, place)
    commit(store.root, store.kind, packages=files, priority=priority, ports=todo.ports, booleans=todo.booleans, check=check)


def package_files(packages: Mapping[str, bytes], place: Path) -> list[Path]:
    """Write packages as NAME.pp: libsemanage takes a module's name from its file.

    :raises ToolError: the disk is full
    """
    directory = place / "packages"
    files = [directory / f"{name}.pp" for name in sorted(packages)]
    try:
        directory.mkdir(exist_ok=True)
        for file in files:
            file.write_bytes(packages[file.stem])
    except OSError as error:
        raise ToolError(f"{directory} cannot be written: {error.strerror}", "free space there, or set TMPDIR") from error
    return files


def _check_priority(modules: Iterable[Installed], name: str, priority: int) -> None:
    for module in modules:
        if module.name == name and module.priority != priority:
            raise ForeignModuleError(
                f"a module {name} is installed at priority {module.priority} instead of {priority}; one would hide the other",
                f"find out who installed it; to remove it: semodule -X {module.priority} -r {name}",
            )


def _content(store: Store, name: str, priority: int, directory: Path) -> bytes:
    directory.mkdir(exist_ok=True)
    path = store.extract(name, priority, directory)
    try:
        return path.read_bytes()
    finally:
        path.unlink()
