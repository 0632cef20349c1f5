"""The base policy for policy tests: this machine's, or the directory in SEPOLICYD_POLICY_ROOT.

docs/prove-on-your-policy.md says how an administrator collects such a directory.
"""

from __future__ import annotations

import os
from pathlib import Path

from sepolicyd.errors import SepolicydError, ToolMissingError
from sepolicyd.module import base_module
from sepolicyd.module.store import Store, create_store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.settings import HEADERS

ROOT = Path(os.environ.get("SEPOLICYD_POLICY_ROOT") or "/").absolute()
REAL = Path("/") != ROOT
# What `semanage` keeps beside the modules.
LOCAL_FILES = (
    "booleans.local", "ports.local", "file_contexts.local", "interfaces.local", "nodes.local", "ibpkeys.local",
    "ibendports.local", "seusers.local", "users.local",
)  # fmt: skip


def is_fedoras(policy: PolicyIndex) -> bool:
    """Tell whether a policy is of Fedora's family, by the domain of services without a policy."""
    return "unconfined_service_t" in policy.types


def why_unusable(root: Path, scratch: Path) -> str:
    """Say in one sentence why a directory cannot serve as a base policy, "" where it can.

    :param scratch: an empty directory, for a copy of the store
    """
    store = Store(root)
    if not (store.active / "modules").is_dir():
        return f"{root} is no policy root: there is no policy store in {store.directory}"
    if base_module.headers_here(root / HEADERS) is None:
        return f"{root} has no policy headers: {root / HEADERS}/Makefile is missing (selinux-policy-devel, selinux-policy-dev)"
    try:
        PolicyIndex.load(store.policy())
    except SepolicydError as error:
        return f"the policy of {root} cannot be read by this machine's libraries, perhaps a newer compiler made it: {error}"
    try:
        create_store(scratch, root).rebuild()
    except ToolMissingError as error:
        return f"{root} is no policy root: {error}"
    except SepolicydError as error:
        said = " / ".join(line.strip() for line in str(error).splitlines() if line.strip())
        return f"the policy store of {root} does not rebuild with this machine's semodule: {said}"
    return ""


def customisations(root: Path) -> str:
    """Name in one sentence what an administrator has changed in a store, "" where nothing is."""
    store = Store(root)
    modules = store.modules()
    parts = [
        _part("local modules", [item.name for item in modules if item.priority > 200 and not _permissive(item.name)]),
        _part("permissive domains", [item.name.split("_", 1)[1] for item in modules if _permissive(item.name)]),
        _part("disabled modules", [item.name for item in modules if item.disabled]),
        _part("local settings", [name for name in LOCAL_FILES if _settings(store.active / name)]),
        "dontaudit rules are off" if store.dontaudit_off else "",
    ]
    told = "; ".join(part for part in parts if part)
    return f"the store of {root} is customised ({told}): results hold for it as it is" if told else ""


def _permissive(name: str) -> bool:
    # what `semanage permissive -a` makes
    return name.startswith("permissive_")


def _settings(path: Path) -> bool:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return any(line.strip() and not line.startswith("#") for line in lines)


def _part(title: str, names: list[str]) -> str:
    return f"{title}: {', '.join(sorted(names))}" if names else ""
