"""`init` on a machine in a directory: its plan, its changes, its refusals, and a complete undo."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Optional

import pytest

from sepolicyd.errors import RefusedError, StateError, UsageError
from sepolicyd.kernel.xattr import LABEL
from sepolicyd.module import transaction
from sepolicyd.module.store import Store, create_store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import FileContexts, Ports
from sepolicyd.problems import Severity
from sepolicyd.profiles import Profile
from sepolicyd.rollout.setup import journal, port_labels, processes
from sepolicyd.rollout.setup import labels as init_labels
from sepolicyd.rollout.setup.install import local_booleans, run_init, undo_init
from sepolicyd.rollout.setup.plan import plan_init
from sepolicyd.rollout.setup.port_labels import LocalPort, PortChange
from sepolicyd.services.discovery import BooleanRequest
from sepolicyd.services.jupyterhub.service import WEB_PORT_HINTS
from sepolicyd.settings import Settings
from tests.policies.jupyterhub.conftest import Inited, need_toolchain
from tests.services.jupyterhub.machines import put, put_hub

pytestmark = pytest.mark.toolchain


def label(path: Path) -> Optional[str]:
    try:
        return os.getxattr(path, LABEL).rstrip(b"\0").decode().split(":")[2]
    except OSError:
        return None


def owner(root: Path, number: int) -> Optional[str]:
    store = Store(root)
    return Ports.from_policy(PolicyIndex.load(store.policy())).owner("tcp", number)


def test_the_plan_shows_types_labels_ports_and_unit(inited: Inited) -> None:
    plan = inited.plan
    assert plan.unit == "jupyterhub.service"
    assert {"jupyterhub_t", "jupyterhub_proxy_t", "jupyterhub_user_t"} <= set(plan.types)
    assert {(change.number, change.before, change.after) for change in plan.ports} == {
        (8000, "soundd_port_t", "jupyterhub_port_t"),
        (8001, "unreserved_port_t", "jupyterhub_proxy_port_t"),
        (8081, "transproxy_port_t", "jupyterhub_hub_port_t"),
    }
    assert {"/srv/jupyterhub", "/etc/jupyterhub/keys"} <= {each.path for each in plan.labels}
    assert not plan.stopped
    assert [each.code for each in plan.findings] == ["I-taken", "I-taken"]


def test_the_machine_is_as_planned(inited: Inited) -> None:
    root = inited.settings.root
    store = Store(root)
    assert [module.priority for module in store.modules() if module.name == "jupyterhub"] == [360]
    assert [owner(root, number) for number in (8000, 8001, 8081)] == [
        "jupyterhub_port_t",
        "jupyterhub_proxy_port_t",
        "jupyterhub_hub_port_t",
    ]
    contexts = FileContexts.load(store.etc / store.kind / "contexts/files/file_contexts")
    for each in inited.plan.labels:
        assert contexts.lookup(each.path, "dir" if each.tree else "file") == each.type
    assert contexts.lookup("/srv/jupyterhub/jupyterhub.sqlite-journal") == "jupyterhub_var_lib_t"
    assert contexts.lookup("/opt/jupyterhub/bin/python3") == "bin_t"
    assert inited.done.restart == "systemctl restart jupyterhub.service"
    if init_labels.can_label(root):
        assert label(root / "srv/jupyterhub/jupyterhub.sqlite") == "jupyterhub_var_lib_t"
        assert label(root / "opt/jupyterhub/bin/jupyterhub-singleuser") == "jupyterhub_user_exec_t"
        assert label(root / "opt/jupyterhub/lib/python3.11") is None


def test_undo_leaves_the_machine_as_it_was(inited: Inited, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(inited.settings.root, root, symlinks=True)
    settings = Settings(root=root, state=root / "state")
    put(root, "/srv/jupyterhub/younger")
    done = undo_init(settings, "jupyterhub")
    assert done.module == "jupyterhub"
    store = Store(root)
    assert [module for module in store.modules() if module.name == "jupyterhub"] == []
    assert [owner(root, number) for number in (8000, 8001, 8081)] == ["soundd_port_t", "unreserved_port_t", "transproxy_port_t"]
    assert not (store.active / port_labels.LOCAL).exists()
    before, after = PolicyIndex.load(Store(Path("/")).policy()), PolicyIndex.load(store.policy())
    assert set(before.types) == set(after.types)
    if init_labels.can_label(root):
        assert label(root / "srv/jupyterhub") is None
        assert label(root / "opt/jupyterhub/bin/jupyterhub") is None
        assert label(root / "srv/jupyterhub/younger") == "var_t"
    with pytest.raises(RefusedError, match="has not been run"):
        undo_init(settings, "jupyterhub")


def test_undo_after_a_crash_before_anything_was_done(inited: Inited, tmp_path: Path) -> None:
    root = tmp_path / "root"
    create_store(root)
    settings = Settings(root=root, state=root / "state")
    journal.write(settings, journal.SetupJournal("jupyterhub", "jupyterhub", 360, inited.plan.ports, ("/srv/x",)))
    undo_init(settings, "jupyterhub")
    assert owner(root, 8000) == "soundd_port_t"
    assert journal.read(settings, "jupyterhub") is None


def test_booleans_are_switched_with_the_module_and_forgotten_with_it(machine: Settings, profile: Profile) -> None:
    """A value that outlived the module would count again after the next init."""
    put(machine.root, "/etc/jupyterhub/jupyterhub_config.py", "c.JupyterHub.db_url = 'postgresql://db/hub'\n")
    plan = plan_init(machine, profile)
    assert plan.booleans == (BooleanRequest("jupyterhub_connect_db", "db_url is a postgresql server"),)
    with pytest.raises(UsageError, match="not a boolean of the module"):
        run_init(machine, profile, plan, ["httpd_can_network_connect"])
    assert not journal.path_of(machine, profile.name).exists()
    done = run_init(machine, profile, plan, ["jupyterhub_connect_db"])
    assert done.booleans == ("jupyterhub_connect_db",)
    store = Store(machine.root)
    booleans = PolicyIndex.load(store.policy()).booleans
    assert booleans["jupyterhub_connect_db"] is True
    assert booleans["jupyterhub_user_execmem"] is False
    # what the administrator switched afterwards goes too
    transaction.commit(
        store.root, store.kind, priority=360, booleans=[transaction.BooleanValue("jupyterhub_user_execmem", True)]
    )
    assert local_booleans(store.active) == {"jupyterhub_connect_db", "jupyterhub_user_execmem"}
    assert undo_init(machine, "jupyterhub").booleans == ("jupyterhub_connect_db", "jupyterhub_user_execmem")
    assert local_booleans(store.active) == frozenset()
    assert "jupyterhub_connect_db" not in PolicyIndex.load(store.policy()).booleans


@pytest.fixture
def machine(tmp_path: Path) -> Settings:
    need_toolchain()
    create_store(tmp_path)
    put_hub(tmp_path)
    return Settings(root=tmp_path, state=tmp_path / "state")


def told(settings: Settings, profile: Profile, code: str) -> str:
    plan = plan_init(settings, profile)
    assert not plan.package
    with pytest.raises(RefusedError):
        run_init(settings, profile, plan)
    assert not journal.path_of(settings, profile.name).exists()
    return next(finding.what for finding in plan.stopped if finding.code == code)


def test_a_policy_that_is_there_already(inited: Inited, tmp_path: Path, profile: Profile) -> None:
    """The same module, seen by somebody who has no journal of it: another's."""
    settings = Settings(root=inited.settings.root, state=tmp_path / "other")
    assert "a module jupyterhub is already installed at priority 360" in told(settings, profile, "I-policy")


def test_why_it_still_runs_unconfined_is_told(inited: Inited, profile: Profile, tmp_path: Path) -> None:
    """After init, as long as a process of the unit is elsewhere; with the label that is wrong, where one is."""
    fake_process(tmp_path, 10, "jupyterhub", "system_u:system_r:unconfined_service_t:s0", "jupyterhub.service")
    mounts = "/dev/vda1 / ext4 rw,seclabel 0 0\nnas:/srv /srv nfs4 rw 0 0\n"
    hub = inited.settings.root / "opt/jupyterhub/bin/jupyterhub"

    def told_now() -> dict[str, str]:
        plan = plan_init(inited.settings, profile, mounts=mounts, proc=tmp_path)
        return {finding.code: finding.what for finding in plan.findings}

    assert "unconfined_service_t" in told_now()["I-running"]
    assert "I-unlabelled" not in told_now()
    if init_labels.can_label(inited.settings.root):
        right = os.getxattr(hub, LABEL)
        os.setxattr(hub, LABEL, b"system_u:object_r:bin_t:s0\0")
        try:
            assert "because /opt/jupyterhub/bin/jupyterhub is bin_t instead of jupyterhub_exec_t" in told_now()["I-unlabelled"]
        finally:
            os.setxattr(hub, LABEL, right)


def test_init_twice_is_harmless_to_plan(inited: Inited, profile: Profile) -> None:
    # stopped by a mount, so that it need not be linked once more
    plan = plan_init(inited.settings, profile, mounts="/dev/vda1 / ext4 rw,seclabel 0 0\nnas:/srv /srv nfs4 rw 0 0\n")
    assert plan.again
    assert {finding.code for finding in plan.stopped} == {"I-mount"}
    assert plan.ports == ()


def test_a_port_that_the_administrator_gave_away(machine: Settings, profile: Profile) -> None:
    record = "portcon tcp 8000 system_u:object_r:http_port_t:s0\n"
    put(machine.root, "/var/lib/selinux/default/active/ports.local", record)
    assert "the administrator has labelled tcp port 8000 as http_port_t" in told(machine, profile, "I-port")


def test_a_port_of_another_module(machine: Settings, profile: Profile) -> None:
    put(machine.root, "/etc/jupyterhub/jupyterhub_config.py", "c.JupyterHub.port = 5432\n")
    assert "postgresql_port_t" in told(machine, profile, "I-port")


def test_a_path_of_another_module(machine: Settings, profile: Profile) -> None:
    put(machine.root, "/etc/jupyterhub/jupyterhub_config.py", "c.JupyterHub.db_url = 'sqlite:////var/lib/mysql/hub.sqlite'\n")
    assert "/var/lib/mysql has the type mysqld_db_t" in told(machine, profile, "I-path")


def test_a_file_system_without_labels(machine: Settings, profile: Profile) -> None:
    mounts = "/dev/vda1 / ext4 rw,seclabel 0 0\nnas:/srv /srv nfs4 rw 0 0\n"
    plan = plan_init(machine, profile, mounts=mounts)
    assert [finding.code for finding in plan.stopped] == ["I-mount", "I-mount"]


def test_web_ports_stay_what_they_are(machine: Settings, profile: Profile) -> None:
    put(machine.root, "/etc/jupyterhub/jupyterhub_config.py", "c.JupyterHub.port = 443\nc.JupyterHub.ssl_key = '/x/y'\nbad(\n")
    with pytest.raises(Exception, match="not valid Python"):
        plan_init(machine, profile)
    changes = [PortChange("tcp", 443, "http_port_t", "jupyterhub_port_t")]
    (finding,) = port_labels.judge(changes, profile.own_types, {profile.ports[0].type: WEB_PORT_HINTS[profile.ports[0].name]})
    assert (finding.code, finding.level) == ("I-web", Severity.WARN)
    assert "jupyterhub_proxy_bind_http" in finding.hint
    (other,) = port_labels.judge([PortChange("tcp", 8080, "http_cache_port_t", "guestbook_port_t")], frozenset())
    assert (other.code, "rollout" in other.hint) == ("I-web", True)


def test_ports_local_keeps_what_is_not_ours() -> None:
    present = "# kept\nportcon tcp 9000-9100 system_u:object_r:http_port_t:s0\nportcon tcp 8000 system_u:object_r:a_t:s0\n"
    change = PortChange("tcp", 8000, "a_t", "b_t", "a_t")
    taken = port_labels.render_local(present, [change])
    assert port_labels.parse_local(taken) == (LocalPort("tcp", 9000, 9100, "http_port_t"), LocalPort("tcp", 8000, 8000, "b_t"))
    assert taken.startswith("# kept\n")
    assert port_labels.parse_local(port_labels.render_local(taken, [change], back=True)) == port_labels.parse_local(present)
    with pytest.raises(RefusedError):
        port_labels.render_local("", [PortChange("tcp", 1, "", "x_t\nportcon tcp 22 y")])


def test_a_damaged_journal_is_told(machine: Settings) -> None:
    put(machine.root, "/state/rollout/init-jupyterhub.json", json.dumps({"version": 1}))
    with pytest.raises(StateError, match="cannot be read"):
        undo_init(machine, "jupyterhub")


def fake_process(proc: Path, pid: int, comm: str, context: str, group: str) -> None:
    put(proc, f"/{pid}/comm", comm + "\n")
    put(proc, f"/{pid}/attr/current", context + "\0")
    put(proc, f"/{pid}/cgroup", f"0::/system.slice/{group}\n")


def test_a_service_that_runs_unconfined_is_told_with_the_reason(tmp_path: Path, profile: Profile) -> None:
    fake_process(tmp_path, 10, "jupyterhub", "system_u:system_r:initrc_t:s0", "jupyterhub.service")
    fake_process(tmp_path, 11, "node", "system_u:system_r:jupyterhub_proxy_t:s0", "jupyterhub.service")
    fake_process(tmp_path, 12, "python3", "system_u:system_r:jupyterhub_user_t:s0", "session-1.scope")
    fake_process(tmp_path, 13, "sshd", "system_u:system_r:sshd_t:s0", "jupyterhub.service.d")
    found = processes.running(tmp_path, "jupyterhub.service", profile)
    assert [process.pid for process in found] == [10, 11, 12]
    (finding,) = processes.still_elsewhere(found, profile)
    assert "initrc_t" in finding.what
    assert "10 (jupyterhub)" in finding.what
    labels = [("/opt/x/jupyterhub", "jupyterhub_exec_t", "bin_t")]
    first, _ = processes.why_unconfined(found, profile, labels=labels)
    assert "because /opt/x/jupyterhub is bin_t" in first.what
    assert processes.still_elsewhere(found[1:], profile) == ()
    off = [processes.Running(1, "jupyterhub", "")]
    assert processes.still_elsewhere(off, profile)[0].code == "I-off"


def test_a_number_of_another_service_is_taken_only_where_the_profile_says_so() -> None:
    changes = [PortChange("tcp", 9001, "tor_port_t", "svc_port_t")]
    (stopped,) = port_labels.judge(changes, frozenset())
    assert (stopped.level, stopped.code) == (Severity.STOP, "I-port")
    take = {"svc_port_t": frozenset({"tor_port_t"})}
    (taken,) = port_labels.judge(changes, frozenset(), take=take)
    assert (taken.level, taken.code) == (Severity.WARN, "I-taken")
    (other,) = port_labels.judge([PortChange("tcp", 9050, "tor_port_t", "other_port_t")], frozenset(), take=take)
    assert other.level is Severity.STOP
    (local,) = port_labels.judge([PortChange("tcp", 9001, "tor_port_t", "svc_port_t", "tor_port_t")], frozenset(), take=take)
    assert local.level is Severity.STOP
