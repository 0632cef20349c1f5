"""The guard on the base module: accesses that a decision could not grant, and the number of accesses."""

from __future__ import annotations

from collections import Counter

import pytest

from sepolicyd.access import Access
from sepolicyd.module.store import Store
from sepolicyd.policy import delta
from sepolicyd.policy.delta import Delta
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.profiles import Profile
from sepolicyd.rules.guard import policy_delta as judged
from sepolicyd.rules.guard.guard import load_guard
from tests.policies import base
from tests.policies.base import is_fedoras
from tests.policies.jupyterhub.conftest import POLICIES  # type: ignore[attr-defined]
from tests.policies.jupyterhub.test_replay import HUB, LOGS, PROXY, USER, scan_files  # type: ignore[attr-defined]

pytestmark = pytest.mark.toolchain


def test_nothing_that_the_guard_refuses(policy: PolicyIndex, profile: Profile) -> None:
    """Every access that the base module brings to its domains, booleans switched on or not."""
    difference = delta.difference(Store(base.ROOT).policy(), policy)
    held = [access for access in difference.gained if access.source in (HUB, PROXY, USER)]
    # a bound, so that an interface that opens a thousand doors is seen; the reference policy's sshd_t holds 13976. Fedora's
    # gives every domain thousands of its own, which are not counted there.
    fedora = is_fedoras(policy)
    counted = [access for access in held if not (fedora and judged.given_to_all(difference, access))]
    by_domain = Counter(access.source for access in counted)
    assert all(400 < by_domain[domain] < (3000 if fedora else 2200) for domain in (HUB, PROXY, USER)), by_domain
    found = load_guard([POLICIES]).judge(held, profile, policy)
    refused = {access for access, findings in found.items() if findings[0].level == "refuse"}
    # labelled networking: whoever looks names up may receive from a peer whose label is not known
    assert fedora or {str(access) for access in refused} <= {f"{USER} netlabel_peer_t:rawip_socket recvfrom"}
    assert all(judged.given_to_all(difference, access) for access in refused)


def test_it_joins_nothing_that_exempts_and_no_constraint_lets_it_pass(policy: PolicyIndex, profile: Profile) -> None:
    """The whole of it as init judges it: attributes, constraints, and every access of its own domains."""
    difference = delta.difference(Store(base.ROOT).policy(), policy)
    assert len(difference.joined) > 50
    assert judged.base(difference, load_guard([POLICIES]), profile) == []


def test_what_fedora_gives_to_every_domain_does_not_stop_init(fedora_delta: Delta, profile: Profile) -> None:
    """Each of these would be refused, had the module given it; of a domain that the module opens, nothing is forgiven."""
    for target, permission in (("shadow_t", "map"), ("semanage_tmp_t", "append"), ("jupyterhub_secret_t", "map")):
        access = Access.of(USER, target, "file", permission)
        assert access in fedora_delta.gained
        assert judged.given_to_all(fedora_delta, access)
    assert judged.base(fedora_delta, load_guard([POLICIES]), profile) == []
    for target, permission in (("shadow_t", "read"), ("user_home_t", "write"), ("jupyterhub_log_t", "open")):
        assert not judged.given_to_all(fedora_delta, Access.of(USER, target, "file", permission))


def test_the_procedure_by_hand_would_have_loaded_what_the_guard_refuses(profile: Profile, policy: PolicyIndex) -> None:
    """audit2allow over log 03 gives everything to one domain, students included."""
    given: set[Access] = set()
    for sighting in scan_files([LOGS / "03-workflow-5-rounds-permissive-to-enforcing.log.gz"]).sightings:
        denial = sighting.denial
        if denial.scontext.type == HUB:
            given |= {Access.of(HUB, denial.tcontext.type, denial.tclass, each) for each in denial.permissions}
    judged = load_guard([POLICIES]).judge(given, profile, policy)
    refused = {str(access) for access, findings in judged.items() if findings[0].level == "refuse"}
    assert f"{HUB} shadow_t:file read" in refused
    assert len(given) > 280
