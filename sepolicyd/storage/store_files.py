"""The files of libsemanage's module store, read and repaired without semodule.

Layout (libsemanage, semanage_store.c): a transaction builds the new store in ``tmp``, renames ``active`` to ``previous``,
``tmp`` to ``active``, then installs the policy and the contexts below /etc/selinux, and removes ``previous`` last. Writers hold
flock(2) on semanage.trans.LOCK; readers hold a shared lock on semanage.read.LOCK. Standard library only.
"""

from __future__ import annotations

import bz2
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from sepolicyd.errors import ToolError
from sepolicyd.storage.lock import acquire, holder, shared

TRANSACTION_LOCK, READ_LOCK = "semanage.trans.LOCK", "semanage.read.LOCK"
BZIP2 = b"BZh"


class StoreFiles:
    """The store in one directory, such as /var/lib/selinux/targeted."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def active(self) -> Path:
        """The directory of the current store."""
        return self.directory / "active"

    @property
    def modules(self) -> Path:
        """Module directories, as PRIORITY/NAME."""
        return self.active / "modules"

    @property
    def built_policy(self) -> Path:
        """The kernel policy that the last transaction built from the modules."""
        return self.active / "policy.kern"

    @property
    def dontaudit_off(self) -> bool:
        """Whether the store is built without dontaudit rules (``semodule -D``; ``semodule -B`` restores them)."""
        return (self.active / "disable_dontaudit").exists()

    def priorities(self, prefix: str) -> dict[str, int]:
        """Return the modules whose name begins with ``prefix``, each with its highest priority."""
        found: dict[str, int] = {}
        for path in self.modules.glob(f"*/{prefix}*"):
            if path.parent.name.isdigit():
                found[path.name] = max(found.get(path.name, 0), int(path.parent.name))
        return found

    def module_texts(self, name: str) -> Iterator[str]:
        """Yield the CIL text of a module, once for each priority. It is compressed unless semanage.conf disables that.

        :raises ToolError: a file cannot be read
        """
        for path in sorted(self.modules.glob(f"*/{name}/cil")):
            try:
                data = path.read_bytes()
                yield (bz2.decompress(data) if data.startswith(BZIP2) else data).decode()
            except (OSError, ValueError) as error:
                raise ToolError(f"{path} cannot be read: {error}", f"run: semodule -r {name}") from error

    def locked_by(self) -> Optional[str]:
        """Return the holder of the transaction lock as "NAME (pid N)": None if free, "" for an unknown process."""
        return holder(self.directory / TRANSACTION_LOCK)

    @contextmanager
    def transaction(self, *, wait: float = 0.0) -> Iterator[bool]:
        """Hold the transaction lock, so that no semodule changes the store; yield False if it could not be taken.

        :raises OSError: the lock file is missing and cannot be created
        """
        fd = os.open(self.directory / TRANSACTION_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            yield acquire(fd, wait=wait)
        finally:
            os.close(fd)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the read lock, so that no transaction swaps ``active``."""
        with shared(self.directory / READ_LOCK):
            yield

    def put_back_previous(self) -> bool:
        """Restore ``previous`` as ``active`` after a transaction was killed between its two renames.

        Idempotent. Nothing is done while a semodule holds the lock, since ``active`` may then be missing for a moment.

        :return: whether the previous store was restored
        :raises ToolError: the previous store could not be restored
        """
        previous = self.directory / "previous"
        if self.active.exists() or not (previous / "modules").is_dir():
            return False
        try:
            with self.transaction() as held:
                if not held:
                    raise ToolError(
                        f"{previous} cannot be restored as {self.active}: another semodule is running",
                        "wait until it has finished",
                    )
                if self.active.exists():
                    return False
                previous.rename(self.active)
        except OSError as error:
            hint = f"run: mv {previous} {self.active}; semodule -B"
            raise ToolError(f"{previous} cannot be restored as {self.active}: {error.strerror}", hint) from error
        return True
