"""Verification after a change: store and running kernel hold exactly the proved policy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Optional, Protocol

from sepolicyd.errors import ToolError
from sepolicyd.module.store import Store
from sepolicyd.policy.delta import difference
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rollout.apply.versions import sha256

LOAD_WAIT_S = 30.0
PAUSE_S = 0.1
SHOWN = 5


class LoadedPolicy(Protocol):
    """Queries on the running kernel's SELinux; implemented by kernel.selinuxfs.SelinuxFs."""

    def enabled(self) -> bool: ...

    def loads(self) -> int:
        """Return the number of policy loads since boot."""
        ...


def shortlist(items: Sequence[Any]) -> str:
    """Return the first items of a list and the number of the others."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(map(str, items[:SHOWN])) + more


def verify_store(store: Store, checked: str, linked: Optional[PolicyIndex]) -> str:
    """Check that the store's policy is the proved one, and that the boot policy equals it.

    :param checked: sha256 of the proved policy.kern
    :param linked: the proved policy, for a comparison by meaning if the bytes differ (libsemanage guarantees no order)
    :return: "identical" or "compared"
    :raises ToolError: the store holds another policy
    """
    present = store.policy().read_bytes()
    if sha256(store.installed_policy().read_bytes()) != sha256(present):
        raise ToolError(
            f"{store.installed_policy()} is not the policy that the store built", "run: semodule -B, then this command again"
        )
    if sha256(present) == checked:
        return "identical"
    if linked is None:
        raise ToolError(f"the policy of {store.directory} is not the one that was proved", "run: semodule -lfull")
    check_same(linked, PolicyIndex.load(store.policy()), str(store.directory))
    return "compared"


def verify_kernel(
    kernel: LoadedPolicy,
    loads_before: int,
    linked: PolicyIndex,
    read: Callable[[], PolicyIndex],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Check that the kernel has loaded a policy since the change, and that it is the proved one.

    semodule can succeed without a load (security-profiles-operator issue 2463).

    :param loads_before: number of policy loads before the change
    :param read: function that reads the kernel's policy

    :raises ToolError: there was no load, or the kernel runs another policy
    """
    for _ in range(round(LOAD_WAIT_S / PAUSE_S)):
        if kernel.loads() > loads_before:
            break
        sleep(PAUSE_S)
    else:
        raise ToolError(
            "the kernel has not loaded the new policy", "run: semodule -R; see the lines with avc: or selinux: in the journal"
        )
    check_same(linked, read(), "the kernel")


def check_same(checked: PolicyIndex, present: PolicyIndex, where: str) -> None:
    """Compare two policies by meaning.

    :param where: the place of ``present``, for the message
    :raises ToolError: ``present`` allows more or less than ``checked``
    """
    delta = difference(checked, present)
    if delta.gained or delta.permissive_gained:
        more = [*sorted(delta.gained), *(f"permissive {name}" for name in sorted(delta.permissive_gained))]
        raise ToolError(
            f"the policy of {where} allows more than the proved one: {shortlist(more)}", "find out which program changed it"
        )
    if delta.lost:
        raise ToolError(
            f"the policy of {where} lacks proved rules: {shortlist(sorted(delta.lost))}", "find out which program changed it"
        )
