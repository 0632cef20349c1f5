"""Captured rollouts against the policy that `init` builds: the share of denials that the base policy already answers.

In log 04 hub and students ran in two permissive domains without any rule, so that everything they did is in it. Its labels
are those of a machine before init; what init changes (ports, the cookie secret, the proxy's script, files made by
transition) is renamed here in the same way.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from sepolicyd.access import Access
from sepolicyd.audit.model import Denial
from sepolicyd.audit.scan.scan_files import scan_files
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rollout.setup import base_dontaudit as silent
from tests.paths import DATA
from tests.policies.jupyterhub.conftest import Inited

pytestmark = pytest.mark.toolchain

LOGS = DATA / "jupyterhub"
APART = LOGS / "04-hub-and-user-domains-apart-permissive-domains-enforcing-system.log.gz"
RICH = LOGS / "02-jupyterhub_t-permissive-domain-enforcing-system.log.gz"
PORTS = {8000: "jupyterhub_port_t", 8001: "jupyterhub_proxy_port_t", 8081: "jupyterhub_hub_port_t"}
HUB, PROXY, USER = "jupyterhub_t", "jupyterhub_proxy_t", "jupyterhub_user_t"
NODE = frozenset(("node", "configurable-ht"))
OF_THE_HUB = frozenset(("jupyterhub", "unix_chkpwd", "sh", "ldconfig", "uname", "run-parts"))
MOVED = frozenset(("tmp_t", "tmpfs_t", "user_home_dir_t", "var_run_t"))
ROOTS = frozenset(("/", "/tmp", "/home", "/run", "/home/alice", "/home/bob", "tmp", "home", "run", "alice", "bob"))


def renamed(denial: Denial, policy: PolicyIndex, *, one_domain: bool = False) -> tuple[str, str]:
    """Source and target as they would be after init."""
    source, target = denial.scontext.type, denial.tcontext.type
    if source == HUB and denial.comm in NODE:
        source, target = PROXY, PROXY if target == HUB else target
    elif one_domain and source == HUB and denial.comm not in OF_THE_HUB:
        source, target = USER, USER if target == HUB else target
    for _, number in denial.ports:
        if target.endswith("_port_t"):
            target = PORTS.get(number, target)
    name = denial.path or denial.name
    if target == "jupyterhub_var_lib_t" and "cookie_secret" in name:
        target = "jupyterhub_secret_t"
    if target in MOVED and name not in ROOTS:
        last = name.rpartition("/")[2]
        target = policy.transition(source, target, denial.tclass, last) or target
    if target == "devpts_t" and denial.tclass == "chr_file":
        target = policy.transition(source, target, "chr_file") or target
    return source, target


def judge(log: Path, policy: PolicyIndex, *, one_domain: bool = False) -> tuple[int, int, dict[tuple[str, str, str], set[str]]]:
    """Number of accesses of the service, of those that are silently denied, and what is left as questions."""
    accesses: set[Access] = set()
    for sighting in scan_files([log]).sightings:
        denial = sighting.denial
        source, target = renamed(denial, policy, one_domain=one_domain)
        if "jupyterhub" in source + target:
            accesses |= {Access.of(source, target, denial.tclass, each) for each in denial.permissions}
    left: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    silent = 0
    for access in accesses:
        answer = policy.allowed(access)
        if answer.allowed:
            continue
        if answer.dontaudited:
            silent += 1
        else:
            left[access.group].add(access.permission)
    return len(accesses), silent, dict(left)


def test_a_rollout_in_two_domains_leaves_six_questions(policy: PolicyIndex) -> None:
    accesses, silent, left = judge(APART, policy)
    assert accesses > 400
    assert silent < 70
    # node asks for execmem where JupyterLab looks for it: a boolean. The rest is what a student tried out of curiosity,
    # and a file that a process before us left in /run with the wrong label.
    assert left == {
        (USER, "self", "process"): {"execmem"},
        (USER, "jupyterhub_etc_t", "dir"): {"search"},
        (USER, "jupyterhub_etc_t", "file"): {"getattr", "open", "read"},
        (USER, "jupyterhub_var_lib_t", "dir"): {"getattr"},
        (USER, "tty_device_t", "chr_file"): {"getattr"},
        (HUB, "var_run_t", "file"): {"read"},
    }


def test_what_is_silent_is_probing_and_nothing_that_works(policy: PolicyIndex) -> None:
    """Accesses hidden by dontaudit: other processes' state (ps), and the hub's shadow_t, which the helper reads for it."""
    for sighting in scan_files([APART]).sightings:
        denial = sighting.denial
        source, target = renamed(denial, policy)
        if source not in (HUB, PROXY, USER):
            continue
        for permission in denial.permissions:
            answer = policy.allowed(Access.of(source, target, denial.tclass, permission))
            if answer.allowed or not answer.dontaudited:
                continue
            ps = source == USER and target in policy.domains
            copied = permission in ("relabelfrom", "relabelto")  # copystat's, see jupyterhub.te
            assert ps or copied or (source, target) == (HUB, "shadow_t") or denial.tclass == "capability", (
                source,
                target,
                denial,
            )


def test_a_hostile_session_gets_nothing(policy: PolicyIndex) -> None:
    """Log 02: sudo, su, mount, dmesg, ss, ip, systemctl, reading kmsg and shadow, typed in a notebook."""
    _, _, left = judge(RICH, policy, one_domain=True)
    refused = {target for source, target, _ in left if source == USER}
    assert refused >= {
        "shadow_t",
        "kmsg_device_t",
        "mnt_t",
        "pam_runtime_t",
        "systemd_unit_t",
        "auditd_unit_t",
        "system_dbusd_t",
        "jupyterhub_etc_t",
        "ssh_port_t",
        "commplex_main_port_t",
        "devlog_t",
    }
    assert left[(USER, "self", "netlink_tcpdiag_socket")] >= {"create", "bind"}
    assert left[(USER, "mnt_t", "dir")] == {"mounton"}


def test_the_procedure_by_hand_needs_no_second_round(policy: PolicyIndex) -> None:
    """Log 03 is five rounds of audit2allow; of all their denials the base leaves what no class needs."""
    accesses, _, left = judge(LOGS / "03-workflow-5-rounds-permissive-to-enforcing.log.gz", policy, one_domain=True)
    assert accesses > 300
    assert set(left) == {
        (HUB, "var_run_t", "file"),
        (USER, "system_dbusd_t", "dbus"),
        (USER, "systemd_logind_t", "dbus"),
    }


def test_hidden_denials_made_loud_ask_nothing_more(policy: PolicyIndex, inited: Inited) -> None:
    """Under `semodule -DB` every access that the base hides is logged; those that it hides by name are answered by it."""
    quiet = silent.read(inited.settings, "jupyterhub")
    asked: set[Access] = set()
    hidden: set[Access] = set()
    for sighting in scan_files([APART]).sightings:
        denial = sighting.denial
        source, target = renamed(denial, policy)
        for permission in denial.permissions:
            access = Access.of(source, target, denial.tclass, permission)
            answer = policy.allowed(access)
            if source in (HUB, PROXY, USER) and not answer.allowed:
                (hidden if answer.dontaudited else asked).add(access)
    assert len(hidden) > 50
    assert quiet.among(hidden, policy) == hidden
    assert quiet.among(asked, policy) == frozenset()
    # a student's terminal must never be among them: that is what hid it in the procedure by hand
    terminal = Access.of(USER, "jupyterhub_user_devpts_t", "chr_file", "read")
    assert quiet.among([terminal, Access.of(USER, "jupyterhub_secret_t", "file", "read")], policy) == frozenset()
