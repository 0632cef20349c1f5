"""A profile for another service: a small web application under gunicorn, from its unit to a linked policy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sepolicyd import process, profiles
from sepolicyd.access import Access
from sepolicyd.errors import RefusedError, UsageError
from sepolicyd.module.store import Store, create_store
from sepolicyd.policy.labels import FileContexts, Ports
from sepolicyd.policy.oracle import Oracle
from sepolicyd.rollout.init import plan_init, run_init
from sepolicyd.rollout.init_new import new_profile, read_service
from sepolicyd.settings import Settings
from tests.jupyterhub.conftest import need_toolchain
from tests.jupyterhub.machines import put

pytestmark = pytest.mark.toolchain

UNIT = """\
[Service]
User=guestbook
ExecStart=/opt/guestbook/venv/bin/gunicorn --config gunicorn.conf.py --access-logfile - app:app
WorkingDirectory=/opt/guestbook/app
EnvironmentFile=-/etc/default/guestbook
StateDirectory=guestbook
RuntimeDirectory=guestbook
LogsDirectory=guestbook
"""
APP = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
"""


def put_guestbook(root: Path) -> None:
    venv = root / "opt/guestbook/venv"
    venv.parent.mkdir(parents=True)
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(venv)], check=True, capture_output=True)
    script = "#!/opt/guestbook/venv/bin/python3\nfrom gunicorn.app.wsgiapp import run\nrun()\n"
    put(root, "/opt/guestbook/venv/bin/gunicorn", script, mode=0o755)
    put(root, "/opt/guestbook/app/app.py", APP)
    put(root, "/opt/guestbook/app/gunicorn.conf.py", "workers = 2\nbind = '127.0.0.1:8500'  # behind nginx\n")
    put(root, "/etc/default/guestbook", "SECRET_KEY=x\n", mode=0o600)
    put(root, "/etc/systemd/system/guestbook.service", UNIT)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    need_toolchain()
    root = tmp_path_factory.mktemp("guestbook")
    create_store(root)
    put_guestbook(root)
    return Settings(root=root, state=root / "state")


def test_what_the_unit_tells(machine: Settings) -> None:
    service = read_service(machine.root, "guestbook", "guestbook.service")
    assert service.program == "/opt/guestbook/venv/bin/gunicorn"
    assert service.ports == (8500,)
    assert {label.path: label.type for label in service.labels} == {
        "/etc/default/guestbook": "guestbook_etc_t",
        "/opt/guestbook/app": "guestbook_content_t",
        "/opt/guestbook/venv/bin/gunicorn": "guestbook_exec_t",
        "/run/guestbook": "guestbook_runtime_t",
        "/var/lib/guestbook": "guestbook_var_lib_t",
        "/var/log/guestbook": "guestbook_log_t",
    }
    assert service.findings == ()


def test_a_first_policy_that_was_edited_to_read_password_hashes_is_stopped(machine: Settings, tmp_path: Path) -> None:
    """By the interface, which is an attribute and rules, and with its reason: the attribute alone passes every neverallow."""
    new_profile(machine, "guestbook", "guestbook.service", tmp_path)
    profile = profiles.load("guestbook", [tmp_path])
    te = profile.file(".te")
    te.write_text(te.read_text() + "auth_read_shadow(guestbook_t)\ndomain_obj_id_change_exemption(guestbook_t)\n")
    plan = plan_init(machine, profile)
    assert {"R-003", "R-011", "R-020"} == {finding.code for finding in plan.stopped}, plan.stopped
    assert any("can_read_shadow_passwords" in finding.what for finding in plan.stopped)
    with pytest.raises(RefusedError, match="base module"):
        run_init(machine, profile, plan)


def test_from_a_unit_to_a_policy(machine: Settings, tmp_path: Path) -> None:
    made = new_profile(machine, "guestbook", "guestbook.service", tmp_path)
    assert [path.name for path in made.files] == ["profile.yaml", "guestbook.te", "guestbook.fc"]
    with pytest.raises(RefusedError, match="is there already"):
        new_profile(machine, "guestbook", "guestbook.service", tmp_path)
    if process.which("selint"):
        process.run(["selint", "-F", str(tmp_path / "guestbook/guestbook.te"), str(tmp_path / "guestbook/guestbook.fc")])
    profile = profiles.load("guestbook", [tmp_path])
    plan = plan_init(machine, profile)
    assert not plan.stopped, plan.stopped
    assert plan.unit == "guestbook.service"
    assert set(plan.types) == profile.own_types
    run_init(machine, profile, plan)
    store = Store(machine.root)
    policy = Oracle.load(store.policy())
    assert Ports.from_policy(policy, store.active).owner("tcp", 8500) == "guestbook_port_t"
    assert policy.transition("init_t", "guestbook_exec_t", "process") == "guestbook_t"
    contexts = FileContexts.load(store.etc / store.kind / "contexts/files/file_contexts")
    assert contexts.lookup("/opt/guestbook/venv/bin/gunicorn") == "guestbook_exec_t"
    assert contexts.lookup("/opt/guestbook/app/app.py") == "guestbook_content_t"

    def may(target: str, tclass: str, permission: str) -> bool:
        return policy.allowed(Access.of("guestbook_t", target, tclass, permission)).allowed

    assert may("guestbook_port_t", "tcp_socket", "name_bind")
    assert may("guestbook_var_lib_t", "file", "create")
    assert may("guestbook_content_t", "file", "read")
    assert not may("guestbook_content_t", "file", "write")
    assert not may("guestbook_exec_t", "file", "write")
    assert not may("guestbook_log_t", "file", "unlink")
    assert not may("guestbook_t", "capability", "setuid")
    assert not may("http_port_t", "tcp_socket", "name_connect")


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("/usr/bin/python3 -m gunicorn app:app", "starts python3"),
        ("/usr/bin/podman run x", "container"),
        ("gunicorn app:app", "absolute path"),
        ("/opt/nothing/bin/run", "no such file"),
    ],
)
def test_what_cannot_be_told_apart(tmp_path: Path, start: str, said: str) -> None:
    put(tmp_path, "/etc/systemd/system/x.service", f"[Service]\nExecStart={start}\n")
    with pytest.raises(RefusedError, match=said):
        read_service(tmp_path, "x", "x.service")


def test_a_shared_program_is_told(tmp_path: Path) -> None:
    put(tmp_path, "/usr/bin/gunicorn", "#!/usr/bin/python3\n", mode=0o755)
    start = "/usr/bin/gunicorn --bind unix:/run/x/x.sock -b [::1]:9001 app:app"
    put(tmp_path, "/etc/systemd/system/x.service", f"[Service]\nExecStart={start}\nEnvironment=PORT=9002\n")
    service = read_service(tmp_path, "x", "x.service")
    assert [finding.code for finding in service.findings] == ["I-shared"]
    assert service.ports == (9001, 9002)
    assert {label.path for label in service.labels} == {"/usr/bin/gunicorn", "/run/x"}


def test_names(machine: Settings, tmp_path: Path) -> None:
    for name in ("Guestbook", "a-b", "../x", "", "x" * 40):
        with pytest.raises(UsageError, match="cannot be the name"):
            new_profile(machine, name, "guestbook.service", tmp_path)
    with pytest.raises(RefusedError, match="sshd_exec_t already"):
        new_profile(machine, "sshd", "guestbook.service", tmp_path)
    assert list(tmp_path.iterdir()) == []
