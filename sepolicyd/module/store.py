"""A policy store: its modules, private copies to link in, and transactions; semodule does the work, for / and any root."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Optional

from sepolicyd import process
from sepolicyd.errors import RefusedError, ToolError, ToolMissingError
from sepolicyd.kernel.boot_policy import BootPolicy
from sepolicyd.kernel.policy_image import PolicyFormatError, is_mls
from sepolicyd.module.listing import Installed, parse_modules
from sepolicyd.policy.selinux_config import policy_directory, selinux_type, store_directory
from sepolicyd.settings import HEADERS
from sepolicyd.storage.store_files import READ_LOCK, TRANSACTION_LOCK, StoreFiles

SEMODULE_TIMEOUT_S = 900.0  # 38 s in an emulated guest
SPACE_FACTOR = 3  # libsemanage builds a new store and keeps the present one until the end
PACKAGES = "selinux-policy-default (Debian) or selinux-policy-targeted (Fedora, RHEL)"
LOCK_PAUSE_S = 0.2
LOCK_WAIT_S = 60.0


def policy_is_mls(policy: Path) -> bool:
    """Tell whether a kernel policy has levels (MLS or MCS).

    :raises ToolError: not a kernel policy
    """
    try:
        return is_mls(policy.read_bytes())
    except OSError as error:
        raise ToolError(f"policy {policy} cannot be read: {error.strerror}", "see: semodule -B") from error
    except PolicyFormatError as error:
        raise ToolError(f"{policy} is not a kernel policy: {error}", "see: semodule -B") from error


class Store:
    """The store of a root. For "/" semodule loads what it builds, for any other root never (``-p ROOT -n``)."""

    def __init__(self, root: Path = Path("/"), kind: str = "") -> None:
        self.root = root
        self.kind = kind or selinux_type(root)

    @property
    def live(self) -> bool:
        return self.root == Path("/")

    @property
    def etc(self) -> Path:
        return self.root / "etc/selinux"

    @property
    def directory(self) -> Path:
        """``/var/lib/selinux/TYPE``, or as set by store-root in semanage.conf, below the root."""
        return store_directory(self.root, self.kind)

    @property
    def files(self) -> StoreFiles:
        """The store's directory."""
        return StoreFiles(self.directory)

    @property
    def active(self) -> Path:
        """The directory of the store's present content."""
        return self.files.active

    def policy(self) -> Path:
        """Return the path of the kernel policy that the last transaction built.

        :raises ToolError: the store has no built policy
        """
        path = self.files.built_policy
        if not path.is_file():
            raise ToolError(f"the policy store {self.directory} holds no built policy", "run: semodule -B")
        return path

    def linked_policy(self) -> Path:
        """Return the path of the policy that a transaction has linked but not installed; it exists while the verifier runs."""
        return self.directory / "tmp/policy.kern"

    def installed_policy(self) -> Path:
        """Return the path of the boot policy (policy.N with the highest N).

        :raises ToolError: there is no policy file
        """
        return BootPolicy(policy_directory(self.root, self.kind)).newest()

    @property
    def dontaudit_off(self) -> bool:
        """Whether the store is built without dontaudit rules."""
        return self.files.dontaudit_off

    def argv(self, *words: str) -> list[str]:
        """Return a semodule command for this store; with -p, semodule would otherwise read this machine's config."""
        return ["semodule", *([] if self.live else ["-p", str(self.root), "-n", "-s", self.kind]), *words]

    def modules(self) -> tuple[Installed, ...]:
        """Return all modules of the store.

        :raises ToolError: semodule failed
        """
        return parse_modules(process.run(self.argv("-lfull"), timeout=SEMODULE_TIMEOUT_S).stdout)

    def install(self, packages: Sequence[Path], priority: int, remove: Sequence[str] = ()) -> None:
        """Install and remove modules in one atomic transaction. Disabled dontaudit rules stay disabled.

        :param packages: .pp or .cil files, named like their module
        :raises ToolError: nothing has been changed
        """
        words = ["-X", str(priority)]
        for name in remove:
            words += ["-r", name]
        for package in packages:
            words += ["-i", str(package)]
        process.run(self.argv(*words), timeout=SEMODULE_TIMEOUT_S)

    def rebuild(self) -> None:
        """Rebuild the policy from the present modules. Disabled dontaudit rules stay disabled.

        :raises ToolError: nothing has been changed
        """
        process.run(self.argv(*(["-D"] if self.dontaudit_off else []), "-B"), timeout=SEMODULE_TIMEOUT_S)

    @property
    def aligned(self) -> bool:
        """Whether the boot policy is the one that the store built."""
        return self.installed_policy().read_bytes() == self.policy().read_bytes()

    def realign(self) -> None:
        """Install the store's policy as the boot policy.

        If the kernel refuses a new policy, libsemanage restores the old store but leaves the refused policy in /etc
        (semanage_install_sandbox; seen with a failing load_policy).

        :raises ToolError: the boot policy still differs
        """
        if self.aligned:
            return
        try:
            self.rebuild()
        except ToolError:
            if not self.aligned:  # it fails again because of the load, after the files were installed
                raise

    def mend(self) -> bool:
        """Restore the previous store if a killed semodule left none; tell whether that was necessary.

        :raises ToolError: the store could not be restored
        """
        return self.files.put_back_previous()

    def extract(self, name: str, priority: int, directory: Path) -> Path:
        """Extract the package of an installed module into ``directory``, and return its path.

        :raises ToolError: no such module
        """
        before = set(directory.iterdir())
        # with an absolute root path, since semodule writes into its working directory
        process.run(self._absolute().argv("-X", str(priority), "-E", name), cwd=directory, timeout=SEMODULE_TIMEOUT_S)
        made = sorted(set(directory.iterdir()) - before)
        if len(made) != 1:
            raise ToolError(f"semodule extracted {len(made)} files for the module {name}", "see: semodule -lfull")
        return made[0]

    def copy(self, destination: Path) -> Store:
        """Copy the active store to ``destination`` (an empty or missing directory), for linking in the copy.

        The copy is made under libsemanage's read lock, so that no semodule swaps the store in between.

        :raises ToolError: the store cannot be read, or the disk is full
        """
        target = Store(destination, self.kind)
        try:
            (destination / "etc/selinux").mkdir(parents=True, exist_ok=True)
            for name in ("config", "semanage.conf"):
                if (self.etc / name).exists():
                    shutil.copyfile(self.etc / name, destination / "etc/selinux" / name)
            # every transaction rebuilds the policy and compiled contexts
            ignore = shutil.ignore_patterns("policy.*", "*.bin")
            _copytree(self.etc / self.kind, target.etc / self.kind, ignore)
            with self.files.reading():
                _copytree(self.active, target.active)
        except (OSError, shutil.Error) as error:
            raise ToolError(f"the policy store {self.directory} cannot be copied: {_short(error)}", _space_hint()) from error
        return target

    def check(self) -> None:
        """Check that the store exists, is writable, and has space for a transaction.

        :raises RefusedError: it is not writable, or has not enough space
        :raises ToolMissingError: the distribution's policy package is not installed
        """
        if not (self.active / "modules").is_dir():
            raise ToolMissingError(f"there is no policy store at {self.directory}", f"install the package {PACKAGES}")
        if not os.access(self.directory, os.W_OK):
            raise RefusedError(f"the policy store {self.directory} is not writable", "run this as root")
        needed = SPACE_FACTOR * size_of(self.active)
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise RefusedError(
                f"{self.directory} has {free >> 20} MiB free, a transaction needs {needed >> 20} MiB",
                "free space on that file system",
            )

    def wait_for_lock(self, seconds: float = LOCK_WAIT_S, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Wait until no other semodule, semanage or package manager holds the store's transaction lock.

        :raises RefusedError: the lock is still held after ``seconds``; nothing has been changed
        """
        holder = self.files.locked_by()
        for _ in range(round(seconds / LOCK_PAUSE_S)):
            if holder is None:
                return
            sleep(LOCK_PAUSE_S)
            holder = self.files.locked_by()
        if holder is not None:
            who = holder or "another process"
            raise RefusedError(
                f"the policy store {self.directory} is locked by {who}", "wait until it has finished, then try again"
            )

    def _absolute(self) -> Store:
        return Store(self.root.absolute(), self.kind)


def create_store(destination: Path, source: Path = Path("/"), kind: str = "") -> Store:
    """Create a store below ``destination`` from the distribution's, for demo and tests; the headers are a symbolic link.

    :raises ToolMissingError: the distribution's policy package is not installed
    :raises RefusedError: there is already a store
    """
    origin = Store(source, kind)
    if not (origin.active / "modules").is_dir():
        raise ToolMissingError(f"there is no policy store at {origin.directory}", f"install the package {PACKAGES}")
    target = Store(destination, origin.kind)
    if target.directory.exists():
        raise RefusedError(f"{destination} already contains a policy store", "give another directory, or remove this one")
    made = origin.copy(destination)
    try:
        _copytree(origin.etc / origin.kind, target.etc / origin.kind)
        for name in (READ_LOCK, TRANSACTION_LOCK):
            (target.directory / name).touch(mode=0o600)
        if (source / HEADERS).is_dir():
            (destination / HEADERS).parent.mkdir(parents=True, exist_ok=True)
            (destination / HEADERS).symlink_to((source / HEADERS).absolute())
    except (OSError, shutil.Error) as error:
        raise ToolError(f"the policy cannot be copied to {destination}: {_short(error)}", _space_hint()) from error
    return made


def size_of(directory: Path) -> int:
    """Return the total size in bytes of all files in a tree."""
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                total += (Path(place) / name).lstat().st_size
    return total


def _copytree(source: Path, target: Path, ignore: Optional[Callable[[str, list[str]], set[str]]] = None) -> None:
    # copyfile instead of copy2: labels must be those of the new directory, see build.workdir
    shutil.copytree(source, target, symlinks=True, ignore=ignore, copy_function=shutil.copyfile, dirs_exist_ok=True)


def _short(error: Exception) -> str:
    if isinstance(error, shutil.Error) and error.args and error.args[0]:
        return str(error.args[0][0][-1])
    return str(error)


def _space_hint() -> str:
    return "check for free disk space; set TMPDIR to use another directory for copies"
