"""One screen: state, lease, readiness and taints put together from what lies in the state directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sepolicyd.access import Access
from sepolicyd.profiles import Exercise
from sepolicyd.rollout import lease as leases
from sepolicyd.rollout.endlease import end_due
from sepolicyd.rollout.history import Entry, History
from sepolicyd.rollout.overview import Overview, overview
from sepolicyd.rollout.state import Rollout
from sepolicyd.rules.evidence import Evidence
from sepolicyd.settings import Settings
from tests.rollout.fakes import Machine
from tests.rollout.test_lease import PROFILE, Confined
from tests.rollout.test_taint_and_state import Said

PROFILE_WITH_EXERCISES = replace(PROFILE, exercises=(Exercise("log in"), Exercise("open a terminal")))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path)


def look(machine: Machine, settings: Settings, *remarks: Said, pending: int = 0) -> Overview:
    access = Access("hub_t", "etc_t", "file", "read")
    seen = Evidence(count=1, first=machine.wall - 10, last=machine.wall - 5, exercises=("log in",))
    return overview(
        settings, PROFILE_WITH_EXERCISES, {access: seen}, remarks, pending=pending, unapplied=0, world=machine.world()
    )


def test_a_rollout_from_new_to_enforced(settings: Settings) -> None:
    assert look(Machine(known=frozenset()), settings).standing.state is Rollout.NEW
    machine = Machine()
    assert look(machine, settings).standing.state is Rollout.CONFINED
    leases.start(settings, PROFILE, 600, hidden=True, world=machine.world(), policy=Confined())
    machine.pass_time(60)
    leases.mark(settings, PROFILE, "log in", world=machine.world())
    machine.pass_time(60)
    shown = look(machine, settings, pending=1)
    assert shown.standing.state is Rollout.LEARNING
    assert shown.lease.remaining > 0
    assert shown.readiness.undone == ("open a terminal",)
    assert shown.taints == ()
    machine.pass_time(600)
    end_due(machine.world())
    assert look(machine, settings, pending=1).standing.state is Rollout.REVIEWING
    History(settings.rollout_dir).add(Entry("apply", "ada", machine.wall, version=1))
    (settings.rollout_dir / "versions/sepolicyd_hub").mkdir(parents=True)
    (settings.rollout_dir / "versions/sepolicyd_hub/current").write_text("1\n")
    enforced = look(machine, settings)
    assert (enforced.standing.state, enforced.version) == (Rollout.ENFORCED, 1)
    assert enforced.last is not None
    assert enforced.problems == ()


def test_another_hand_in_a_lease_is_on_the_evidence_and_speaks_against_readiness(settings: Settings) -> None:
    machine = Machine()
    leases.start(settings, PROFILE, 3600, world=machine.world(), policy=Confined())
    machine.pass_time(1000)
    shown = look(machine, settings, Said(machine.wall - 7, "setenforce"))
    assert [found.code for found in shown.taints] == ["T-SWITCH"]
    (seen,) = shown.evidence.values()
    assert seen.taints == ("T-SWITCH another hand switched enforcing during a lease",)
    assert any("T-SWITCH" in text for text in shown.readiness.but)
    assert any("--hidden" in text for text in shown.readiness.but)


def test_permissive_without_a_lease_is_never_called_enforced(settings: Settings) -> None:
    (settings.rollout_dir / "versions/sepolicyd_hub").mkdir(parents=True)
    (settings.rollout_dir / "versions/sepolicyd_hub/current").write_text("1\n")
    machine = Machine(enforcing=False)
    assert look(machine, settings).standing.state is Rollout.CONFINED
