"""Where a policy lies and when it is another: settings or a path in, the policy file and its identity out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sepolicyd.errors import InputError
from sepolicyd.policy.selinux_config import selinux_type
from sepolicyd.settings import Settings

LIVE_POLICY = Path("/sys/fs/selinux/policy")
STATUS_PAGE = Path("/sys/fs/selinux/status")


def identity_of(path: Path, *, live: Path = LIVE_POLICY, status: Path = STATUS_PAGE) -> tuple[object, ...]:
    """What changes when the policy does: path, mtime in ns, size and inode; for the kernel's policy the load counter.

    :raises InputError: no such file
    """
    try:
        if Path(path) == live:
            # selinuxfs knows no mtime, and its size is 0 until somebody has opened it. Bytes 12 to 16 of the status page
            # count policy loads and changes of booleans (security/selinux/include/security.h, selinux_kernel_status).
            return (str(path), status.read_bytes()[12:16])
        stat = Path(path).stat()
    except OSError as error:
        hint = "name a kernel policy file, for example /etc/selinux/targeted/policy/policy.33"
        raise InputError(f"policy {path} cannot be read: {error.strerror}", hint) from error
    return (str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino)


def find_policy(settings: Settings, *, live: Path = LIVE_POLICY) -> Path:
    """The policy to judge by: the kernel's for this machine, else the newest policy.N of the root's configured type.

    :raises InputError: none is there
    """
    if settings.live and live.exists():
        return live
    base = settings.root / "etc/selinux"
    found = sorted(_versions(base / selinux_type(settings.root) / "policy"))
    if not found:
        raise InputError(f"no policy in {base / selinux_type(settings.root) / 'policy'}", "name one with --policy FILE")
    return found[-1][1]


def _versions(folder: Path) -> Iterable[tuple[int, Path]]:
    for path in folder.glob("policy.*"):
        if path.suffix[1:].isdigit():
            yield int(path.suffix[1:]), path
