"""Identity of the base policy of a host. Evidence may be merged only between hosts with equal identity."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from sepolicyd.errors import InputError
from sepolicyd.fleet.host_export import PolicyIdentity
from sepolicyd.policy.selinux_config import selinux_type, setting, store_directory

BASE_PRIORITY = 200
"""Highest priority at which distributions install modules: 100 for the base policy, 200 for other packages (semodule(8))."""
APPLICATION = b"sepolicyd evidence export"


def policy_identity(root: Path) -> PolicyIdentity:
    """Identify the base policy of a root by its modules. Modules above BASE_PRIORITY are local and not counted.

    :raises InputError: there is no store, or it cannot be read
    """
    modules = store_directory(root) / "active/modules"
    digest = hashlib.sha256()
    try:
        files = sorted(
            (int(file.parent.parent.name), file.parent.name, file)
            for file in modules.glob("*/*/cil")
            if file.parent.parent.name.isdecimal() and int(file.parent.parent.name) <= BASE_PRIORITY
        )
        for priority, name, file in files:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{priority} {name} {content}\n".encode())
    except OSError as error:
        raise InputError(f"the modules in {modules} cannot be read: {error.strerror}", "run this as root") from None
    if not files:
        raise InputError(f"{modules} holds no module", "give the root of a policy store with --root DIR")
    return PolicyIdentity(digest.hexdigest(), selinux_type(root), _system(root))


def machine_hash(root: Path) -> str:
    """Return an application-specific hash of machine-id(5), like sd_id128_get_machine_app_specific(3).

    :raises InputError: the machine has no machine id
    """
    path = root / "etc/machine-id"
    try:
        machine = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    if len(machine) != 32:
        raise InputError(f"{path} holds no machine id", "create one with systemd-machine-id-setup(1)")
    return hmac.new(machine.encode(), APPLICATION, hashlib.sha256).hexdigest()


def _system(root: Path) -> str:
    release = root / "etc/os-release"
    return f"{setting(release, 'ID', 'linux')} {setting(release, 'VERSION_ID', 'unknown')}"
