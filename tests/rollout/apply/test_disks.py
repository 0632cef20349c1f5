"""Rollback and confirm with failing or interrupted writes, and apply on full disks: always the old or the new version."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sepolicyd.errors import RefusedError, SepolicydError
from sepolicyd.rollout.apply.desired_policy import desired_policy
from sepolicyd.rollout.apply.end_trial import confirm, end_trial
from sepolicyd.rollout.apply.journal import ApplyJournal
from sepolicyd.rollout.apply.pipeline import recover
from sepolicyd.rollout.apply.rollback import rollback
from sepolicyd.rollout.apply.trial import read_trial
from sepolicyd.rollout.apply.versions import Versions
from sepolicyd.rollout.history import History
from sepolicyd.storage import files
from tests.paths import ROOT
from tests.rollout.apply.test_faults import _full
from tests.rollout.apply.world import MODULE, OPEN, READ, WRITE, World, allow, world

pytestmark = pytest.mark.toolchain
NEVER = 10**6


def can_mount() -> bool:
    words = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"]
    return os.geteuid() == 0 and shutil.which("unshare") is not None and subprocess.run(words, check=False).returncode == 0


@pytest.fixture(scope="module")
def second(pristine: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Version 2 is on trial; version 1 held what is denied by now."""
    machine = pristine.again(tmp_path_factory.mktemp("second"))
    machine.apply(allow(READ, OPEN))
    machine.apply(allow(READ, WRITE), confirm_within=3600)
    return machine


def back(machine: World) -> None:
    rollback(machine.settings, "svc", by="bob", to=1, still=desired_policy(allow(READ)))


def kept(machine: World) -> None:
    confirm(machine.settings, by="bob")


def returned(machine: World) -> None:
    end_trial(machine.settings, even_if_not_due=True)


ACTS = [back, kept, returned]


def writes_of(second: World, act: Callable[[World], None], directory: Path) -> int:
    counts = [0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write_all", _full(NEVER, files.write_all, counts))
        act(second.again(directory))
    return counts[0]


def whole(machine: World, before: bytes, note: object) -> None:
    """Nothing is open, the records agree with the store, and it is the version before or the one that was asked for."""
    recover(machine.settings)
    assert not ApplyJournal(machine.settings.rollout_dir).open(), note
    assert History(machine.settings.rollout_dir).verify() == [], note
    assert machine.store.installed_policy().read_bytes() == machine.policy(), note
    versions = Versions(machine.settings.rollout_dir, MODULE)
    held = {rule.access for rule in versions.load(versions.current()).rules}
    assert held == ({READ, WRITE} if machine.policy() == before else {READ}), note
    trial = read_trial(machine.settings)
    if trial is not None and machine.policy() != before:
        # what is on trial is not there any more: its end finds that, and says so
        end_trial(machine.settings, even_if_not_due=True)
        assert read_trial(machine.settings) is None, note
        assert {rule.access for rule in versions.load(versions.current()).rules} == {READ}, note


@pytest.mark.parametrize("act", ACTS)
def test_the_disk_is_full_at_each_write(second: World, tmp_path: Path, act: Callable[[World], None]) -> None:
    writes = writes_of(second, act, tmp_path / "count")
    assert writes >= 3
    for at in range(1, writes + 1):
        machine = second.again(tmp_path / str(at))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "write_all", _full(at, files.write_all, [0]))
            with pytest.raises(SepolicydError, match="No space left"):
                act(machine)
        whole(machine, second.policy(), at)
        try:
            act(machine)
        except RefusedError as error:  # done by the recovery
            assert "already" in error.what or "no version is on trial" in error.what, at
        whole(machine, second.policy(), at)


@pytest.mark.parametrize("act", ACTS)
def test_killed_at_each_write(second: World, tmp_path: Path, act: Callable[[World], None]) -> None:
    writes = writes_of(second, act, tmp_path / "count")
    ended = []
    for at in range(1, writes + 1):
        machine = second.again(tmp_path / str(at))
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        argv = [sys.executable, "-m", "tests.rollout.apply.child", str(tmp_path / str(at)), str(at), act.__name__]
        ended.append(subprocess.run(argv, cwd=ROOT, env=env, check=False, stdout=subprocess.DEVNULL).returncode)
        whole(machine, second.policy(), at)
    assert ended == [-signal.SIGKILL] * writes


ROOM = [0, 16, 48, 1000]  # KiB that are left


@pytest.mark.skipif(not can_mount(), reason="needs root and mount namespaces")
@pytest.mark.parametrize("where", ["state", "root/var/lib/selinux", "root/etc/selinux", "tmp"])
def test_a_real_disk_without_room(second: World, tmp_path: Path, where: str) -> None:
    outcomes = set()
    for room in ROOM:
        place = tmp_path / str(room)
        machine = second.again(place)
        confirm(machine.settings, by="bob")
        (place / "tmp").mkdir()
        disk, beside = shlex.quote(str(place / where)), shlex.quote(str(place / "beside"))
        argv = shlex.join([sys.executable, "-m", "tests.rollout.apply.child", str(place), "0", "more"])
        script = (
            f"cp -a {disk} {beside} && mount -t tmpfs -o size=4m none {disk} && cp -a {beside}/. {disk}"
            f" && {{ head -c {room}k /dev/zero > {disk}/room; cat /dev/zero > {disk}/fill 2>/dev/null; rm {disk}/room;"
            f" TMPDIR={shlex.quote(str(place / 'tmp'))} {argv}; code=$?; rm {disk}/fill; rm -rf {beside};"
            f" cp -a {disk} {beside}; exit $code; }}"
        )
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script], cwd=ROOT, env=env, check=False, capture_output=True, text=True
        )
        outcomes.add(done.returncode)
        assert done.returncode in {0, 7}, done.stderr
        shutil.rmtree(place / where)
        (place / "beside").rename(place / where)
        recover(machine.settings)
        versions = Versions(machine.settings.rollout_dir, MODULE)
        held = {rule.access for rule in versions.load(versions.current()).rules}
        assert held == ({READ, WRITE} if machine.policy() == second.policy() else {READ, OPEN, WRITE}), (room, done.stderr)
        assert held == {READ, WRITE} or done.returncode == 0 or where == "state", (room, done.stderr)
        assert machine.store.installed_policy().read_bytes() == machine.policy(), room
        assert not ApplyJournal(machine.settings.rollout_dir).open(), room
        assert History(machine.settings.rollout_dir).verify() == [], room
        world(place).apply(allow(READ, OPEN, WRITE))
    assert outcomes == {0, 7}, "some had room and some had not"


def test_two_at_once(second: World, tmp_path: Path) -> None:
    """Both plan; whoever comes second is told that somebody changes the policy, or that it has changed since."""
    machine = second.again(tmp_path)
    confirm(machine.settings, by="bob")
    argv = [sys.executable, "-m", "tests.rollout.apply.child", str(tmp_path), "0", "more"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(argv, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=120)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes[0] == 0
    assert set(codes) <= {0, 7}, said
    versions = Versions(machine.settings.rollout_dir, MODULE)
    assert {rule.access for rule in versions.load(versions.current()).rules} == {READ, OPEN, WRITE}
    applied = [entry.version for entry in History(machine.settings.rollout_dir).entries() if entry.what == "apply"]
    assert applied == [1, 2, versions.current()], "one of them alone has changed anything"
    assert History(machine.settings.rollout_dir).verify() == []
    assert not ApplyJournal(machine.settings.rollout_dir).open()
    for process, text in zip(both, said):
        assert process.returncode == 0 or "changing the policy" in text or "has changed since" in text or "locked by" in text
