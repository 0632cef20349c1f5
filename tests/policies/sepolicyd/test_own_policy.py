"""The module that confines sepolicyd: built with this machine's headers, linked with neverallow checks, read with setools."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sepolicyd import process
from sepolicyd.access import Access
from sepolicyd.module.store import Store, create_store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import FileContexts
from sepolicyd.profiles import Profile, Role
from sepolicyd.rollout.setup.plan import CONTEXTS
from sepolicyd.rules.guard.guard import load_guard
from sepolicyd.rules.guard.level import GuardLevel
from sepolicyd.services.unit_file import Unit, parse
from sepolicyd.services.unit_labels import mount_points
from sepolicyd.settings import HEADERS
from tests.paths import ROOT
from tests.policies import base

SOURCE = ROOT / "policies/sepolicyd"
MAKEFILE = base.ROOT / HEADERS / "Makefile"
FILES = ("sepolicyd_etc_t", "sepolicyd_var_lib_t", "sepolicyd_evidence_t", "sepolicyd_decision_t", "sepolicyd_rollout_t")
HERE = MAKEFILE.exists() and (Store(base.ROOT).active / "modules").is_dir()

needs_policy = pytest.mark.skipif(not HERE, reason="no policy headers or no policy store")
pytestmark = [pytest.mark.toolchain, pytest.mark.slow, needs_policy]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("own")
    for suffix in ("te", "fc", "if"):
        shutil.copy(SOURCE / f"sepolicyd.{suffix}", place)
    make = ["make", "-s", "-f", str(MAKEFILE), f"HEADERDIR={MAKEFILE.parent}/include", f"SHAREDIR={MAKEFILE.parent.parent}"]
    process.run([*make, f"NAME={Store(base.ROOT).kind}", "sepolicyd.pp"], cwd=place)
    return place / "sepolicyd.pp"


@pytest.fixture(scope="module")
def linked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with the module; expand-check=1 makes libsemanage check every neverallow of the base policy.

    Another machine's store keeps its own setting: Fedora's, with container-selinux, breaks neverallows of its base policy.
    """
    root = tmp_path_factory.mktemp("store")
    store = create_store(root, base.ROOT)
    conf = store.etc / "semanage.conf"
    lines = [line for line in conf.read_text().splitlines() if not line.startswith("expand-check")]
    if not base.REAL:
        conf.write_text("\n".join([*lines, "expand-check=1"]) + "\n")
    store.install([package], 200)
    return store


@pytest.fixture(scope="module")
def policy(linked: Store) -> PolicyIndex:
    """The linked policy."""
    return PolicyIndex.load(linked.policy())


def allowed(policy: PolicyIndex, source: str, target: str, tclass: str, *permissions: str) -> bool:
    return all(policy.allowed(Access.of(source, target, tclass, permission)).allowed for permission in permissions)


def test_selint_is_clean() -> None:
    """S-001: rules on types of the base policy for which only one of Debian's and Fedora's policies has an interface."""
    if process.which("selint") is None:
        pytest.skip("selint is not installed")
    files = [str(SOURCE / f"sepolicyd.{suffix}") for suffix in ("te", "if", "fc")]
    done = process.run(["selint", "-F", "-d", "S-001", *files], ok=(0, 64, 65, 70))
    assert [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("Note:")] == []


def test_the_daemon_may_do_its_work(policy: PolicyIndex) -> None:
    assert allowed(policy, "init_t", "sepolicyd_t", "process", "transition")
    assert allowed(policy, "init_t", "sepolicyd_t", "process2", "nnp_transition")
    assert allowed(policy, "sepolicyd_t", "auditd_log_t", "file", "open", "read", "getattr")
    assert allowed(policy, "sepolicyd_t", "auditd_log_t", "dir", "read", "watch", "watch_reads")
    assert allowed(policy, "sepolicyd_t", "sepolicyd_evidence_t", "file", "create", "read", "write", "lock", "unlink")
    assert allowed(policy, "sepolicyd_t", "init_t", "unix_dgram_socket", "sendto")
    assert allowed(policy, "sepolicyd_t", "syslogd_t", "unix_dgram_socket", "sendto")
    assert allowed(policy, "sepolicyd_t", "bin_t", "file", "execute", "map")


def test_the_daemon_loads_nothing_and_decides_nothing(policy: PolicyIndex) -> None:
    for target in ("sepolicyd_decision_t", "sepolicyd_rollout_t"):
        for permission in ("open", "read", "write", "append"):
            assert not allowed(policy, "sepolicyd_t", target, "file", permission)
    for target in ("sepolicyd_etc_t", "sepolicyd_var_lib_t", "auditd_log_t"):
        for permission in ("write", "append", "create", "unlink", "setattr"):
            assert not allowed(policy, "sepolicyd_t", target, "file", permission)
    for permission in ("load_policy", "setenforce", "setbool"):
        assert not allowed(policy, "sepolicyd_t", "security_t", "security", permission)
    for permission in ("dac_override", "dac_read_search", "sys_admin", "setuid"):
        assert not allowed(policy, "sepolicyd_t", "sepolicyd_t", "capability", permission)
    assert not allowed(policy, "sepolicyd_t", "sepolicyd_t", "process", "execmem")


@pytest.mark.parametrize("source", ["httpd_t", "sshd_t", "crond_t", "mysqld_t", "postfix_master_t", "named_t", "user_t"])
def test_no_other_confined_domain_touches_what_is_sepolicyd_s(policy: PolicyIndex, source: str) -> None:
    if source not in policy.types:
        pytest.skip(f"no {source} in this policy")
    for target in FILES:
        for permission in ("open", "read", "write", "append", "create", "unlink", "rename", "setattr", "relabelto"):
            assert not allowed(policy, source, target, "file", permission), (source, target, permission)


def test_systemd_sees_lease_records_and_may_mount_over_the_state(policy: PolicyIndex) -> None:
    """Else ConditionDirectoryNotEmpty= would be false, and the unit that ends leases would be skipped."""
    for target in FILES:
        assert allowed(policy, "init_t", target, "dir", "open", "read", "search", "getattr", "mounton")


@pytest.mark.parametrize("module", ["with the module", "without the module"])
def test_systemd_may_mount_all_of_the_daemons_sandbox(policy: PolicyIndex, linked: Store, module: str) -> None:
    """Else the daemon does not start: 226/NAMESPACE. Fedora's policy has no such right on the policy store."""
    unit = Unit("sepolicyd.service", values=parse([(ROOT / "systemd/sepolicyd.service").read_text(encoding="utf-8")]))
    mounts = mount_points(unit)
    assert len(mounts) > 4
    contexts = FileContexts.load(linked.etc / linked.kind / CONTEXTS)
    for setting, path in [*mounts, ("PrivateTmp", "/tmp"), ("PrivateTmp", "/var/tmp"), ("ProtectHome", "/home")]:
        label = contexts.lookup(path, "dir") or "default_t"
        if module == "without the module" and label.startswith("sepolicyd_"):
            label = "var_lib_t"
        assert allowed(policy, "init_t", label, "dir", "mounton"), (setting, path, label)


@pytest.mark.parametrize("target", [*FILES, "sepolicyd_exec_t"])
def test_the_guard_refuses_what_a_service_would_do_to_it(policy: PolicyIndex, target: str) -> None:
    guard = load_guard((ROOT / "policies",))
    profile = Profile("svc", "a service", ROOT, ("svc.service",), (Role("main", domains=("httpd_t",)),))
    accesses = [Access.of("httpd_t", target, "file", permission) for permission in ("read", "write", "append", "unlink")]
    if target == "sepolicyd_exec_t":
        accesses = accesses[1:]
    found = guard.judge(accesses, profile, policy)
    for access in accesses:
        assert any(finding.level is GuardLevel.REFUSE for finding in found.get(access, ())), (access, found.get(access))


def script(tmp_path: Path, *words: str, tools: str, enforce: bool = True) -> subprocess.CompletedProcess[str]:
    """Run own-policy in a mount namespace where SELinux seems to run; ``tools`` is its PATH and has no real semodule."""
    setup = "mount -t tmpfs none /sys/fs && mkdir /sys/fs/selinux" + (" && touch /sys/fs/selinux/enforce" if enforce else "")
    command = ["unshare", "-m", "sh", "-c", f"{setup} && exec bash {ROOT / 'systemd/own-policy'} {' '.join(words)}"]
    return subprocess.run(command, env={"PATH": tools}, capture_output=True, text=True, check=False, cwd=tmp_path)


@pytest.mark.skipif(os.geteuid() != 0 or Path("/sys/fs/selinux").exists(), reason="needs root and no SELinux of its own")
def test_an_installation_does_not_fail_for_want_of_it(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "sh", "unshare", "mount", "mkdir", "touch", "env"):
        (tools / name).symlink_to(str(shutil.which(name)))
    done = script(tmp_path, "install", str(ROOT / "policies"), tools=str(tools))  # no semodule
    assert (done.returncode, done.stderr) == (0, "")
    done = script(tmp_path, "install", str(ROOT / "policies"), tools=str(tools), enforce=False)
    assert (done.returncode, done.stderr) == (0, "")
    (tools / "semodule").write_text("#!/bin/sh\nexit 1\n")
    (tools / "semodule").chmod(0o755)
    done = script(tmp_path, "install", str(ROOT / "policies"), tools=str(tools))  # no make
    assert done.returncode == 0
    assert "without a domain of its own" in done.stderr
    done = script(tmp_path, "install", str(ROOT / "policies"), tools=f"{tools}:/usr/bin:/bin")  # a semodule that fails
    assert done.returncode == 0
    assert "could not be loaded" in done.stderr
