"""Audit logs of the bench (tests/data/vm), captured in enforcing mode with the base policy: the remaining candidates.

What `make test-vm` shows on the machine is kept here for every run of the tests: the base policy, changed, must still answer
all but these of what a real class did under a lease with hidden denials.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from sepolicyd.access import Access
from sepolicyd.audit.scan.scan_files import scan_files
from sepolicyd.policy.index import PolicyIndex
from tests.paths import DATA

pytestmark = pytest.mark.toolchain

LOGS = DATA / "vm"
HUB, PROXY, USER = "jupyterhub_t", "jupyterhub_proxy_t", "jupyterhub_user_t"
EXECMEM = {(USER, "self", "process"): {"execmem"}}
# A root shell starts the hub there, with its output in a file of /var/log and its own descriptors left open.
FROM_A_SHELL = {
    **{(domain, "var_log_t", "file"): {"append", "getattr", "ioctl"} for domain in (HUB, PROXY, USER)},
    **{(domain, "unconfined_t", "fd"): {"use"} for domain in (PROXY, USER)},
}


def left_to_ask(log: Path, policy: PolicyIndex) -> dict[tuple[str, str, str], set[str]]:
    """What neither the policy allows nor its dontaudit rules silence, of what the service's domains were denied."""
    left: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for sighting in scan_files([log]).sightings:
        denial = sighting.denial
        if denial.scontext.type not in (HUB, PROXY, USER):
            continue
        for permission in denial.permissions:
            access = Access.of(denial.scontext.type, denial.tcontext.type, denial.tclass, permission)
            answer = policy.allowed(access)
            if not (answer.allowed or answer.dontaudited):
                left[access.group].add(access.permission)
    return dict(left)


def test_a_domain_lease_leaves_one_question(policy: PolicyIndex) -> None:
    assert left_to_ask(LOGS / "domain-lease.log.gz", policy) == EXECMEM


def test_the_papers_way_leaves_six(policy: PolicyIndex) -> None:
    """Seven on the machine: on its smaller policy the proxy's look at a home directory is not silenced."""
    assert left_to_ask(LOGS / "paper-lease.log.gz", policy) == {**EXECMEM, **FROM_A_SHELL}
