"""A checked policy and the one that resulted in, or a ToolError out: store and kernel hold what was checked, and no more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Optional, Protocol

from sepolicyd.errors import ToolError
from sepolicyd.module.store import Store
from sepolicyd.policy.delta import difference
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.policy_files import LIVE_POLICY
from sepolicyd.rollout.apply.versions import sha256

LOAD_WAIT_S = 30.0
PAUSE_S = 0.1
SHOWN = 5


class LoadedPolicy(Protocol):
    """The running kernel's SELinux (rollout.selinuxfs.SelinuxFs is one)."""

    def enabled(self) -> bool: ...

    def loads(self) -> int:
        """How many policies were loaded since boot."""
        ...


def some(items: Sequence[Any]) -> str:
    """The first few of a list, and how many more."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(map(str, items[:SHOWN])) + more


def verify_store(store: Store, checked: str, linked: Optional[PolicyIndex]) -> str:
    """The store's policy is the one that was checked, and the one that a boot would load.

    :param checked: sha256 of the checked policy.kern
    :param linked: the checked policy, to compare by meaning where the bytes differ (semodule's order is not promised)
    :return: how it was told: "identical" or "compared"
    :raises ToolError: it is another one
    """
    present = store.policy().read_bytes()
    if sha256(store.installed_policy().read_bytes()) != sha256(present):
        raise ToolError(
            f"{store.installed_policy()} is not the policy that the store made", "run: semodule -B, then this command again"
        )
    if sha256(present) == checked:
        return "identical"
    if linked is None:
        raise ToolError(f"the policy of {store.directory} is not the one that was checked", "run: semodule -lfull")
    _check_gained(linked, PolicyIndex.load(store.policy()), str(store.directory))
    return "compared"


def verify_kernel(
    kernel: LoadedPolicy, loads_before: int, linked: PolicyIndex, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """The kernel has loaded a policy since, and that is the checked one.

    semodule may say that all is well and the kernel have nothing new (security-profiles-operator issue 2463).

    :raises ToolError: no load, or another policy
    """
    for _ in range(round(LOAD_WAIT_S / PAUSE_S)):
        if kernel.loads() > loads_before:
            break
        sleep(PAUSE_S)
    else:
        raise ToolError(
            "the kernel has not loaded the new policy", "run: semodule -R, and see the journal for avc: and selinux:"
        )
    _check_gained(linked, PolicyIndex.load(LIVE_POLICY), "the kernel")


def _check_gained(checked: PolicyIndex, present: PolicyIndex, where: str) -> None:
    delta = difference(checked, present)
    if delta.gained or delta.permissive_gained:
        more = [*sorted(delta.gained), *(f"permissive {name}" for name in sorted(delta.permissive_gained))]
        raise ToolError(f"the policy of {where} allows what was not checked: {some(more)}", "see who else changes the policy")
    if delta.lost:
        raise ToolError(
            f"the policy of {where} lacks what was checked: {some(sorted(delta.lost))}", "see who else changes the policy"
        )
