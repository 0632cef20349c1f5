"""What the real ports say to semodule and systemd, what they read back, and the one-shot as its own process."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sepolicyd.errors import RefusedError, StateError, ToolError
from sepolicyd.policy.configured import selinux_type, store_directory
from sepolicyd.rollout import endlease, leftover, machine
from sepolicyd.rollout.kernelpolicy import PolicyFormatError, parse_head, render_ebitmap, without_permissive
from sepolicyd.rollout.machine import SemoduleStore, argv_arm, argv_open, one_shot, parse_lease_modules
from sepolicyd.rollout.selinuxfs import STATUS, SelinuxFs
from sepolicyd.rollout.undo import BrokenUndo, Lease, LeaseBook, Moment, module_name, module_text, parse_lease, render_lease

TREE = Path(__file__).resolve().parents[2]
NOW = Moment(1000.0, 50.0, "boot")
LEASE = Lease(
    profile="hub", id="ab12", domains=("hub_t", "proxy_t"), whole_system=False, hidden=True, module="sepolicyd_lease_hub",
    priority=360, opened=NOW, deadline_wall=1600.0, deadline_boottime=650.0, services=("hub.service",), by="ada",
)  # fmt: skip


def policies() -> list[Path]:
    return sorted(Path("/etc/selinux").glob("*/policy/policy.[0-9]*"))


@pytest.fixture
def policy() -> bytes:
    if not policies():
        pytest.skip("no kernel policy on this machine")
    return policies()[-1].read_bytes()


@pytest.mark.toolchain
def test_the_reader_agrees_with_setools(policy: bytes) -> None:
    setools = pytest.importorskip("setools")
    head = parse_head(policy)
    loaded = setools.SELinuxPolicy(str(policies()[-1]))
    assert set(head.types) == {str(kind) for kind in loaded.types()}
    assert head.permissive == {str(kind) for kind in loaded.types() if kind.ispermissive}
    assert head.version == loaded.version


@pytest.mark.toolchain
def test_setools_reads_what_we_close_as_closed_and_otherwise_the_same(policy: bytes, tmp_path: Path) -> None:
    setools = pytest.importorskip("setools")
    head = parse_head(policy)
    chosen = sorted(head.types)[::700]
    start, end = head.span
    opened = policy[:start] + render_ebitmap({head.types[name] for name in chosen}) + policy[end:]
    assert parse_head(opened).permissive == set(chosen)
    closed = without_permissive(opened, [*chosen[1:], "no_such_type"])
    file = tmp_path / "policy.33"
    file.write_bytes(closed)
    seen = setools.SELinuxPolicy(str(file))
    assert {str(kind) for kind in seen.types() if kind.ispermissive} == {chosen[0]}
    assert seen.allow_count == setools.SELinuxPolicy(str(policies()[-1])).allow_count
    # closing all that was opened gives back the very bytes of the policy before
    assert without_permissive(opened, chosen) == without_permissive(policy, head.permissive) if head.permissive else policy
    assert without_permissive(policy, chosen) is policy


@pytest.mark.parametrize("cut", [0, 7, 20, 60, 4000])
def test_a_cut_policy_is_an_error_of_ours(policy: bytes, cut: int) -> None:
    with pytest.raises(PolicyFormatError):
        parse_head(policy[:cut])


def test_something_else_is_no_policy() -> None:
    with pytest.raises(PolicyFormatError):
        parse_head(b"\x7fELF" + bytes(400))


class FakeFs:
    """A directory in place of selinuxfs: what is written to `load` becomes the policy, as in the kernel."""

    def __init__(self, mount: Path, policy: bytes) -> None:
        self.mount = mount
        (mount / "enforce").write_bytes(b"1")
        (mount / "policy").write_bytes(policy)
        (mount / "load").write_bytes(b"")
        (mount / "status").write_bytes(STATUS.pack(1, 4, 1, 7, 0) + bytes(4076))


def test_selinuxfs_reads_and_closes(policy: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = parse_head(policy)
    name = sorted(head.types)[5]
    start, end = head.span
    FakeFs(tmp_path, policy[:start] + render_ebitmap({head.types[name]}) + policy[end:])
    kernel = SelinuxFs(tmp_path)
    assert (kernel.enabled(), kernel.enforcing(), kernel.loads()) == (True, True, 7)
    assert kernel.permissive_types() == {name}
    real = kernel._write

    def write(file: str, data: bytes) -> None:
        real(file, data)
        if file == "load":
            (tmp_path / "policy").write_bytes(data)
            (tmp_path / "status").write_bytes(STATUS.pack(1, 6, 1, 8, 0))

    monkeypatch.setattr(kernel, "_write", write)
    kernel.close_types((name,))
    assert kernel.permissive_types() == frozenset()
    monkeypatch.setattr(kernel, "_write", lambda file, data: None)  # a kernel that takes it and changes nothing
    (tmp_path / "policy").write_bytes(policy[:start] + render_ebitmap({head.types[name]}) + policy[end:])
    (tmp_path / "status").write_bytes(STATUS.pack(1, 8, 1, 9, 0))
    with pytest.raises(ToolError, match="permissive in the kernel still"):
        kernel.close_types((name,))


def test_a_status_page_that_is_being_written_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "status").write_bytes(STATUS.pack(1, 5, 1, 7, 0))
    with pytest.raises(ToolError, match="never came to rest"):
        SelinuxFs(tmp_path).loads()
    with pytest.raises(ToolError, match="cannot be read"):
        SelinuxFs(tmp_path / "nothing").loads()


def test_what_semodule_is_told() -> None:
    cil = Path("/x/m.cil")
    assert argv_open(360, cil, hidden=True) == ["semodule", "-X", "360", "-D", "-i", "/x/m.cil"]
    assert argv_open(360, cil, hidden=False) == ["semodule", "-X", "360", "-i", "/x/m.cil"]
    assert argv_open(360, None, hidden=True) == ["semodule", "-D", "-B"]
    assert argv_open(360, None, hidden=False) == []
    assert parse_lease_modules("100 apache pp\n360 sepolicyd_lease_hub cil\n400 permissive_x cil\n") == {
        "sepolicyd_lease_hub": 360
    }


def test_what_systemd_is_told() -> None:
    argv = argv_arm(LEASE, 599.7, one_shot(Path("/state")))
    assert argv[0] == "systemd-run"
    assert "--on-active=600s" in argv
    assert "--on-calendar=@1600" in argv
    assert "--timer-property=AccuracySec=1s" in argv
    assert "--property=Restart=on-failure" in argv
    assert f"--unit={LEASE.unit}" in argv
    command = argv[argv.index("--") + 1 :]
    assert command == [sys.executable, "-I", "-m", "sepolicyd.rollout.endlease", "--dir", "/state"]
    assert replace(LEASE, deadline_boottime=651.0).unit != LEASE.unit


def test_names_that_reach_policy_and_files() -> None:
    assert module_name("my-hub.2") == "sepolicyd_lease_my_hub_2"
    assert module_text(("b_t", "a_t")) == "(typepermissive a_t)\n(typepermissive b_t)\n"
    assert machine.types_in(module_text(("b_t", "a_t"))) == ["a_t", "b_t"]
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


def test_an_undo_file_comes_back_as_it_was(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path / "rollout")
    book.write(LEASE)
    book.write(LEASE)
    assert book.all() == [LEASE]
    assert book.of("hub") == LEASE
    assert parse_lease(render_lease(LEASE)) == LEASE
    assert (tmp_path / "rollout").stat().st_mode & 0o777 == 0o700
    assert book.path_of("hub").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in book.undo_dir.iterdir()] == ["hub.json"]
    book.remove("hub")
    book.remove("hub")
    assert book.all() == []


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema": 2}', render_lease(LEASE)[:-40], render_lease(LEASE).replace('"id"', '"di"'), "\x00" * 300],
)
def test_a_damaged_undo_file_is_never_passed_over(tmp_path: Path, text: str) -> None:
    book = LeaseBook(tmp_path)
    book.write(LEASE)
    book.path_of("hub").write_text(text)
    (found,) = book.all()
    assert isinstance(found, BrokenUndo)


def test_a_full_disk_leaves_the_old_undo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = LeaseBook(tmp_path)
    book.write(LEASE)
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 100:
            return real(fd, bytes(data[:100]))  # the rest does not fit
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StateError, match="cannot be written"):
        book.write(replace(LEASE, attempts=9, by="x" * 100))
    monkeypatch.undo()
    assert book.all() == [LEASE]
    assert list(book.directory.glob(".*.new")) == []


def test_two_commands_at_once(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    with book.lock(0), pytest.raises(RefusedError, match="another sepolicyd command"), LeaseBook(tmp_path).lock(0.2):
        pass
    with book.lock(0):
        pass


def test_the_history_outlives_a_torn_line(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    book.record("opened", NOW, id="x", deadline_wall=1600.0)
    with book.history_path.open("a") as file:
        file.write('{"what": "end')
    book.record("ended", replace(NOW, wall=1100.0), id="x")
    assert [entry["what"] for entry in book.history()] == ["opened", "ended"]


def run_one_shot(*arguments: str, tools: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {"PYTHONPATH": str(TREE), "PATH": "/usr/bin:/bin"}
    if tools:
        env["SEPOLICYD_PATH"] = str(tools)
    return subprocess.run(
        [sys.executable, "-m", "sepolicyd.rollout.endlease", *arguments],
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
        "import sepolicyd.rollout.endlease, sepolicyd.rollout.machine\n"
        "sepolicyd.rollout.machine.SystemClock().now()\n"
        "print(sorted(name for name in sys.modules if name.startswith('sepolicyd.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=TREE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sepolicyd.state" not in done.stdout
    assert "sepolicyd.settings" not in done.stdout


def test_the_one_shot_starts_from_anywhere(tmp_path: Path) -> None:
    assert run_one_shot("--dir", str(tmp_path), "--check").returncode == 0
    book = LeaseBook(tmp_path)
    book.write(LEASE)
    assert run_one_shot("--dir", str(tmp_path), "--check").returncode == 0
    book.path_of("hub").write_text("{")
    assert run_one_shot("--dir", str(tmp_path), "--check").returncode == endlease.EXIT_PENDING


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
    assert (tools / "store/sepolicyd_lease_hub.cil").read_text() == "(typepermissive hub_t)\n(typepermissive proxy_t)\n"
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
    return leftover.running(lambda words: f"/tmp/x/{module}.cil".encode() in words)


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
@pytest.mark.slow
def test_the_check_links_a_copy_and_changes_nothing(tmp_path: Path) -> None:
    if not (store_directory(Path("/")) / "active/modules").is_dir() or not shutil.which("semodule", path="/usr/sbin"):
        pytest.skip("no policy store on this machine")
    before = sorted(path.name for path in (store_directory(Path("/")) / "active").rglob("*"))
    store = SemoduleStore()
    store.check("sepolicyd_lease_hub", "(typepermissive sshd_t)\n")
    with pytest.raises(RefusedError, match="does not rebuild"):
        store.check("sepolicyd_lease_hub", "(typepermissive no_such_type_at_all_t)\n")
    assert sorted(path.name for path in (store_directory(Path("/")) / "active").rglob("*")) == before


def test_main_prints_what_was_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.rollout.fakes import Machine

    fake = Machine(undo={"hub": render_lease(LEASE)}, boottime=651.0, wall=1700.0)
    monkeypatch.setattr(machine, "machine", lambda directory: fake.world())
    assert endlease.main(["--dir", str(tmp_path)]) == endlease.EXIT_DONE
    assert capsys.readouterr().out.startswith("<5>hub: reboot; enforcing after")
    fake.undo["hub"] = json.dumps(
        {**json.loads(render_lease(LEASE)), "opened": {"wall": 1.0, "boottime": 1.0, "boot_id": "boot-1"}}
    )
    fake.modules["sepolicyd_lease_hub"] = ("hub_t",)
    fake.load()
    fake.broken = frozenset({"store.remove", "kernel.close_types"})
    assert endlease.main(["--dir", str(tmp_path)]) == endlease.EXIT_PENDING
    assert capsys.readouterr().out.startswith("<2>hub: deadline; NOT ENFORCING")


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
    monkeypatch.setattr(machine, "SYSTEMD", tools)
    return tools


def test_nothing_is_opened_unless_all_that_ends_it_is_in_place(systemd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = machine.SystemdTimers(systemd / "rollout")
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
    assert "one-shot" in str(timers.problem())
    monkeypatch.setattr(machine, "SYSTEMD", systemd / "nothing")
    assert "not run by systemd" in str(timers.problem())


def test_a_timer_is_armed_seen_and_stopped(systemd: Path) -> None:
    timers = machine.SystemdTimers(systemd / "rollout")
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
    voice = machine.JournalVoice()
    voice.shout("the lease of $(id) is open; `x`", (str(hook), "--to", "ops"))
    assert (tmp_path / "seen").read_text() == "--to|ops|the lease of $(id) is open; `x`|"
    voice.shout("a hook that fails costs nothing", ("/bin/false",))
    voice.shout("nor one that is missing", ("/nonexistent/hook",))
