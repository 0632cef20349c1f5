"""Read the policy type and the store directory from /etc/selinux/config and semanage.conf. Standard library only."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

STORE_ROOT = "/var/lib/selinux"


def setting(path: Path, key: str, default: str) -> str:
    """Return the value of one ``KEY=value`` line in /etc/selinux/config or semanage.conf."""
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name, equals, value = line.partition("=")
            if equals and name.strip() == key and value.split("#")[0].strip():
                return value.split("#")[0].strip().strip('"')
    return default


def selinux_type(root: Path) -> str:
    """Return SELINUXTYPE of /etc/selinux/config in the root; by default the only directory with a policy, or targeted."""
    named = setting(root / "etc/selinux/config", "SELINUXTYPE", "")
    present = sorted(path.parent.name for path in (root / "etc/selinux").glob("*/policy")) if not named else []
    return named or (present[0] if len(present) == 1 else "targeted")


def store_directory(root: Path, kind: str = "") -> Path:
    """Return ``/var/lib/selinux/TYPE`` in the root, or the directory that store-root in semanage.conf gives."""
    place = setting(root / "etc/selinux/semanage.conf", "store-root", STORE_ROOT)
    return root / place.lstrip("/") / (kind or selinux_type(root))


def policy_directory(root: Path, kind: str = "") -> Path:
    """Return the directory of the policy files that a boot of this root loads: /etc/selinux/TYPE/policy."""
    return root / "etc/selinux" / (kind or selinux_type(root)) / "policy"
