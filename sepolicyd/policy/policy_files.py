"""Find the policy file that commands use, and detect its changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Optional

from sepolicyd.errors import InputError
from sepolicyd.policy.selinux_config import selinux_type
from sepolicyd.settings import Settings

LIVE_POLICY = Path("/sys/fs/selinux/policy")
STATUS_PAGE = Path("/sys/fs/selinux/status")
POLICY_VERSION = Path("/sys/fs/selinux/policyvers")
NO_LIMIT = 1 << 31


def identity_of(path: Path, *, live: Path = LIVE_POLICY, status: Path = STATUS_PAGE) -> tuple[object, ...]:
    """Return an identity of the policy file: path, mtime in ns, size and inode; the load counter for the policy in the kernel.

    :raises InputError: no such file
    """
    try:
        if Path(path) == live:
            # selinuxfs has no mtime, and the size is 0 until the file has been opened. Bytes 12 to 16 of the status page
            # count policy loads and changes of booleans (security/selinux/include/security.h, selinux_kernel_status).
            return (str(path), status.read_bytes()[12:16])
        stat = Path(path).stat()
    except OSError as error:
        hint = "give a kernel policy file, for example /etc/selinux/targeted/policy/policy.33"
        raise InputError(f"policy {path} cannot be read: {error.strerror}", hint) from error
    return (str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino)


def find_policy(settings: Settings, *, live: Path = LIVE_POLICY, newest: Optional[int] = None) -> Path:
    """Return the policy to use: the kernel's for this machine, otherwise the policy.N of the configured type of the root.

    After an upgrade of libsepol or of the kernel there may be several policy.N. libselinux loads the highest N that the
    kernel or libsepol supports; libsepol converts it for an older kernel (load_policy.c, selinux_mkload_policy). This
    function does the same for this machine. For another root it takes the highest N, because its kernel is unknown.

    :param newest: the highest version that can be loaded here (default: query the kernel and libsepol)
    :raises InputError: there is no policy file
    """
    if settings.live and live.exists():
        return live
    folder = settings.root / "etc/selinux" / selinux_type(settings.root) / "policy"
    found = sorted(_versions(folder), reverse=True)
    if not found:
        raise InputError(f"no policy in {folder}", "give one with --policy FILE")
    if settings.live and len(found) > 1:
        limit = newest if newest is not None else _newest_version()
        found = [(number, path) for number, path in found if number <= limit] or found
    return found[0][1]


def _newest_version() -> int:
    """Return the highest policy version that the kernel or the installed libsepol supports."""
    import ctypes

    versions = []
    with suppress(OSError, ValueError):
        versions.append(int(POLICY_VERSION.read_text(encoding="ascii")))
    with suppress(OSError, AttributeError):
        versions.append(int(ctypes.CDLL("libsepol.so.2").sepol_policy_kern_vers_max()))
    return max(versions, default=NO_LIMIT)


def _versions(folder: Path) -> Iterator[tuple[int, Path]]:
    for path in folder.glob("policy.*"):
        if path.suffix[1:].isdecimal():
            yield int(path.suffix[1:]), path
