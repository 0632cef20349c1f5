"""The boot policy: the files /etc/selinux/NAME/policy/policy.N (libselinux, selinux_mkload_policy).

A boot loads the file with the highest N that its libsepol supports. Since that depends on the installed libsepol, a type counts
as permissive in the boot policy if it is permissive in any of the files. Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sepolicyd.errors import ToolError
from sepolicyd.kernel.policy_image import PolicyFormatError, parse_head, without_permissive
from sepolicyd.kernel.xattr import LABEL
from sepolicyd.storage.files import write_whole


class BootPolicy:
    """The files in one directory, such as /etc/selinux/targeted/policy."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def files(self) -> list[Path]:
        """Return the policy files, the highest version first."""
        found = [path for path in self.directory.glob("policy.*") if path.suffix[1:].isdigit()]
        return sorted(found, key=lambda path: int(path.suffix[1:]), reverse=True)

    def newest(self) -> Path:
        """Return the policy file of the highest version.

        :raises ToolError: there is no policy file
        """
        files = self.files()
        if not files:
            raise ToolError(f"{self.directory} holds no policy", "run: semodule -B")
        return files[0]

    def permissive_types(self) -> frozenset[str]:
        """Return the types that any of the files makes permissive.

        :raises ToolError: there is no file, or one cannot be read or is not a policy
        """
        self.newest()
        found: frozenset[str] = frozenset()
        for path in self.files():
            found |= _permissive(path)
        return found

    def holds(self, policy: bytes) -> bool:
        """Tell whether one of the files is this policy, byte for byte.

        :raises ToolError: a file cannot be read
        """
        return any(_read(path) == policy for path in self.files())

    def close_types(self, types: Iterable[str]) -> None:
        """Rewrite each file in which one of these types is permissive, changing only the permissive map.

        The caller holds the store's transaction lock, so that no semodule installs a policy file at the same time.

        :raises ToolError: a file could not be read or written
        """
        for path in self.files():
            policy = _read(path)
            try:
                closed = without_permissive(policy, types)
            except PolicyFormatError as error:
                raise ToolError(f"{path} is not a valid kernel policy: {error}", "run: semodule -B") from error
            if closed is not policy:
                _replace(path, closed)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}", "run this as root") from error


def _permissive(path: Path) -> frozenset[str]:
    try:
        return parse_head(_read(path)).permissive
    except PolicyFormatError as error:
        raise ToolError(f"{path} is not a valid kernel policy: {error}", "run: semodule -B") from error


def _replace(path: Path, policy: bytes) -> None:
    """Write the file as libsemanage does: new file, fsync, rename. Mode and label are kept."""
    fresh = path.with_name(f"{path.name}.tmp")  # the name that libsemanage uses and overwrites
    mode = path.stat().st_mode & 0o7777
    label = b""
    with suppress(OSError):
        label = os.getxattr(path, LABEL)
    write_whole(path, policy, mode=mode, temporary=fresh)
    if label:
        with suppress(OSError):
            os.setxattr(path, LABEL, label)
