"""The timer of a trial: armed before the load, and able to roll back without the daemon."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sepolicyd.errors import RefusedError, ToolError
from sepolicyd.problems import Severity
from sepolicyd.rollout.apply import trial as trials
from sepolicyd.rollout.apply.end_trial import confirm
from sepolicyd.rollout.apply.end_trial import main as endtrial
from sepolicyd.rollout.apply.journal import ApplyJournal
from sepolicyd.rollout.apply.pipeline import recover
from sepolicyd.rollout.apply.rollback import rollback
from sepolicyd.rollout.apply.versions import sha256
from sepolicyd.rollout.doctor import gather
from sepolicyd.rollout.doctor.ask import Asker
from sepolicyd.rollout.doctor.checks import judge
from sepolicyd.rollout.doctor.facts import MachineFacts
from sepolicyd.settings import Settings
from tests.paths import ROOT
from tests.rollout.apply.world import MODULE, OPEN, READ, World, allow

pytestmark = pytest.mark.toolchain


@pytest.fixture
def systemd(machine: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tools that write down their calls, and systemd's the store's policy too; semodule is the real one."""
    tools, calls = tmp_path / "tools", tmp_path / "calls"
    tools.mkdir()
    for name in ("systemd-run", "systemctl", "semodule"):
        real = 'exec /usr/sbin/semodule "$@"\n' if name == "semodule" else f"test ! -e {tmp_path}/broken\n"
        (tools / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >> {calls}\nsha256sum {machine.store.policy()} >> {calls}\n{real}'
        )
        (tools / name).chmod(0o755)
    monkeypatch.setenv("SEPOLICYD_PATH", f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin")
    monkeypatch.setattr(Settings, "live", True)  # the settings say that this is the machine; the store stays the test's
    return calls


def test_it_is_armed_before_the_module_is_loaded(machine: World, systemd: Path) -> None:
    before = sha256(machine.policy())
    machine.apply(allow(READ), confirm_within=600)
    assert sha256(machine.policy()) != before
    calls = systemd.read_text().splitlines()
    [arming] = [number for number, call in enumerate(calls) if call.startswith("systemd-run ")]
    assert calls[arming + 1].startswith(before)
    assert "--on-active=600s" in calls[arming]
    assert "-m sepolicyd.rollout.apply.end_trial" in calls[arming]
    confirm(machine.settings, by="bob")
    assert systemd.read_text().splitlines()[-2].startswith("systemctl stop sepolicyd-trial-")


def test_what_cannot_be_armed_is_not_loaded(machine: World, systemd: Path, tmp_path: Path) -> None:
    before = machine.policy()
    (tmp_path / "broken").touch()
    with pytest.raises(ToolError, match="systemd-run failed"):
        machine.apply(allow(READ), confirm_within=600)
    assert machine.policy() == before
    assert trials.read_trial(machine.settings) is None
    assert not ApplyJournal(machine.settings.rollout_dir).open()
    (tmp_path / "broken").unlink()
    machine.apply(allow(READ), confirm_within=600)
    assert machine.ours() == [MODULE]


def test_the_one_shot_alone_does_the_return(machine: World, tmp_path: Path) -> None:
    """As systemd starts it: a process of its own, and none of us alive."""
    machine.apply(allow(READ))
    first = machine.policy()
    machine.apply(allow(READ, OPEN), confirm_within=600)
    argv = [sys.executable, "-m", "sepolicyd.rollout.apply.end_trial", "--state", str(machine.settings.state)]
    argv += ["--root", str(machine.settings.root), "--config", str(tmp_path / "none")]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "INVOCATION_ID": "x"}
    early = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    assert early.stderr == ""
    trial = trials.read_trial(machine.settings)
    assert trial is not None
    trials.write_trial(machine.settings, dataclasses.replace(trial, boot_id="an earlier boot"))
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == f"<5>sepolicyd: {MODULE} went from version 2 to 1: 0 rules added, 1 removed\n"
    assert machine.policy() == first
    with pytest.raises(RefusedError, match="no version is on trial"):
        confirm(machine.settings, by="bob")


def test_a_broken_configuration_does_not_keep_it_loaded(machine: World, tmp_path: Path) -> None:
    machine.apply(allow(READ), confirm_within=600)
    trial = trials.read_trial(machine.settings)
    assert trial is not None
    trials.write_trial(machine.settings, dataclasses.replace(trial, boot_id="an earlier boot"))
    config = tmp_path / "config.yaml"
    config.write_text("priority: {")
    argv = ["--state", str(machine.settings.state), "--root", str(machine.settings.root), "--config", str(config)]
    assert endtrial(argv) == 0
    assert machine.ours() == []


def test_what_could_not_be_returned_stays_on_trial(
    machine: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.apply(allow(READ), confirm_within=600)
    trial = trials.read_trial(machine.settings)
    assert trial is not None
    trials.write_trial(machine.settings, dataclasses.replace(trial, boot_id="an earlier boot"))
    monkeypatch.setenv("SEPOLICYD_PATH", "/nonexistent")
    argv = ["--state", str(machine.settings.state), "--root", str(machine.settings.root)]
    assert endtrial(argv) == 3
    assert "could not be rolled back: semodule is not installed" in capsys.readouterr().err
    monkeypatch.delenv("SEPOLICYD_PATH")
    assert recover(machine.settings)
    assert machine.ours() == []


def test_a_foreign_module_in_its_place_is_told_once_and_shown_until_it_is_mended(
    machine: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.apply(allow(READ), confirm_within=600)
    trial = trials.read_trial(machine.settings)
    assert trial is not None
    trials.write_trial(machine.settings, dataclasses.replace(trial, boot_id="an earlier boot"))
    foreign = tmp_path / f"{MODULE}.cil"
    foreign.write_text("(type foreign_t)")
    machine.store.install([foreign], machine.settings.priority)
    config, alerts = tmp_path / "config.yaml", tmp_path / "alerts"
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\necho "$1" >> {alerts}\n')
    hook.chmod(0o755)
    config.write_text(f"alert_command: [{hook}]\n")
    argv = ["--state", str(machine.settings.state), "--root", str(machine.settings.root), "--config", str(config)]
    assert [endtrial(argv) for _ in range(3)] == [4, 4, 4]
    assert capsys.readouterr().err.count("was not built by sepolicyd") == 3
    assert len(alerts.read_text().splitlines()) == 1
    told = trials.problem(machine.settings)
    assert "was not built by sepolicyd" in told
    facts = gather._leases(machine.settings, Asker())
    assert facts["trial_problem"] == told
    (finding,) = (one for one in judge(MachineFacts(trial_problem=told), machine.profile) if one.code == "D-TRIAL")
    assert finding.level is Severity.STOP
    machine.store.install([], machine.settings.priority, remove=[MODULE])
    assert endtrial(argv) == 0
    assert trials.problem(machine.settings) == ""
    assert not (machine.settings.rollout_dir / trials.PROBLEM).exists()
    assert len(alerts.read_text().splitlines()) == 2, "what became of it in the end is told"


def test_a_module_on_trial_whose_records_are_gone_goes(machine: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = machine.policy()
    machine.apply(allow(READ), confirm_within=600)
    trial = trials.read_trial(machine.settings)
    assert trial is not None
    argv = trials.argv_arm(trial, machine.settings, 600)
    words = [*argv[argv.index("--state") :], "--root", str(machine.settings.root), "--later"]
    assert endtrial(words) == 0
    assert machine.ours() == [MODULE], "its time is not over"
    confirm(machine.settings, by="bob")
    assert endtrial(words) == 0
    assert machine.ours() == [MODULE], "confirmed, and the timer outlived that by a moment"
    shutil.rmtree(machine.settings.state)
    assert endtrial(words) == 0
    assert machine.policy() == before
    assert "its records are gone" in capsys.readouterr().err


def test_a_fault_of_our_own_is_told_and_tried_again(
    machine: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sepolicyd.rollout.apply.end_trial.end_trial", lambda settings: {"no": "fault"}["a fault"])
    assert endtrial(["--state", str(machine.settings.state), "--root", str(machine.settings.root)]) == 3
    assert "KeyError: 'a fault'" in capsys.readouterr().err


def test_a_rollback_by_hand_ends_the_trial(machine: World) -> None:
    machine.apply(allow(READ), confirm_within=600)
    rollback(machine.settings, "svc", by="bob")
    assert trials.read_trial(machine.settings) is None
