"""Calls of semodule and systemd by the real implementation, their results, and the one-shot command as a process."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sepolicyd import process
from sepolicyd.errors import RefusedError, ToolError
from sepolicyd.kernel.journal import MessageId
from sepolicyd.kernel.policy_image import parse_head
from sepolicyd.module import surviving_semodule
from sepolicyd.policy.selinux_config import selinux_type, store_directory
from sepolicyd.rollout.clock import Moment
from sepolicyd.rollout.lease import __main__, end, host, semodule
from sepolicyd.rollout.lease import systemd as systemd_module
from sepolicyd.rollout.lease.lease import Lease, carried_lease, module_name, module_text, render_lease
from sepolicyd.rollout.lease.lease_records import LeaseBook
from sepolicyd.rollout.lease.semodule import SemoduleStore, argv_open
from sepolicyd.rollout.lease.systemd import argv_arm, one_shot
from tests.paths import ROOT
from tests.rollout.apply.world import make_store

NOW = Moment(1000.0, 50.0, "boot")
LEASE = Lease(
    profile="hub", id="ab12", domains=("hub_t", "proxy_t"), whole_system=False, hidden=True, module="sepolicyd_lease_hub",
    priority=360, opened=NOW, deadline_wall=1600.0, deadline_boottime=650.0, services=("hub.service",), by="ada",
)  # fmt: skip


def test_what_semodule_is_told() -> None:
    cil = Path("/x/m.cil")
    assert argv_open(360, cil, hidden=True) == ["semodule", "-X", "360", "-D", "-i", "/x/m.cil"]
    assert argv_open(360, cil, hidden=False) == ["semodule", "-X", "360", "-i", "/x/m.cil"]
    assert argv_open(360, None, hidden=True) == ["semodule", "-D", "-B"]
    assert argv_open(360, None, hidden=False) == []


def test_what_systemd_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SOURCE_TREE", None)  # as installed
    argv = argv_arm(LEASE, 599.7, one_shot(Path("/state")))
    assert argv[0] == "systemd-run"
    assert "--on-active=600s" in argv
    assert "--on-calendar=@1600" in argv
    assert "--timer-property=AccuracySec=1s" in argv
    assert "--property=Restart=on-failure" in argv
    assert f"--unit={LEASE.unit}" in argv
    command = argv[argv.index("--") + 1 :]
    assert command[:-1] == [sys.executable, "-I", "-m", "sepolicyd.rollout.lease", "--dir", "/state", "--undo"]
    assert carried_lease(command[-1]) == LEASE
    assert re.fullmatch("[A-Za-z0-9_=-]+", command[-1]), "systemd expands $ and % in a command line"
    assert replace(LEASE, deadline_boottime=651.0).unit != LEASE.unit


@pytest.mark.parametrize("seconds", [599.1, 599.5, 599.9, 600.0])
def test_no_timer_fires_before_the_deadline(seconds: float) -> None:
    """It would find nothing due and not fire again, so that the lease ran on until the next minute."""
    argv = argv_arm(replace(LEASE, deadline_wall=1000 + seconds), seconds, one_shot(Path("/state")))
    assert "--on-active=600s" in argv
    assert "--on-calendar=@1600" in argv


def test_names_that_reach_policy_and_files() -> None:
    assert module_name("my-hub.2") == "sepolicyd_lease_my_hub_2"
    text = "(optional sepolicyd_lease_a_t (typepermissive a_t))\n(optional sepolicyd_lease_b_t (typepermissive b_t))\n"
    assert module_text(("b_t", "a_t")) == text
    assert semodule.types_in(module_text(("b_t", "a_t"))) == ["a_t", "b_t"]
    assert LeaseBook(Path("/s")).path_of("../../etc/x").parent == Path("/s/leases")


def test_the_store_is_where_semanage_conf_says(tmp_path: Path) -> None:
    etc = tmp_path / "etc/selinux"
    etc.mkdir(parents=True)
    assert store_directory(tmp_path) == tmp_path / "var/lib/selinux/targeted"
    (etc / "strict/policy").mkdir(parents=True)
    assert selinux_type(tmp_path) == "strict"
    (etc / "config").write_text("# x\nSELINUX=enforcing\nSELINUXTYPE=mls # or targeted\n")
    assert store_directory(tmp_path) == tmp_path / "var/lib/selinux/mls"
    (etc / "semanage.conf").write_text('store-root = "/srv/store"\n')
    assert store_directory(tmp_path) == tmp_path / "srv/store/mls"


def run_one_shot(*arguments: str, tools: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    if tools:
        env["SEPOLICYD_PATH"] = str(tools)
    return subprocess.run(
        [sys.executable, "-m", "sepolicyd.rollout.lease", *arguments],
        env=env,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_one_shot_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; absent = ('yaml', 'click', 'structlog', 'watchdog', 'setools', 'sqlite3')\n"
        "sys.modules.update({name: None for name in absent})\n"
        "import sepolicyd.rollout.lease.end, sepolicyd.rollout.lease.host\n"
        "sepolicyd.rollout.lease.host.SystemClock().now()\n"
        "print(sorted(name for name in sys.modules if name.startswith('sepolicyd.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sepolicyd.state" not in done.stdout
    assert "sepolicyd.settings" not in done.stdout


def test_the_one_shot_starts_from_anywhere(tmp_path: Path) -> None:
    assert run_one_shot("--dir", str(tmp_path), "--check").returncode == 0
    book = LeaseBook(tmp_path)
    book.write(LEASE)
    assert run_one_shot("--dir", str(tmp_path), "--check").returncode == 0
    book.path_of("hub").write_text("{")
    assert run_one_shot("--dir", str(tmp_path), "--check").returncode == end.EXIT_PENDING


@pytest.mark.skipif(Path("/sys/fs/selinux/enforce").exists(), reason="here it would really end leases")
def test_without_selinux_the_one_shot_keeps_the_undo(tmp_path: Path) -> None:
    LeaseBook(tmp_path).write(LEASE)
    done = run_one_shot("--dir", str(tmp_path))
    assert done.returncode == 0
    assert "SELinux is disabled" in done.stdout
    assert LeaseBook(tmp_path).all() == [LEASE]


SEMODULE = """#!/bin/bash
# a store of one directory: -i and -r change it, -lfull lists it
store={store}
echo "$@" >> {log}
case "$*" in
*-lfull*) for f in "$store"/*; do [ -e "$f" ] && echo "360 $(basename "$f" .cil) cil"; done; exit 0 ;;
*-i*) cp "${{@: -1}}" "$store/" ;;
*-r*) rm "$store/${{@: -1}}.cil" || {{ echo "No module named ${{@: -1}}" >&2; exit 1; }} ;;
esac
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A semodule whose calls are written down."""
    place, store = tmp_path / "bin", tmp_path / "store"
    place.mkdir()
    store.mkdir()
    (place / "semodule").write_text(SEMODULE.format(store=store, log=tmp_path / "log"))
    (place / "semodule").chmod(0o755)
    monkeypatch.setenv("SEPOLICYD_PATH", f"{place}:/usr/bin:/bin")
    return tmp_path


def test_opening_and_removing_by_semodule(tools: Path) -> None:
    store = SemoduleStore(tools)
    store.open(LEASE, module_text(LEASE.domains))
    assert (tools / "store/sepolicyd_lease_hub.cil").read_text() == module_text(("hub_t", "proxy_t"))
    assert store.lease_modules() == {"sepolicyd_lease_hub": 360}
    modules = tools / "active/modules"  # the layout of a real store, asked without semodule
    (modules / "360/sepolicyd_lease_hub").mkdir(parents=True)
    (modules / "disabled").mkdir()
    (modules / "disabled/sepolicyd_lease_x").touch()
    assert store.lease_modules() == {"sepolicyd_lease_hub": 360}
    shutil.rmtree(tools / "active")
    store.remove("sepolicyd_lease_hub", 360)
    store.remove("sepolicyd_lease_hub", 360)
    calls = (tools / "log").read_text().splitlines()
    assert [call for call in calls if " -r " in call] == ["-X 360 -r sepolicyd_lease_hub"]
    assert calls[0].startswith("-X 360 -D -i ")


def orphan(module: str) -> list[int]:
    return surviving_semodule.running(lambda words: f"/tmp/x/{module}.cil".encode() in words)


def test_a_semodule_that_outlives_its_parent_is_waited_for(tools: Path) -> None:
    (tools / "store/sepolicyd_lease_hub.cil").write_text("")
    words = ["-c", "import time; time.sleep(1)", "-i", "/tmp/x/sepolicyd_lease_hub.cil"]
    with subprocess.Popen(["/usr/sbin/semodule", *words], executable=sys.executable) as running:
        while not orphan("sepolicyd_lease_hub"):
            assert running.poll() is None
        assert orphan("sepolicyd_lease_other") == []
        SemoduleStore(tools).remove("sepolicyd_lease_hub", 360)
        assert running.poll() is not None
    with subprocess.Popen(["/usr/bin/vi", *words], executable=sys.executable) as editor:
        time.sleep(0.2)
        assert orphan("sepolicyd_lease_hub") == []
        editor.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("name", ["/usr/sbin/semodule", "python3"])
def test_a_stranger_who_calls_his_process_semodule_holds_up_nothing(tools: Path, name: str) -> None:
    """A user of the hub who knows our file names could else keep a lease or an unconfirmed module in the store."""
    (tools / "store/sepolicyd_lease_hub.cil").write_text("")
    code = "import time; print(flush=True); time.sleep(30)"
    words = [name, "-c", code, "sepolicyd.module.transaction", "/tmp/x/sepolicyd_lease_hub.cil"]
    with subprocess.Popen(words, executable="/usr/bin/python3", user=65534, stdout=subprocess.PIPE, cwd="/") as stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        began = time.monotonic()
        SemoduleStore(tools).remove("sepolicyd_lease_hub", 360)
        assert orphan("sepolicyd_lease_hub") == []
        assert time.monotonic() - began < 5
        stranger.kill()


@pytest.mark.toolchain
def test_what_a_module_of_ours_opens_is_read_without_a_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_store(tmp_path / "root")
    module = tmp_path / "sepolicyd_lease_hub.cil"
    module.write_text(module_text(("svc_t", "other_t")))
    made.install([module], 360)
    monkeypatch.setenv("SEPOLICYD_PATH", "/nonexistent")
    store = SemoduleStore(made.directory)
    assert store.lease_modules() == {"sepolicyd_lease_hub": 360}
    assert store.module_types("sepolicyd_lease_hub") == {"svc_t", "other_t"}
    assert store.module_types("sepolicyd_lease_other") == frozenset()
    (made.active / "modules/360/sepolicyd_lease_hub/cil").write_bytes(b"BZh9 damaged")
    with pytest.raises(ToolError, match="cannot be read"):
        store.module_types("sepolicyd_lease_hub")


@pytest.mark.toolchain
def test_a_package_may_take_away_a_type_in_the_middle_of_its_lease(tmp_path: Path) -> None:
    made = make_store(tmp_path / "root")
    base, module = tmp_path / "service.cil", tmp_path / "sepolicyd_lease_hub.cil"
    base.write_text("(type gone_t)(roletype system_r gone_t)(typeattributeset domain (gone_t))")
    made.install([base], 100)
    module.write_text(module_text(("gone_t", "svc_t")))
    made.install([module], 360)
    assert parse_head(made.policy().read_bytes()).permissive == {"gone_t", "svc_t"}
    made.install([], 100, remove=["service"])
    assert parse_head(made.policy().read_bytes()).permissive == {"svc_t"}


def test_a_store_without_an_active_part_is_put_back_unless_somebody_is_at_work(tools: Path) -> None:
    """Killed between libsemanage's two renames while the lease was opened: nothing could be removed from that store."""
    store = tools / "real"
    (store / "previous/modules/360/sepolicyd_lease_hub").mkdir(parents=True)
    (store / "semanage.trans.LOCK").touch()
    (tools / "store/sepolicyd_lease_hub.cil").write_text("")
    with (store / "semanage.trans.LOCK").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ToolError, match="cannot be restored"):
            SemoduleStore(store).remove("sepolicyd_lease_hub", 360)
    with pytest.raises(ToolError, match="is still in the store"):  # this semodule does not know that directory
        SemoduleStore(store).remove("sepolicyd_lease_hub", 360)
    assert (store / "active/modules").is_dir()


@pytest.mark.toolchain
@pytest.mark.slow
def test_the_check_links_a_copy_and_changes_nothing(tmp_path: Path) -> None:
    if not (store_directory(Path("/")) / "active/modules").is_dir() or not shutil.which("semodule", path="/usr/sbin"):
        pytest.skip("no policy store on this machine")
    before = sorted(path.name for path in (store_directory(Path("/")) / "active").rglob("*"))
    store = SemoduleStore()
    store.check("sepolicyd_lease_hub", "(typepermissive sshd_t)\n")
    with pytest.raises(RefusedError, match="cannot be rebuilt"):
        store.check("sepolicyd_lease_hub", "(typepermissive no_such_type_at_all_t)\n")
    assert sorted(path.name for path in (store_directory(Path("/")) / "active").rglob("*")) == before


def test_main_prints_what_was_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.rollout.lease.fakes import Machine

    fake = Machine(undo={"hub": render_lease(LEASE)}, boottime=651.0, wall=1700.0)
    monkeypatch.setattr(host, "live_environment", lambda directory: fake.world())
    assert __main__.main(["--dir", str(tmp_path)]) == end.EXIT_DONE
    assert capsys.readouterr().out.startswith("<5>hub: reboot; enforcing after")
    fake.undo["hub"] = json.dumps(
        {**json.loads(render_lease(LEASE)), "opened": {"wall": 1.0, "boottime": 1.0, "boot_id": "boot-1"}}
    )
    fake.modules["sepolicyd_lease_hub"] = ("hub_t",)
    fake.rebuild()
    fake.broken = frozenset({"store.remove", "kernel.close_types"})
    # words of a later version must not keep this one from ending what is due
    assert __main__.main(["--dir", str(tmp_path), "--undo", "bm8=", "--later"]) == end.EXIT_PENDING
    assert capsys.readouterr().out.startswith("<2>hub: deadline; NOT ENFORCING")


def test_a_fault_of_our_own_closes_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.rollout.lease.fakes import Machine

    lease = replace(LEASE, opened=replace(NOW, boot_id="boot-1"))
    fake = Machine(undo={"hub": render_lease(lease)}, enforcing=False, dontaudit_off=True)
    fake.modules["sepolicyd_lease_other"] = ("other_t",)
    fake.rebuild()
    monkeypatch.setattr(host, "live_environment", lambda directory: fake.world())
    monkeypatch.setattr(__main__, "end_due", lambda world, carried: {"no": "fault"}["a fault"])
    assert __main__.main(["--dir", str(tmp_path)]) == end.EXIT_PENDING
    assert fake.enforcing
    assert not fake.open_types
    assert not fake.modules
    assert not fake.dontaudit_off
    assert fake.undo, "the next run ends the lease in its own way"
    assert "KeyError: 'a fault'" in fake.shouts[-1]


SYSTEMCTL = """#!/bin/bash
# units are files: UNIT.enabled, UNIT.active
dir={directory}
echo "$(basename "$0") $*" >> $dir/log
case "$(basename "$0") $1" in
"systemctl is-enabled") [ -e "$dir/$2.enabled" ] && echo enabled || {{ echo disabled; exit 1; }} ;;
"systemctl is-active") [ -e "$dir/$2.active" ] && echo active || {{ echo inactive; exit 3; }} ;;
"systemctl stop") [ -e "$dir/$2.active" ] || exit 5; rm "$dir/$2.active" ;;
"systemd-run "*) unit=${{1#--unit=}}; touch "$dir/$unit.timer.active" ;;
esac
"""


@pytest.fixture
def systemd(tools: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemd of files, in which all that ships with us is enabled and active."""
    for name in ("systemctl", "systemd-run"):
        (tools / "bin" / name).write_text(SYSTEMCTL.format(directory=tools))
        (tools / "bin" / name).chmod(0o755)
    for name in ("sepolicyd-boot.service.enabled", "sepolicyd-lease.timer.enabled", "sepolicyd-lease.timer.active"):
        (tools / name).touch()
    monkeypatch.setattr(systemd_module, "SYSTEMD", tools)
    return tools


def test_nothing_is_opened_unless_all_that_ends_it_is_in_place(systemd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = systemd_module.SystemdTimers(systemd / "rollout")
    assert timers.problem() is None
    for name, said in (
        ("sepolicyd-lease.timer.active", "not active"),
        ("sepolicyd-boot.service.enabled", "sepolicyd-boot.service is disabled"),
    ):
        (systemd / name).unlink()
        assert said in str(timers.problem())
        (systemd / name).touch()
    book = LeaseBook(systemd / "rollout")
    book.write(LEASE)
    book.path_of("hub").write_text("{")
    assert "command that ends leases" in str(timers.problem())
    monkeypatch.setattr(systemd_module, "SYSTEMD", systemd / "nothing")
    assert "not the init system" in str(timers.problem())


def test_a_timer_is_armed_seen_and_stopped(systemd: Path) -> None:
    timers = systemd_module.SystemdTimers(systemd / "rollout")
    assert not timers.armed(LEASE)
    timers.arm(LEASE, 600)
    assert timers.armed(LEASE)
    timers.disarm(LEASE)
    timers.disarm(LEASE)
    assert not timers.armed(LEASE)


def test_what_a_person_must_see_goes_to_the_hook_as_its_last_word(tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/bash\nprintf "%s|" "$@" > {tmp_path}/seen\n')
    hook.chmod(0o755)
    alerts = host.JournalAlerts()
    alerts.critical("the lease of $(id) is open; `x`", MessageId.LEASE_FAULT, (str(hook), "--to", "ops"))
    assert (tmp_path / "seen").read_text() == "--to|ops|the lease of $(id) is open; `x`|"
    alerts.critical("a hook that fails costs nothing", MessageId.LEASE_FAULT, ("/bin/false",))
    alerts.critical("nor one that is missing", MessageId.LEASE_FAULT, ("/nonexistent/hook",))
