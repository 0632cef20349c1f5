"""`init` on a machine with the layout of Fedora and RHEL: store "targeted", /run mapped to /var/run, Fedora's interface names.

The base policy is Debian's, with Fedora's rules for every domain added.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from sepolicyd import profiles
from sepolicyd.errors import ToolMissingError
from sepolicyd.module.store import Store, create_store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import FileContexts, Ports
from sepolicyd.policy.policy_files import find_policy
from sepolicyd.profiles import Profile
from sepolicyd.rollout.setup.install import run_init
from sepolicyd.rollout.setup.new_profile import new_profile
from sepolicyd.rollout.setup.plan import plan_init
from sepolicyd.settings import Settings
from tests.policies.jupyterhub import fedora
from tests.policies.jupyterhub.conftest import need_toolchain
from tests.services.jupyterhub.machines import put, put_hub

pytestmark = pytest.mark.toolchain

# of RHEL 9's selinux-policy package, those that touch what we label
SUBS = "/run /var/run\n/run/lock /var/lock\n/lib /usr/lib\n/usr/lib64 /usr/lib\n/usr/local/lib64 /usr/lib\n/sbin /usr/sbin\n"
GUESTBOOK = "[Service]\nUser=guestbook\nExecStart=/opt/guestbook/bin/gunicorn --bind 127.0.0.1:8500 app:app\n"


class Fedora(NamedTuple):
    settings: Settings
    headers: Path


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Fedora:
    need_toolchain()
    root = tmp_path_factory.mktemp("fedora_machine")
    create_store(root)
    for place in (root / "etc/selinux/default", root / "var/lib/selinux/default"):
        place.rename(place.with_name("targeted"))
    put(root, "/etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=targeted\n")
    put(root, "/etc/selinux/targeted/contexts/files/file_contexts.subs_dist", SUBS)
    Store(root).install([put(root, "/root/fedora_base.cil", fedora.NAMES_CIL + fedora.RULES)], 200)
    put_hub(root, more="RuntimeDirectory=jupyterhub\nNoNewPrivileges=yes")
    put(root, "/opt/guestbook/bin/gunicorn", "#!/opt/guestbook/bin/python3\n", mode=0o755)
    put(root, "/etc/systemd/system/guestbook.service", GUESTBOOK)
    headers = fedora.make_headers(tmp_path_factory.mktemp("headers") / "devel")
    return Fedora(Settings(root=root, state=root / "state"), headers)


def test_the_hub(machine: Fedora, profile: Profile, tmp_path: Path) -> None:
    settings, root = machine.settings, machine.settings.root
    put(tmp_path, "/10/comm", "jupyterhub\n")
    put(tmp_path, "/10/attr/current", "system_u:system_r:unconfined_service_t:s0\0")
    put(tmp_path, "/10/cgroup", "0::/system.slice/jupyterhub.service\n")
    plan = plan_init(settings, profile, headers=machine.headers, proc=tmp_path)
    assert plan.stopped == ()
    assert [process.domain for process in plan.processes] == ["unconfined_service_t"]
    done = run_init(settings, profile, plan)
    assert [finding.code for finding in done.findings] == ["I-running"]
    assert "unconfined_service_t" in done.findings[0].what
    store = Store(root)
    assert store.directory == root / "var/lib/selinux/targeted"
    assert find_policy(settings).parent == root / "etc/selinux/targeted/policy"
    assert store.aligned
    policy = PolicyIndex.load(store.policy())
    assert policy.transition("init_t", "jupyterhub_exec_t", "process") == "jupyterhub_t"
    assert Ports.from_policy(policy).owner("tcp", 8000) == "jupyterhub_port_t"
    contexts = FileContexts.load(store.etc / "targeted/contexts/files/file_contexts")
    proxy = "node_modules/configurable-http-proxy/bin/configurable-http-proxy"
    assert contexts.lookup("/run/jupyterhub/x") == "jupyterhub_runtime_t"
    assert contexts.lookup("/var/run/jupyterhub/x") == "jupyterhub_runtime_t"
    assert contexts.lookup(f"/usr/local/lib/{proxy}") == "jupyterhub_proxy_exec_t"


def test_another_service(machine: Fedora, tmp_path: Path) -> None:
    new_profile(machine.settings, "guestbook", "guestbook.service", tmp_path)
    plan = plan_init(machine.settings, profiles.load("guestbook", [tmp_path]), headers=machine.headers)
    assert plan.stopped == ()
    assert {"guestbook_t", "guestbook_exec_t", "guestbook_port_t"} <= set(plan.types)


def test_without_headers_it_says_what_to_install(machine: Fedora, profile: Profile, tmp_path: Path) -> None:
    """The text that is expanded beforehand has the reference policy's names: linking it would only fail."""
    with pytest.raises(ToolMissingError, match="headers are not installed") as error:
        plan_init(machine.settings, profile, headers=tmp_path)
    assert "selinux-policy-devel" in error.value.hint
