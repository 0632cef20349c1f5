"""The lease's view of the module store, through semodule(8) and the store's directories."""

from __future__ import annotations

import bz2
import fcntl
import re
from pathlib import Path
from typing import Optional

from sepolicyd import process
from sepolicyd.errors import RefusedError, SepolicydError, ToolError
from sepolicyd.kernel.policy_image import PolicyFormatError, parse_head
from sepolicyd.module import inflight
from sepolicyd.policy.selinux_config import store_directory
from sepolicyd.rollout.lease.lease import MODULE_PREFIX, Lease

SCRATCH_PRIORITY = 100  # in the copy only


SEMODULE_TIMEOUT_S = 900.0  # 38 s in an emulated guest; a hung one must not outlive the next tries


PERMISSIVE = re.compile(r"\(typepermissive ([^\s()]+)\)")


def argv_open(priority: int, cil: Optional[Path], *, hidden: bool) -> list[str]:
    """One transaction that opens. ``-D -i`` may stand together, ``-D -B -i`` may not (semodule 3.4: "build or reload
    should not be used with other commands"); that is also why a lease's end takes two: first closed, then dontaudit back."""
    if cil is None:
        return ["semodule", "-D", "-B"] if hidden else []
    return ["semodule", "-X", str(priority), *(["-D"] if hidden else []), "-i", str(cil)]


def argv_remove(module: str, priority: int, *more: str) -> list[str]:
    """:param more: -n leaves the kernel's policy as it is"""
    return ["semodule", *more, "-X", str(priority), "-r", module]


def parse_lease_modules(listing: str) -> dict[str, int]:
    """``semodule -lfull`` in (priority, name, language a line), our lease modules and their priority out."""
    rows = [line.split() for line in listing.splitlines()]
    return {row[1]: int(row[0]) for row in rows if len(row) > 1 and row[0].isdigit() and row[1].startswith(MODULE_PREFIX)}


def types_in(text: str) -> list[str]:
    """The types of a lease module's text."""
    return [str(name) for name in PERMISSIVE.findall(text)]


def _written(path: Path, text: str) -> Path:
    path.write_text(text or "; a lease without domains\n", encoding="utf-8")
    return path


class SemoduleStore:
    """The port ``ModuleStore``."""

    def __init__(self, path: Optional[Path] = None) -> None:
        self.path = path or store_directory(Path("/"))

    def check(self, module: str, text: str) -> None:
        """Link a copy with the lease in it: the same work that ending the lease will ask of the store."""
        # here and in open() alone: what ends a lease must not need the other rooms
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
                f"the present policy store does not rebuild, so that a lease could not be ended: {error}",
                "mend the store first; see: semodule -B",
            ) from error
        without_effect = sorted(set(types_in(text)) - permissive)
        if without_effect:
            raise RefusedError(
                f"in a copy of the store the lease does not make {', '.join(without_effect)} permissive", "see: semodule -lfull"
            )

    def open(self, lease: Lease, text: str) -> None:
        from sepolicyd.module.build import workdir  # on an enforcing machine semodule may map a file only where this makes it

        with workdir("lease") as directory:
            cil = _written(directory / f"{lease.module}.cil", text) if text else None
            argv = argv_open(lease.priority, cil, hidden=lease.hidden)
            if argv:
                process.run(argv, timeout=SEMODULE_TIMEOUT_S)

    def remove(self, module: str, priority: int) -> None:
        """A semodule of ours that outlived its killed parent could install after we removed, so it is waited for."""
        self._remove(module, priority)

    def remove_for_next_boot(self, module: str, priority: int) -> None:
        self._remove(module, priority, "-n")

    def _remove(self, module: str, priority: int, *more: str) -> None:
        inflight.wait_for(lambda words: any(word.endswith(f"/{module}.cil".encode()) for word in words), module)
        self._mend()
        present = self.lease_modules()
        if module not in present:
            return
        process.run(argv_remove(module, present.get(module, priority), *more), timeout=SEMODULE_TIMEOUT_S)
        if module in self.lease_modules():
            raise ToolError(f"semodule says it removed {module}, but the store has it still", "see: semodule -lfull")

    def lease_modules(self) -> dict[str, int]:
        """Out of the store's directories (active/modules/PRIORITY/NAME, semodule(8)), as the units' conditions do: a listing by
        semodule takes seconds on a slow machine. While a transaction swaps ``active``, semodule is asked, which waits."""
        modules = self.path / "active" / "modules"
        if not modules.is_dir():
            return parse_lease_modules(process.run(["semodule", "-lfull"], timeout=SEMODULE_TIMEOUT_S).stdout)
        found = sorted(modules.glob(f"*/{MODULE_PREFIX}*"))
        return {path.name: int(path.parent.name) for path in found if path.parent.name.isdigit()}

    def module_types(self, module: str) -> frozenset[str]:
        """libsemanage keeps a module's text in active/modules/PRIORITY/NAME/cil, compressed unless semanage.conf says else."""
        found: set[str] = set()
        for path in (self.path / "active" / "modules").glob(f"*/{module}/cil"):
            try:
                data = path.read_bytes()
                found.update(types_in((bz2.decompress(data) if data.startswith(b"BZh") else data).decode()))
            except (OSError, ValueError) as error:
                raise ToolError(f"{path} cannot be read: {error}", f"run: semodule -r {module}") from error
        return frozenset(found)

    def _mend(self) -> None:
        """A semodule that was killed between its two renames has left no active store, only the previous one (and nothing
        can be removed from none). Whoever holds the lock is no corpse."""
        active, previous = self.path / "active", self.path / "previous"
        if active.exists() or not (previous / "modules").is_dir():
            return
        with (self.path / "semanage.trans.LOCK").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                previous.rename(active)
            except OSError as error:
                raise ToolError(f"{previous} cannot be put back as {active}: {error.strerror}", "do that by hand") from error

    def dontaudit_off(self) -> bool:
        return (self.path / "active" / "disable_dontaudit").exists()

    def restore_dontaudit(self) -> None:
        process.run(["semodule", "-B"], timeout=SEMODULE_TIMEOUT_S)
        if self.dontaudit_off():
            raise ToolError("semodule -B did not bring the dontaudit rules back", "run: semodule -B")

    def reload(self) -> None:
        process.run(["load_policy"], timeout=SEMODULE_TIMEOUT_S)
