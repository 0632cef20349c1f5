"""Every access of the real broker under strace is allowed by the policy and labels that `init` creates."""

from __future__ import annotations

import gzip
from typing import Union

import pytest

from sepolicyd.access import Access
from sepolicyd.module.store import Store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import FileContexts, Ports
from tests.paths import DATA
from tests.policies.base import is_fedoras
from tests.policies.jupyterhub.conftest import Inited
from tests.policies.mosquitto.syscalls import Asked, accesses

pytestmark = pytest.mark.toolchain

# /proc has no file_contexts: the kernel labels it by genfscon
PROC = {"/proc": "proc_t", "/proc/sys": "sysctl_t", "/proc/sys/kernel": "sysctl_kernel_t"}
# libdlt looks for its daemon's pipe in /tmp
SILENT = {"tmp_t:dir search"}


@pytest.fixture(scope="module")
def asked() -> set[Asked]:
    with gzip.open(DATA / "mosquitto/strace.txt.gz", "rt", encoding="utf-8") as lines:
        return accesses(lines)


def test_the_trace_has_what_a_broker_does(asked: set[Asked]) -> None:
    assert len(asked) > 250
    assert asked >= {
        Asked(8883, "tcp_socket", "name_bind"),
        Asked(2883, "tcp_socket", "name_connect"),
        Asked("/run/mosquitto/mqtt.sock", "sock_file", "create"),
        Asked("/var/lib/mosquitto/mosquitto.db.new", "file", "rename"),
        Asked("/var/log/mosquitto/mosquitto.log", "file", "append"),
        Asked("/etc/mosquitto/certs/server.key", "file", "read"),
        Asked("/srv/mqttweb/index.html", "file", "read"),
        Asked("", "capability", "setuid"),
    }


def test_the_module_allows_all_that_the_broker_did(asked: set[Asked], inited: Inited, policy: PolicyIndex) -> None:
    store = Store(inited.settings.root)
    contexts = FileContexts.load(store.etc / store.kind / "contexts/files/file_contexts")
    ports = Ports.from_policy(policy)

    def type_of(target: Union[str, int], tclass: str) -> str:
        if isinstance(target, int):
            return ports.owner("tcp", target) or "port_t"
        genfs = next((PROC[path] for path in sorted(PROC, reverse=True) if f"{target}/".startswith(f"{path}/")), "")
        return genfs or contexts.lookup(target, tclass) or "unlabeled_t" if target else "mosquitto_t"

    denied = set()
    for each in asked:
        access = Access.of("mosquitto_t", type_of(each.target, each.tclass), each.tclass, each.permission)
        if not policy.allowed(access).allowed and not policy.allowed(access).dontaudited:
            denied.add(f"{each.target}: {access}")
    assert denied == set()


def test_what_is_denied_in_silence(policy: PolicyIndex) -> None:
    for text in SILENT:
        target, rest = text.split(":")
        tclass, permission = rest.split()
        verdict = policy.allowed(Access.of("mosquitto_t", target, tclass, permission))
        assert verdict.dontaudited
        assert not verdict.allowed or is_fedoras(policy)  # which lets every domain search it
