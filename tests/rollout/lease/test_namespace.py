"""The real one-shot command and semodule in a mount namespace, on full, read-only and missing disks.

Only the kernel is simulated by a directory (tests/vm has a real one).
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sepolicyd.kernel.policy_image import parse_head
from sepolicyd.kernel.selinuxfs import STATUS
from sepolicyd.module.store import Store
from sepolicyd.rollout.clock import SystemClock
from sepolicyd.rollout.lease.lease import Lease, LeasePhase, carry_lease, module_text
from sepolicyd.rollout.lease.lease_records import LeaseBook, LeaseEvent
from tests.paths import ROOT
from tests.rollout.apply.world import World, world
from tests.rollout.lease.test_units import directives

STATE, FS = Path("/var/lib/sepolicyd"), Path("/sys/fs/selinux")
MODULE = "sepolicyd_lease_hub"
DONE, PENDING = 0, 3


def can_mount() -> bool:
    words = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"]
    return os.geteuid() == 0 and shutil.which("unshare") is not None and subprocess.run(words, check=False).returncode == 0


pytestmark = [
    pytest.mark.toolchain,
    pytest.mark.skipif(FS.exists() or not can_mount(), reason="needs root, mount namespaces, and no SELinux of its own"),
]


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A store in which a lease's module stands."""
    made = world(tmp_path_factory.mktemp("opened"))
    module = made.settings.root / f"{MODULE}.cil"
    module.write_text(module_text(("svc_t",)))
    made.store.install([module], 360)
    return made


@dataclass
class Case:
    """One machine: what is mounted where, and what became of it."""

    place: Path
    lease: Lease

    @property
    def store(self) -> Store:
        return Store(self.place / "root")

    def start(self, *words: str, setup: str = "", path: str = "") -> subprocess.Popen[str]:
        """The one-shot in its namespace, after ``setup`` (shell)."""
        root, state, fs = (shlex.quote(str(self.place / name)) for name in ("root", "state", "fs"))
        script = (
            f"mount --bind {root}/etc/selinux /etc/selinux && mount --bind {root}/var/lib/selinux /var/lib/selinux"
            f" && mount -t tmpfs none /sys/fs && mkdir {FS} && mount --bind {fs} {FS}"
            f" && mkdir -p {STATE} && mount --bind {state} {STATE} && {setup or 'true'}"
            f" && exec {shlex.join([sys.executable, '-m', 'tests.rollout.lease.without_kernel', *words])}"
        )
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(ROOT), **({"SEPOLICYD_PATH": path} if path else {})}
        return subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script], env=env, cwd="/", text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def end(self, *words: str, setup: str = "", path: str = "") -> tuple[int, str]:
        """How the one-shot ended, and what it said."""
        with self.start(*words, setup=setup, path=path) as process:
            said = process.communicate(timeout=120)[0]
            return process.returncode, said

    @property
    def open_types(self) -> frozenset[str]:
        if (self.place / "fs/enforce").read_bytes().strip() != b"1":
            return frozenset({"everything"})
        return parse_head((self.place / "fs/policy").read_bytes()).permissive

    @property
    def left(self) -> list[str]:
        """What of the lease stands still."""
        modules = [module.name for module in self.store.modules() if module.name == MODULE]
        undo = [str(path.name) for path in (self.place / "state/rollout/leases").glob("*")]
        return [*modules, *undo]


@pytest.fixture
def case(opened: World, tmp_path: Path) -> Case:
    """A lease whose time is over, with the whole machine permissive too."""
    opened.again(tmp_path)
    (tmp_path / "state").mkdir(exist_ok=True)
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs/enforce").write_bytes(b"0")
    (tmp_path / "fs/policy").write_bytes(opened.policy())
    (tmp_path / "fs/status").write_bytes(STATUS.pack(1, 4, 0, 7, 0) + bytes(4076))
    now = SystemClock().now()
    lease = Lease(
        profile="hub", id="ab12", domains=("svc_t",), whole_system=True, hidden=False, module=MODULE, priority=360,
        opened=now, deadline_wall=now.wall - 1, deadline_boottime=now.boottime - 1, phase=LeasePhase.OPEN,
    )  # fmt: skip
    book = LeaseBook(tmp_path / "state/rollout")
    book.write(lease)
    details = {"id": "ab12", "profile": "hub", "domains": ["svc_t"], "whole_system": True, "deadline_wall": now.wall - 1}
    book.record(LeaseEvent.OPENED, now, **details)
    return Case(tmp_path, lease)


def test_nothing_goes_wrong(case: Case) -> None:
    assert case.open_types == {"everything"}
    code, said = case.end()
    assert code == DONE, said
    assert (case.open_types, case.left) == (frozenset(), [])
    book = LeaseBook(case.place / "state/rollout")
    assert [entry["what"] for entry in book.history()] == ["opened", "ended"]
    assert book.verify() == []


FULL = (
    f"cp -a {STATE}/rollout /mnt/x && mount -t tmpfs -o size=64k none {STATE} && cp -a /mnt/x {STATE}/rollout"
    f" && {{ cat /dev/zero > {STATE}/fill 2>/dev/null; true; }}"
)


def test_the_state_directory_s_disk_is_full(case: Case) -> None:
    """No line of history, no lock file, no undo written again: it is ended all the same."""
    code, said = case.end(setup=f"mount -t tmpfs none /mnt && {FULL}")
    assert "No space left" in said, said
    assert (case.open_types, code) == (frozenset(), DONE), said
    assert MODULE not in case.left


@pytest.mark.parametrize("where", [STATE, Path("/var/lib/selinux"), Path("/etc/selinux")])
def test_a_disk_is_read_only(case: Case, where: Path) -> None:
    code, said = case.end(setup=f"mount -o remount,bind,ro {where}")
    assert case.open_types == frozenset(), said
    assert code == PENDING, said
    assert "hub.json" in case.left
    code, said = case.end()
    assert (code, case.left) == (DONE, []), said


def test_the_store_s_disk_is_full(case: Case) -> None:
    store = "/var/lib/selinux"
    setup = (
        f"mount -t tmpfs none /mnt && cp -a {store} /mnt/store && mount -t tmpfs -o size=300k none {store}"
        f" && cp -a /mnt/store/. {store} && {{ cat /dev/zero > {store}/fill 2>/dev/null; true; }}"
    )
    code, said = case.end(setup=setup)
    assert (case.open_types, code) == (frozenset(), PENDING), said
    assert case.left == [MODULE, "hub.json"]
    assert case.end()[0] == DONE
    assert case.left == []


@pytest.mark.parametrize("lost", ["semodule", "undo", "history", "state", "undo and semodule"])
def test_something_is_gone(case: Case, lost: str) -> None:
    if "undo" in lost:
        (case.place / "state/rollout/leases/hub.json").unlink()
    if lost == "history":
        (case.place / "state/rollout/leases.jsonl").unlink()
    if lost == "state":
        shutil.rmtree(case.place / "state/rollout")
    words = ("--undo", carry_lease(case.lease)) if lost == "state" else ()
    code, said = case.end(*words, path="/nonexistent" if "semodule" in lost else "")
    assert case.open_types == frozenset(), said
    assert code == (PENDING if "semodule" in lost else DONE), said
    assert case.end(*words)[0] == DONE
    assert (case.open_types, case.left) == (frozenset(), [])


def test_the_state_directory_is_gone_and_the_timer_too(case: Case) -> None:
    """The minute's timer finds our module in the store by the unit's condition, and reads there what it opens."""
    shutil.rmtree(case.place / "state/rollout")
    (case.place / "fs/enforce").write_bytes(b"1")
    code, said = case.end()
    assert (code, case.open_types, case.left) == (DONE, frozenset(), []), said


def test_the_store_is_locked_by_another_semodule(case: Case) -> None:
    hold = "exec 9</var/lib/selinux/default/semanage.trans.LOCK && flock -x 9"
    began = time.monotonic()
    code, said = case.end(setup=hold)
    assert (case.open_types, code) == (frozenset(), PENDING), said
    assert time.monotonic() - began < 60
    assert case.end()[0] == DONE
    assert case.left == []


def test_the_base_policy_was_replaced_during_the_lease(case: Case, tmp_path: Path) -> None:
    update = tmp_path / "update.cil"
    update.write_text("(type update_t)(roletype system_r update_t)(typeattributeset domain (update_t))")
    case.store.install([update], 100)
    (case.place / "fs/policy").write_bytes(case.store.policy().read_bytes())
    code, said = case.end()
    assert (code, case.open_types, case.left) == (DONE, frozenset(), []), said
    assert "update_t" in parse_head(case.store.policy().read_bytes()).types


def test_killed_at_random_moments(case: Case) -> None:
    chance = random.Random(20261122)
    began = time.monotonic()
    kept = replace(case)
    for _ in range(6):
        with kept.start() as process:
            time.sleep(chance.uniform(0.05, 1.2))
            process.send_signal(signal.SIGKILL)
    assert time.monotonic() - began < 60
    code, said = case.end()
    assert (code, case.open_types, case.left) == (DONE, frozenset(), []), said
    assert LeaseBook(case.place / "state/rollout").verify() == []


@pytest.mark.parametrize("unit", ["sepolicyd-boot.service", "sepolicyd-lease.service"])
def test_the_shell_changes_nothing_where_there_is_no_lease(case: Case, unit: str, tmp_path: Path) -> None:
    """The boot unit runs at every boot; a broken interpreter must not switch a permissive machine to enforcing."""
    shutil.rmtree(case.place / "state/rollout")
    case.store.install([], 360, remove=[MODULE])
    setup = shell_of(unit, "exit-code 203", tmp_path)
    _, said = case.end(setup=setup)
    assert (said, (case.place / "fs/enforce").read_bytes()) == ("", b"0")


def shell_of(unit: str, how: str, tmp_path: Path) -> str:
    """The unit's ExecStopPost= as systemd would run it, with a setenforce that writes to the directory."""
    text = (ROOT / "systemd" / unit).read_text().replace("\\\n", "")
    (line,) = (line for line in text.splitlines() if line.startswith("ExecStopPost="))
    command = line.partition("=")[2].lstrip("-").replace("$$", "$").replace("%%", "%")
    (tmp_path / "lease.json").write_text("{}")
    command = command.replace("/run/sepolicyd/lease.json", str(tmp_path / "lease.json"))
    result, _, status = how.partition(" ")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "setenforce").write_text(f'#!/bin/sh\necho -n "$1" > {FS}/enforce\n')
    (tools / "setenforce").chmod(0o755)
    return f"PATH={tools}:$PATH SERVICE_RESULT={result} EXIT_STATUS={status} {command}; exit"


@pytest.mark.parametrize("unit", ["sepolicyd-boot.service", "sepolicyd-lease.service"])
@pytest.mark.parametrize("how", ["exit-code 203", "exit-code 1", "timeout ", "signal KILL", "exit-code 3", "success 0"])
def test_the_shell_ends_what_a_broken_interpreter_cannot(case: Case, unit: str, how: str, tmp_path: Path) -> None:
    """A distribution's upgrade takes the interpreter away (203: systemd could not execute it), or the import fails (1)."""
    setup = shell_of(unit, how, tmp_path)
    assert directives(unit)["ExecStopPost"][0].startswith("-/bin/sh -c")
    _, said = case.end(setup=setup)
    broken = how not in {"exit-code 3", "success 0"}
    assert (MODULE in case.left) is not broken, said
    assert (case.place / "fs/enforce").read_bytes() == (b"1" if broken else b"0"), said
    assert ("ending all leases" in said) is broken
    assert (tmp_path / "lease.json").exists() is not broken
