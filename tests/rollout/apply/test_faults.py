"""Faults at every tool call and write of apply: afterwards the old or the new policy is in place, and the journal agrees."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Callable, Optional

import pytest

from sepolicyd.errors import RefusedError, SepolicydError, ToolError
from sepolicyd.module import surviving_semodule
from sepolicyd.rollout.apply import execute
from sepolicyd.rollout.apply.journal import ApplyJournal
from sepolicyd.rollout.apply.pipeline import recover
from sepolicyd.rollout.apply.rollback import rollback
from sepolicyd.rollout.apply.trial import read_trial, remove_trial
from sepolicyd.rollout.apply.versions import Versions
from sepolicyd.rollout.history import History
from sepolicyd.storage import files
from tests.paths import ROOT
from tests.rollout.apply.test_apply import no_verifier
from tests.rollout.apply.world import MODULE, OPEN, READ, World, allow, world

pytestmark = pytest.mark.toolchain

TOOLS = ("semodule", "checkmodule", "semodule_package")
# each call of a tool counts; at the chosen one: "before" fails undone, "after" fails although done, "kill" kills sepolicyd
WRAPPER = """#!/bin/sh
count=$(($(cat {counter} 2>/dev/null || echo 0) + 1))
echo $count > {counter}
if [ "$count" = {at} ]; then
    case {how} in
        before) echo "no space left on device" >&2; exit 1 ;;
        after) {real} "$@"; echo "killed at the end" >&2; exit 1 ;;
        kill) kill -9 $PPID; exec {real} "$@" ;;
    esac
fi
exec {real} "$@"
"""
CALLS = 4  # of an apply over an earlier version: list, extract, checkmodule, semodule_package; libsemanage does the rest
COPY_CALLS = 6  # where it is linked in a copy: link and install as well


class Faults:
    """Tools of which one call goes wrong."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "tools"
        self.counter = directory / "count"
        self.directory.mkdir()

    def set(self, at: int, how: str) -> str:
        for tool in TOOLS:
            path = self.directory / tool
            real = next(f"{place}/{tool}" for place in ("/usr/sbin", "/usr/bin") if os.access(f"{place}/{tool}", os.X_OK))
            path.write_text(WRAPPER.format(counter=self.counter, at=at, how=how, real=real))
            path.chmod(0o755)
        self.counter.unlink(missing_ok=True)
        return f"{self.directory}:/usr/sbin:/usr/bin:/sbin:/bin"

    @property
    def calls(self) -> int:
        return int(self.counter.read_text()) if self.counter.exists() else 0


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    return Faults(tmp_path)


@pytest.fixture(scope="module")
def before(pristine: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Version 1 is in the store."""
    machine = pristine.again(tmp_path_factory.mktemp("before"))
    machine.apply(allow(READ))
    return machine


@pytest.fixture(scope="module")
def after(before: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """And what version 2 makes of it."""
    machine = before.again(tmp_path_factory.mktemp("after"))
    machine.apply(allow(READ, OPEN))
    return machine


def check(machine: World, before: World, after: World, *, again: bool = True) -> None:
    """Old or new, never neither; the records agree; nothing is open; and (``again``) the same apply works."""
    recover(machine.settings)
    assert machine.policy() in (before.policy(), after.policy())
    assert machine.store.installed_policy().read_bytes() == machine.policy()
    is_new = machine.policy() == after.policy()
    versions = Versions(machine.settings.rollout_dir, MODULE)
    assert {rule.access for rule in versions.load(versions.current()).rules} == ({READ, OPEN} if is_new else {READ})
    assert not ApplyJournal(machine.settings.rollout_dir).open()
    assert History(machine.settings.rollout_dir).verify() == []
    applied = [entry.version for entry in History(machine.settings.rollout_dir).entries() if entry.what == "apply"]
    assert applied == ([1, versions.current()] if is_new else [1])
    if not is_new:
        assert read_trial(machine.settings) is None or read_trial(machine.settings).version != versions.current()  # type: ignore[union-attr]
    if not again:
        return
    remove_trial(machine.settings)
    machine.apply(allow(READ, OPEN))
    assert machine.policy() == after.policy()
    rollback(machine.settings, "svc", by="bob", to=1)
    assert machine.policy() == before.policy()


@pytest.mark.parametrize("copy", [False, True])
def test_the_faults_reach_every_call(
    before: World, tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch, copy: bool
) -> None:
    machine = before.again(tmp_path)
    if copy:
        monkeypatch.setattr(execute, "install_checked", no_verifier)
    monkeypatch.setenv("SEPOLICYD_PATH", faults.set(0, "none"))
    machine.apply(allow(READ, OPEN))
    assert faults.calls == (COPY_CALLS if copy else CALLS)


@pytest.mark.parametrize(
    ("copy", "at"), [*((False, at) for at in range(1, CALLS + 1)), *((True, at) for at in range(CALLS, COPY_CALLS + 1))]
)
@pytest.mark.parametrize("how", ["before", "after"])
def test_a_tool_fails(
    before: World, after: World, tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch, copy: bool, at: int, how: str
) -> None:
    machine = before.again(tmp_path)
    if copy:
        monkeypatch.setattr(execute, "install_checked", no_verifier)
    monkeypatch.setenv("SEPOLICYD_PATH", faults.set(at, how))
    try:
        machine.apply(allow(READ, OPEN))
    except SepolicydError as error:
        assert error.hint or error.what
        # without any recovery the present state is already one or the other
        assert machine.policy() in (before.policy(), after.policy())
    else:
        assert faults.calls < at or machine.policy() == after.policy()
    monkeypatch.delenv("SEPOLICYD_PATH")
    check(machine, before, after)


def _full(at: int, real: Callable[[int, bytes], None], counts: list[int]) -> Callable[[int, bytes], None]:
    def write_all(fd: int, data: bytes) -> None:
        counts[0] += 1
        if counts[0] >= at:  # a full disk stays full
            os.write(fd, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(fd, data)

    return write_all


def _writes(before: World, directory: Path) -> int:
    counts = [0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write_all", _full(10**6, files.write_all, counts))
        before.again(directory).apply(allow(READ, OPEN), confirm_within=3600)
    return counts[0]


def test_the_disk_is_full_at_each_write(before: World, after: World, tmp_path: Path) -> None:
    writes = _writes(before, tmp_path / "count")
    assert writes > 8
    for at in range(1, writes + 1):
        machine = before.again(tmp_path / str(at))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "write_all", _full(at, files.write_all, [0]))
            with pytest.raises(SepolicydError, match="No space left"):
                machine.apply(allow(READ, OPEN), confirm_within=3600)
            assert machine.policy() in (before.policy(), after.policy()), at
        check(machine, before, after, again=at % 4 == 0)


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(directory: Path, *words: str, path: Optional[str] = None) -> subprocess.Popen[bytes]:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(directory), **({"SEPOLICYD_PATH": path} if path else {})}
        argv = [sys.executable, "-m", "tests.rollout.apply.child", str(directory), *words]
        started.append(subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("at", range(4, COPY_CALLS + 1))
def test_killed_at_a_tool_call_while_the_tool_goes_on(
    before: World, after: World, tmp_path: Path, faults: Faults, child: Callable[..., subprocess.Popen[bytes]], at: int
) -> None:
    machine = before.again(tmp_path / "machine")
    killed = child(tmp_path / "machine", "0", "copy", path=faults.set(at, "kill"))
    killed.wait(60)
    check(machine, before, after)


def transactions() -> list[int]:
    """Transactions that this process has started and that run now; others may test on this machine too."""
    found = surviving_semodule.running(lambda words: surviving_semodule.TRANSACTION in words)
    return [pid for pid in found if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid())]


def orphans(place: Path) -> list[int]:
    """Transactions whose private directory is below this one."""
    found = []
    for pid in surviving_semodule.running(lambda words: surviving_semodule.TRANSACTION in words):
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/cwd").startswith(str(place)):
                found.append(pid)
    return found


@pytest.mark.parametrize("when", ["judging", "begun"])
def test_killed_while_the_transaction_waits_for_the_proof(
    before: World, after: World, tmp_path: Path, child: Callable[..., subprocess.Popen[bytes]], when: str
) -> None:
    """Its verifier finds the pipe closed, and libsemanage gives up."""
    machine = before.again(tmp_path / "machine")
    killed = child(tmp_path / "machine", "0", f"killed_{when}")
    assert killed.wait(60) == -signal.SIGKILL
    give_up = time.monotonic() + 30
    while orphans(tmp_path) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not orphans(tmp_path)
    assert machine.policy() == before.policy()
    check(machine, before, after)


@pytest.mark.parametrize("when", ["judging", "begun"])
def test_the_transaction_is_killed_while_it_waits(
    before: World, after: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    machine = before.again(tmp_path)
    name = "proved" if when == "judging" else "files_of"
    real = getattr(execute, name)

    def kill(*given: object, **more: object) -> object:
        for pid in transactions():
            os.kill(pid, signal.SIGKILL)
        return real(*given, **more)

    monkeypatch.setattr(execute, name, kill)
    with pytest.raises(ToolError, match="was killed by signal 9"):
        machine.apply(allow(READ, OPEN))
    assert machine.policy() == before.policy()
    monkeypatch.undo()
    check(machine, before, after)


def test_an_interrupt_while_the_policy_is_judged(
    before: World, after: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = before.again(tmp_path)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(execute, "proved", interrupt)
    with pytest.raises(KeyboardInterrupt):
        machine.apply(allow(READ, OPEN))
    assert not transactions()
    assert machine.policy() == before.policy()
    monkeypatch.undo()
    check(machine, before, after)


def test_killed_at_each_write_of_the_records(
    before: World, after: World, tmp_path: Path, child: Callable[..., subprocess.Popen[bytes]]
) -> None:
    writes = _writes(before, tmp_path / "count")
    ended = []
    for at in range(1, writes + 1):
        machine = before.again(tmp_path / str(at))
        killed = child(tmp_path / str(at), str(at))
        ended.append(killed.wait(60))
        check(machine, before, after, again=at % 4 == 0)
    assert ended == [-signal.SIGKILL] * writes


def test_killed_at_random_moments(
    before: World, after: World, tmp_path: Path, child: Callable[..., subprocess.Popen[bytes]]
) -> None:
    chance = random.Random(20261122)
    whole = time.monotonic()
    before.again(tmp_path / "whole")
    child(tmp_path / "whole").wait(60)
    whole = time.monotonic() - whole
    for number in range(8):
        machine = before.again(tmp_path / str(number))
        running = child(tmp_path / str(number))
        time.sleep(chance.uniform(0.3, 1.0) * whole)
        running.kill()
        running.wait()
        check(machine, before, after, again=number % 4 == 0)


def test_a_policy_that_the_kernel_refused_does_not_stay_for_the_next_boot(
    before: World, after: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libsemanage puts the old store back then, and leaves the new policy.N in /etc/selinux."""
    machine = before.again(tmp_path)

    def refused_by_the_kernel(store, packages, todo, priority, place, judge):  # type: ignore[no-untyped-def]
        def judged() -> None:
            judge()
            machine.store.installed_policy().write_bytes(after.policy())
            raise ToolError("semodule failed: load_policy returned error code 2")

        real(store, packages, todo, priority, place, judged)

    real = execute.install_checked  # type: ignore[attr-defined]

    with monkeypatch.context() as patch:
        patch.setattr(execute, "install_checked", refused_by_the_kernel)
        with pytest.raises(ToolError, match="load_policy returned"):
            machine.apply(allow(READ, OPEN))
    assert machine.store.installed_policy().read_bytes() == before.policy()
    check(machine, before, after)


def test_and_neither_when_we_were_killed_there(before: World, after: World, tmp_path: Path) -> None:
    machine = before.again(tmp_path)
    ApplyJournal(machine.settings.rollout_dir).plan(
        "cut", 0.0, {"kind": "apply", "module": MODULE, "from": 1, "to": 2, "workdir": "", "by": "alice"}
    )
    machine.store.installed_policy().write_bytes(after.policy())
    with pytest.raises(RefusedError, match="is not the policy that the store built"):
        machine.plan(allow(READ, OPEN))
    [settled] = recover(machine.settings)
    assert settled.how == "undone"
    check(machine, before, after)


def test_a_store_left_without_an_active_part_is_put_back(before: World, after: World, tmp_path: Path) -> None:
    """Killed between libsemanage's two renames."""
    machine = before.again(tmp_path)
    ApplyJournal(machine.settings.rollout_dir).plan(
        "cut", 0.0, {"kind": "apply", "module": MODULE, "from": 1, "to": 2, "workdir": "", "by": "alice"}
    )
    machine.store.active.rename(machine.store.directory / "previous")
    [settled] = recover(machine.settings)
    assert settled.how == "undone"
    assert machine.policy() == before.policy()
    check(machine, before, after)
    assert world(tmp_path).ours() == [MODULE]
