"""`init --new` for a small web application under gunicorn, from its unit to a linked policy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple, Optional

import pytest

from sepolicyd import process, profiles
from sepolicyd.access import Access
from sepolicyd.errors import RefusedError, UsageError
from sepolicyd.module.store import Store, create_store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import FileContexts, Ports
from sepolicyd.rollout.setup.install import run_init
from sepolicyd.rollout.setup.new_profile import new_profile, read_service
from sepolicyd.rollout.setup.plan import plan_init
from sepolicyd.settings import Settings
from tests.policies.jupyterhub.conftest import need_toolchain
from tests.rollout.setup import traced
from tests.services.jupyterhub.machines import put

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
# a guestbook: entries in a sqlite file, read and written by each request, and a line in a log of its own
APP = """\
import os
import sqlite3
from contextlib import closing

BOOK = os.path.join(os.environ["STATE_DIRECTORY"], "book.sqlite")


def app(environ, start_response):
    with closing(sqlite3.connect(BOOK)) as book, book:
        book.execute("CREATE TABLE IF NOT EXISTS entry (text TEXT)")
        if environ["REQUEST_METHOD"] == "POST":
            book.execute("INSERT INTO entry VALUES (?)", (environ["wsgi.input"].read(1000).decode(),))
        rows = book.execute("SELECT text FROM entry").fetchall()
    with open(os.path.join(os.environ["LOGS_DIRECTORY"], "visits.log"), "a") as log:
        log.write(environ["REMOTE_ADDR"] + "\\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [row[0].encode() + b"\\n" for row in rows]
"""
CONF = "workers = 2\nbind = '127.0.0.1:8500'  # behind nginx\n"
# What is not in the base: the control socket that gunicorn 27 makes in the home of its user
LEFT_TO_A_ROLLOUT = {"guestbook_t guestbook_var_lib_t:sock_file create"}
# and what must stay denied: python keeps compiled modules beside the application, which would then write its own code (the
# test runs as root; the unit's user may not write there anyway)
STAYS_DENIED = {
    "guestbook_t guestbook_content_t:dir create",
    "guestbook_t guestbook_content_t:file create",
    "guestbook_t guestbook_content_t:file write",
}
PROGRAM = "/opt/guestbook/venv/bin/gunicorn"


def put_guestbook(root: Path) -> str:
    """The application, its unit, and gunicorn from the package index; why that could not be had, "" where it is there."""
    venv = root / "opt/guestbook/venv"
    venv.parent.mkdir(parents=True)
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(venv)], check=True, capture_output=True)
    put(root, "/opt/guestbook/app/app.py", APP)
    put(root, "/opt/guestbook/app/gunicorn.conf.py", CONF)
    put(root, "/etc/default/guestbook", "SECRET_KEY=x\n", mode=0o600)
    put(root, "/etc/systemd/system/guestbook.service", UNIT)
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin/python"), "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "--retries", "0", "--timeout", "20", "gunicorn"], check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    # what a unit tells needs the file alone
    put(root, PROGRAM, "#!/opt/guestbook/venv/bin/python3\nfrom gunicorn.app.wsgiapp import run\nrun()\n", mode=0o755)
    return f"gunicorn could not be installed with pip, so the real service was not run: {done.stderr.strip()[-300:]}"


class Guestbook(NamedTuple):
    settings: Settings
    missing: str


@pytest.fixture(scope="module")
def guestbook(tmp_path_factory: pytest.TempPathFactory) -> Guestbook:
    need_toolchain()
    root = tmp_path_factory.mktemp("guestbook")
    create_store(root)
    missing = put_guestbook(root)
    return Guestbook(Settings(root=root, state=root / "state"), missing)


@pytest.fixture(scope="module")
def machine(guestbook: Guestbook) -> Settings:
    return guestbook.settings


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
    assert {"R-003", "R-011", "R-020", "R-025"} == {finding.code for finding in plan.stopped}, plan.stopped
    assert any("can_read_shadow_passwords" in finding.what for finding in plan.stopped)
    with pytest.raises(RefusedError, match="base module"):
        run_init(machine, profile, plan)


class Made(NamedTuple):
    directory: Path
    policy: PolicyIndex
    contexts: FileContexts
    ports: Ports


@pytest.fixture(scope="module")
def linked(machine: Settings, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The whole way: profile and base module written, planned, loaded in the machine's store."""
    place = tmp_path_factory.mktemp("profiles")
    made = new_profile(machine, "guestbook", "guestbook.service", place)
    assert [path.name for path in made.files] == ["profile.yaml", "guestbook.te", "guestbook.fc"]
    profile = profiles.load("guestbook", [place])
    plan = plan_init(machine, profile)
    assert not plan.stopped, plan.stopped
    assert plan.unit == "guestbook.service"
    assert set(plan.types) == profile.own_types
    run_init(machine, profile, plan)
    store = Store(machine.root)
    policy = PolicyIndex.load(store.policy())
    contexts = FileContexts.load(store.etc / store.kind / "contexts/files/file_contexts")
    return Made(place, policy, contexts, Ports.from_policy(policy))


def test_from_a_unit_to_a_policy(machine: Settings, linked: Made) -> None:
    policy, contexts, place = linked.policy, linked.contexts, linked.directory
    with pytest.raises(RefusedError, match="already exists"):
        new_profile(machine, "guestbook", "guestbook.service", place)
    if process.which("selint"):
        process.run(["selint", "-F", str(place / "guestbook/guestbook.te"), str(place / "guestbook/guestbook.fc")])
    assert linked.ports.owner("tcp", 8500) == "guestbook_port_t"
    assert policy.transition("init_t", "guestbook_exec_t", "process") == "guestbook_t"
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


def test_the_real_service_lives_in_its_base_module(guestbook: Guestbook, linked: Made, tmp_path: Path) -> None:
    """gunicorn itself, started as its unit does and used: every file, program and address that it asks for is judged."""
    if guestbook.missing:
        pytest.skip(guestbook.missing)
    if process.which("strace") is None:
        pytest.skip("strace is not installed, so the real service was not run")
    root = guestbook.settings.root
    service = read_service(root, "guestbook", "guestbook.service")
    directories = {"STATE_DIRECTORY": "var/lib/guestbook", "LOGS_DIRECTORY": "var/log/guestbook", "HOME": "var/lib/guestbook"}
    for path in {*directories.values(), "run/guestbook"}:
        (root / path).mkdir(parents=True, exist_ok=True)
    workdir = str(root) + service.unit.get("WorkingDirectory")
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-s", "4096", "-o", str(trace), "-e", f"trace={traced.CALLS}"]
    started = subprocess.Popen(
        [*command, str(root) + service.program, *service.unit.argv[1:]],
        cwd=workdir,
        env={"PATH": "/usr/bin:/bin", **{name: str(root / path) for name, path in directories.items()}},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert ask(8500, b"first") == b"first\n"
        assert ask(8500) == b"first\n"
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        _, said = started.communicate(timeout=30)
    assert (root / "var/log/guestbook/visits.log").read_text(encoding="utf-8") == "127.0.0.1\n" * 2, said
    seen = list(traced.calls(trace.read_text(encoding="utf-8", errors="replace")))
    assert {"8500"} == {each.what for each in seen if each.call == "bind" and each.what.isdigit()}
    assert service.ports == (8500,)
    judge = traced.Judge("guestbook_t", linked.policy, linked.contexts, linked.ports, root, workdir)
    asked = judge.refused(seen)
    assert set(map(str, asked)) <= LEFT_TO_A_ROLLOUT | STAYS_DENIED, {str(access): path for access, path in asked.items()}
    # the judge has eyes: a domain without rules for the service would be refused these
    stranger = traced.Judge("chkpwd_t", linked.policy, linked.contexts, linked.ports, root, workdir).refused(seen)
    assert {"guestbook_port_t", "guestbook_content_t", "guestbook_var_lib_t"} <= {access.target for access in stranger}


def ask(port: int, text: Optional[bytes] = None) -> bytes:
    """GET /, or POST it; waits until the service listens."""
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", data=text, timeout=10) as answer:
                body: bytes = answer.read()
                return body
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the service does not answer")


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("/usr/bin/python3 -m gunicorn app:app", "starts python3"),
        ("/usr/bin/podman run x", "container"),
        ("gunicorn app:app", "absolute path"),
        ("/opt/nothing/bin/run", "does not exist"),
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
        with pytest.raises(UsageError, match="not a valid profile name"):
            new_profile(machine, name, "guestbook.service", tmp_path)
    with pytest.raises(RefusedError, match="already defines sshd_exec_t"):
        new_profile(machine, "sshd", "guestbook.service", tmp_path)
    assert list(tmp_path.iterdir()) == []
