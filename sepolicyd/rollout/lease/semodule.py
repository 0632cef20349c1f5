"""Module store and boot policy as a lease uses them: semodule(8) and the files of the store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

from sepolicyd import process
from sepolicyd.errors import RefusedError, SepolicydError, StateError, ToolError
from sepolicyd.kernel.boot_policy import BootPolicy
from sepolicyd.kernel.policy_image import PolicyFormatError, PolicyHead, parse_head, same_but_permissive
from sepolicyd.module import surviving_semodule
from sepolicyd.module.listing import parse_modules
from sepolicyd.policy.selinux_config import policy_directory, store_directory
from sepolicyd.rollout.lease.lease import MODULE_PREFIX, Lease
from sepolicyd.storage.store_files import StoreFiles

SCRATCH_PRIORITY = 100  # in the copy only
SEMODULE_TIMEOUT_S = 900.0  # takes 38 s in an emulated guest; a hung semodule must not block later attempts forever
LOCK_WAIT_S = 2.0
PERMISSIVE = re.compile(r"\(typepermissive ([^\s()]+)\)")


def argv_open(priority: int, cil: Optional[Path], *, hidden: bool) -> list[str]:
    """Return the semodule command that opens a lease in one transaction.

    ``-D -i`` can be combined, ``-D -B -i`` cannot (semodule 3.4: "build or reload should not be used with other
    commands"). The end of a lease therefore takes two transactions: remove the module, then restore dontaudit rules.
    """
    if cil is None:
        return ["semodule", "-D", "-B"] if hidden else []
    return ["semodule", "-X", str(priority), *(["-D"] if hidden else []), "-i", str(cil)]


def argv_remove(module: str, priority: int, *more: str) -> list[str]:
    """Return the semodule command that removes a module.

    :param more: ``-n`` leaves the kernel's policy unchanged
    """
    return ["semodule", *more, "-X", str(priority), "-r", module]


def types_in(text: str) -> list[str]:
    """Return the types that a lease module's text makes permissive."""
    return [str(name) for name in PERMISSIVE.findall(text)]


def _written(path: Path, text: str) -> Path:
    path.write_text(text or "; a lease without domains\n", encoding="utf-8")
    return path


class SemoduleStore:
    """Implementation of ``ModuleStore``."""

    def __init__(self, path: Optional[Path] = None) -> None:
        self.files = StoreFiles(path or store_directory(Path("/")))

    def check(self, module: str, text: str) -> None:
        """Link a copy of the store with the lease's module; ending the lease will need the same rebuild."""
        # imported here and in open() only: ending a lease must not depend on the other packages
        from sepolicyd.module.build import workdir
        from sepolicyd.module.store import Store

        store = Store()
        store.check()
        store.wait_for_lock(0)
        try:
            with workdir("check") as directory:
                copy = store.copy(directory / "root")
                copy.install([_written(directory / f"{module}.cil", text)], priority=SCRATCH_PRIORITY)
                permissive = parse_head(copy.policy().read_bytes()).permissive
        except (SepolicydError, PolicyFormatError, OSError) as error:
            raise RefusedError(
                f"the policy store cannot be rebuilt, so a lease could not be ended: {error}",
                "repair the store first; see: semodule -B",
            ) from error
        without_effect = sorted(set(types_in(text)) - permissive)
        if without_effect:
            raise RefusedError(
                f"tested in a copy of the store, the lease's module does not make {', '.join(without_effect)} permissive",
                "see: semodule -lfull",
            )

    def open(self, lease: Lease, text: str) -> None:
        """Install the lease's module, and disable dontaudit rules for a hidden lease."""
        from sepolicyd.module.build import workdir  # an enforcing policy lets semodule map files only in this directory

        with workdir("lease") as directory:
            cil = _written(directory / f"{lease.module}.cil", text) if text else None
            argv = argv_open(lease.priority, cil, hidden=lease.hidden)
            if argv:
                process.run(argv, timeout=SEMODULE_TIMEOUT_S)

    def remove(self, module: str, priority: int) -> None:
        """Remove a module, after waiting for a semodule that outlived its parent and could still install it."""
        self._remove(module, priority)

    def remove_for_next_boot(self, module: str, priority: int) -> None:
        """Remove a module without loading the result."""
        self._remove(module, priority, "-n")

    def _remove(self, module: str, priority: int, *more: str) -> None:
        surviving_semodule.wait_for(lambda words: any(word.endswith(f"/{module}.cil".encode()) for word in words), module)
        present = self.lease_modules()
        if module not in present:
            return
        process.run(argv_remove(module, present.get(module, priority), *more), timeout=SEMODULE_TIMEOUT_S)
        if module in self.lease_modules():
            raise ToolError(f"semodule reported success, but {module} is still in the store", "see: semodule -lfull")

    def lease_modules(self) -> dict[str, int]:
        """Return every lease module in the store, with its priority.

        The directories are read because `semodule -l` takes seconds on a slow machine. While a transaction swaps ``active``,
        semodule is called instead, since it waits for the store's lock.
        """
        self.files.put_back_previous()
        if not self.files.directory.is_dir():
            return {}  # the machine has a policy but no module store
        if not self.files.modules.is_dir():
            found = parse_modules(process.run(["semodule", "-lfull"], timeout=SEMODULE_TIMEOUT_S).stdout)
            return {module.name: module.priority for module in found if module.name.startswith(MODULE_PREFIX)}
        return self.files.priorities(MODULE_PREFIX)

    def module_types(self, module: str) -> frozenset[str]:
        """Read the types that a lease module makes permissive."""
        return frozenset(name for text in self.files.module_texts(module) for name in types_in(text))

    def permissive_types(self) -> frozenset[str]:
        """Read the permissive types of the policy that the store built."""
        return built_policy(self.files)[1].permissive

    def dontaudit_off(self) -> bool:
        """Tell whether the store is built without dontaudit rules."""
        return self.files.dontaudit_off

    def restore_dontaudit(self) -> None:
        """Rebuild the store with dontaudit rules."""
        process.run(["semodule", "-B"], timeout=SEMODULE_TIMEOUT_S)
        if self.dontaudit_off():
            raise ToolError("dontaudit rules are still disabled after semodule -B", "run: semodule -B")

    def rebuild(self, *, load: bool = True) -> None:
        """Rebuild the store's policy and install it as the boot policy, leaving dontaudit rules as they are."""
        self.files.put_back_previous()
        words = [*([] if load else ["-n"]), *(["-D"] if self.dontaudit_off() else []), "-B"]
        process.run(["semodule", *words], timeout=SEMODULE_TIMEOUT_S)

    def reload(self) -> None:
        """Load the boot policy into the kernel."""
        process.run(["load_policy"], timeout=SEMODULE_TIMEOUT_S)


class BootPolicyFiles:
    """Implementation of ``BootPolicyControl``."""

    def __init__(self, store: Optional[Path] = None, directory: Optional[Path] = None) -> None:
        self.store = StoreFiles(store or store_directory(Path("/")))
        self.policy = BootPolicy(directory or policy_directory(Path("/")))

    def permissive_types(self) -> frozenset[str]:
        """Return the types that are permissive in any of the policy files that a boot may load."""
        return self.policy.permissive_types()

    def close_types(self, types: tuple[str, ...]) -> None:
        """Rewrite the policy files with these types enforcing."""
        if not self.permissive_types() & frozenset(types):
            return
        with self.store.transaction(wait=LOCK_WAIT_S) as held:
            if not held:
                raise ToolError("the policy store is locked by another semodule", "wait for it to end")
            try:
                self.policy.close_types(types)
            except StateError as error:
                raise ToolError(error.what, error.hint) from error

    def matches_store(self) -> bool:
        """Compare the policy files with the policy that the store built."""
        return self.policy.holds(built_policy(self.store)[0])

    def is_store_but_permissive(self) -> bool:
        """Tell whether the boot policy differs from the store's in permissive types only."""
        try:
            return same_but_permissive(self.policy.newest().read_bytes(), built_policy(self.store)[0])
        except (OSError, PolicyFormatError) as error:
            raise ToolError(f"{self.policy.directory} cannot be read: {error}", "run: semodule -B") from error


def built_policy(files: StoreFiles) -> tuple[bytes, PolicyHead]:
    """Return the policy that a store built, and its parsed head.

    :raises ToolError: the file is missing or not a policy
    """
    try:
        policy = files.built_policy.read_bytes()
        return policy, parse_head(policy)
    except (OSError, PolicyFormatError) as error:
        raise ToolError(f"{files.built_policy} cannot be read: {error}", "run: semodule -B") from error
