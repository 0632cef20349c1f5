"""The lease commands: open, refuse, renew, stop, enforce, mark, show."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sepolicyd.errors import RefusedError, ToolError
from sepolicyd.profiles import Profile, Role
from sepolicyd.rollout.apply.rollback import rollback
from sepolicyd.rollout.lease import lifecycle as leases
from sepolicyd.rollout.lease import status
from sepolicyd.rollout.lease.end import end_due
from sepolicyd.settings import Settings
from tests.rollout.lease.fakes import Killed, Machine

PROFILE = Profile(
    name="hub",
    description="a hub",
    directory=Path("/nonexistent"),
    units=("hub.service", "hub-*.service"),
    roles=(Role("hub", domains=("hub_t", "initrc_t")), Role("proxy", domains=("proxy_t",))),
)


class Confined:
    """Policy facts in which only these are unconfined."""

    def __init__(self, *unconfined: str) -> None:
        self.unconfined = unconfined

    def is_unconfined(self, type_name: str) -> bool:
        return type_name in self.unconfined


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path, max_lease_seconds=7200, max_lease_seconds_per_day=10000)


def start(machine: Machine, settings: Settings, seconds: float = 600, **options: Any) -> Any:
    options.setdefault("policy", Confined())
    return leases.start(settings, PROFILE, seconds, world=machine.world(), by="ada", **options)


def left_behind(machine: Machine) -> list[object]:
    """All that a lease may have put anywhere."""
    found = [machine.open_types, machine.modules, machine.undo, machine.timers, machine.dontaudit_off, not machine.enforcing]
    return [item for item in found if item]


def test_a_lease_opens_the_profiles_own_domains_and_nothing_else(settings: Settings) -> None:
    machine = Machine()
    lease = start(machine, settings)
    assert lease.domains == ("hub_t", "proxy_t")
    assert machine.open_types == {"hub_t", "proxy_t"}
    assert machine.modules == {"sepolicyd_lease_hub": ("hub_t", "proxy_t")}
    assert lease.unit in machine.timers
    assert lease.services == ("hub.service",)


def test_undo_and_timer_stand_before_anything_opens(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings)
    order = [machine.trace.index(name) for name in ("book.write", "timers.arm", "timers.armed", "store.open")]
    assert order == sorted(order)


def test_the_deadline_ends_it_and_leaves_nothing(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings, 600, hidden=True)
    assert machine.dontaudit_off
    machine.pass_time(590)
    assert end_due(machine.world()) == []
    machine.pass_time(10)
    (ended,) = end_due(machine.world())
    assert ended.closed
    assert ended.done
    assert ended.why == "deadline"
    assert left_behind(machine) == []
    assert end_due(machine.world()) == []


def test_the_kernel_is_closed_before_the_slow_store(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings)
    machine.pass_time(700)
    (ended,) = end_due(machine.world())
    assert ended.seconds_to_closed == 0.0
    assert ended.seconds >= 5.0


def test_the_whole_system_goes_back_to_enforcing(settings: Settings) -> None:
    machine = Machine()
    lease = start(machine, settings, whole_system=True)
    assert not machine.enforcing
    assert lease.domains == ()
    machine.pass_time(600)
    assert all(item.done for item in end_due(machine.world()))
    assert machine.enforcing


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_clock_that_is_set_extends_nothing(settings: Settings, jump: float) -> None:
    machine = Machine()
    start(machine, settings, 600)
    machine.wall += jump
    machine.pass_time(600)
    assert [item.done for item in end_due(machine.world())] == [True]
    assert not machine.open_types


def test_a_reboot_ends_it_before_its_deadline(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings, 7000)
    machine.reboot()
    assert machine.open_types  # the module survives a reboot, the timer does not
    (ended,) = end_due(machine.world())
    assert ended.why == "reboot"
    assert not machine.open_types


def refused(machine: Machine, settings: Settings, seconds: float = 600, **options: Any) -> str:
    """The refusal's text; and nothing was changed."""
    before = (machine.open_types, dict(machine.modules), dict(machine.timers), dict(machine.undo), machine.dontaudit_off)
    with pytest.raises(RefusedError) as caught:
        start(machine, settings, seconds, **options)
    after = (machine.open_types, dict(machine.modules), dict(machine.timers), dict(machine.undo), machine.dontaudit_off)
    assert before == after
    assert caught.value.hint or options.get("no_hint") or machine.store_problem
    return caught.value.what


def test_refusals_that_the_policy_asks_for(settings: Settings) -> None:
    assert "shared or unconfined" in refused(Machine(), settings, policy=Confined("proxy_t"))
    assert "defines no domain" in refused(Machine(known=frozenset({"init_t"})), settings)
    assert "already permissive" in refused(Machine(loaded_permissive=frozenset({"hub_t"})), settings)
    assert "already permissive" in refused(Machine(enforcing=False), settings)
    assert "dontaudit" in refused(Machine(dontaudit_off=True), settings, hidden=True)


def test_without_selinux_nothing_is_opened_and_status_says_why(settings: Settings) -> None:
    machine = Machine(enabled=False, broken=frozenset({"kernel.enforcing", "kernel.permissive_types"}))
    assert "disabled" in refused(machine, settings)
    assert status.status(settings, PROFILE, world=machine.world()).problems == ("SELinux is disabled on this machine",)


def test_refusals_because_it_could_not_be_ended(settings: Settings) -> None:
    assert "no systemd" in refused(Machine(timer_problem="no systemd"), settings)
    assert "locked" in refused(Machine(store_problem="the store is locked"), settings)
    broken = Machine(undo={"other": "{"})
    broken.broken = frozenset({"store.lease_modules"})
    assert "not a valid lease record" in refused(broken, settings)


def test_caps(settings: Settings) -> None:
    assert "limit for a single lease" in refused(Machine(), settings, 7201)
    assert "too short" in refused(Machine(), settings, 5)
    machine = Machine()
    start(machine, settings, 7000)
    machine.pass_time(7000)
    end_due(machine.world())
    assert "last 24 hours" in refused(machine, settings, 4000)
    machine.pass_time(86400)
    start(machine, settings, 4000)


def test_not_on_another_root(settings: Settings, tmp_path: Path) -> None:
    assert "--root" in refused(Machine(), Settings(state=tmp_path, root=tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("how", ["another's", "anybody's"])
def test_what_another_could_put_in_the_place_of_our_records_is_not_believed(tmp_path: Path, how: str) -> None:
    """Undo files name commands and units, and kept versions are loaded."""
    place = tmp_path / "place"
    place.mkdir()
    settings = Settings(state=place / "state")
    if how == "another's":
        os.chown(place, 65534, 65534)
    else:
        place.chmod(0o777)
    assert "users other than root could change" in refused(Machine(), settings)
    with pytest.raises(RefusedError, match="users other than root could change"):
        rollback(settings, "hub", by="ada")
    os.chown(place, 0, 0)
    place.chmod(0o1777)
    start(Machine(), settings)


def test_a_second_start_is_refused(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings)
    assert "already open" in refused(machine, settings)


def test_renew_arms_the_new_timer_before_the_old_one_goes(settings: Settings) -> None:
    machine = Machine()
    old = start(machine, settings, 600)
    machine.pass_time(300)
    new = leases.renew(settings, PROFILE, 600, world=machine.world())
    assert list(machine.timers) == [new.unit]
    assert machine.trace.index("timers.disarm") > max(i for i, name in enumerate(machine.trace) if name == "timers.arm")
    machine.boottime = old.deadline_boottime
    assert end_due(machine.world()) == []
    machine.pass_time(600)
    assert [item.done for item in end_due(machine.world())] == [True]


def test_stop_and_enforce(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings)
    assert leases.stop(settings, PROFILE, by="ada", world=machine.world()).done
    with pytest.raises(RefusedError):
        leases.stop(settings, PROFILE, world=machine.world())
    start(machine, settings, whole_system=True)
    result = leases.enforce(settings, PROFILE, pending=lambda: ["hub_t etc_t:file read"], world=machine.world())
    assert result.ended is not None
    assert result.enforcing
    assert result.pending == ["hub_t etc_t:file read"]
    assert leases.enforce(settings, PROFILE, world=machine.world()).ended is None


def test_a_failed_opening_is_undone(settings: Settings) -> None:
    machine = Machine()
    machine.broken = frozenset({"store.open"})
    with pytest.raises(ToolError):
        start(machine, settings)
    assert left_behind(machine) == []


def test_mark_flushes_the_cache_and_is_remembered(settings: Settings) -> None:
    machine = Machine()
    with pytest.raises(RefusedError):
        leases.mark(settings, PROFILE, "log in", world=machine.world())
    start(machine, settings)
    loads = machine.loads
    leases.mark(settings, PROFILE, "log in", world=machine.world())
    assert machine.loads == loads + 1
    with pytest.raises(RefusedError):
        leases.mark(settings, PROFILE, "log\x1b[2Jin", world=machine.world())
    assert [mark.name for mark in status.status(settings, PROFILE, world=machine.world()).marks] == ["log in"]


def test_status_tells_what_is_wrong(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings, 600)
    machine.loaded_permissive |= {"other_t"}
    shown = status.status(settings, PROFILE, world=machine.world())
    assert (shown.remaining, shown.armed, shown.enforcing, shown.foreign_types) == (595.0, True, True, ("other_t",))
    assert shown.problems == ()
    machine.timers.clear()
    machine.loaded_permissive = frozenset()
    problems = status.status(settings, PROFILE, world=machine.world()).problems
    assert any("not armed" in text for text in problems)
    assert any("its module was removed" in text for text in problems)
    machine.pass_time(700)
    assert any("overdue" in text for text in status.status(settings, PROFILE, world=machine.world()).problems)


def test_a_module_without_undo_file_and_a_broken_undo_are_ended(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings)
    machine.undo.clear()
    assert [item.why for item in end_due(machine.world())] == ["no lease record"]
    assert not machine.open_types
    start(machine, settings, hidden=True)
    machine.undo["hub"] = "{ torn"
    machine.timers.clear()
    assert [item.why for item in end_due(machine.world())][:1] == ["damaged record"]
    assert left_behind(machine) == []


def test_a_whole_system_lease_whose_undo_file_was_removed_is_known_from_the_history(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings, whole_system=True, hidden=True)
    machine.undo.clear()
    assert [item.why for item in end_due(machine.world())] == ["no lease record"]
    assert (machine.enforcing, machine.dontaudit_off) == (True, False)
    # once: what another hand switches later is not ours to switch back
    machine.enforcing = False
    assert end_due(machine.world()) == []
    assert not machine.enforcing


def test_what_cannot_be_ended_shouts_and_stops_the_service(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings)
    machine.broken = frozenset({"store.remove", "kernel.close_types"})
    machine.pass_time(600)
    (ended,) = end_due(machine.world())
    assert (ended.closed, ended.done) == (False, False)
    assert machine.stopped == ["hub.service"]
    assert "STILL PERMISSIVE" in machine.shouts[-1]
    assert machine.undo
    machine.broken = frozenset()
    assert [item.done for item in end_due(machine.world())] == [True]


def test_a_store_that_fails_leaves_the_kernel_closed(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings)
    machine.broken = frozenset({"store.remove"})
    machine.pass_time(600)
    (ended,) = end_due(machine.world())
    assert (ended.closed, ended.done) == (True, False)
    assert not machine.open_types
    assert machine.stopped == []
    assert machine.undo


def test_a_command_that_hangs_with_the_lock_keeps_nothing_open(settings: Settings) -> None:
    machine = Machine()
    start(machine, settings)
    machine.pass_time(600)
    machine.lock_held = True
    (ended,) = end_due(machine.world())
    assert (ended.closed, ended.done) == (True, False)
    assert not machine.open_types
    assert machine.undo
    assert "retried" in machine.shouts[-1]
    machine.lock_held = False
    assert [item.done for item in end_due(machine.world())] == [True]


def test_the_next_command_ends_an_interrupted_opening_and_begins_anew(settings: Settings) -> None:
    rehearsal = Machine()
    start(rehearsal, settings)
    machine = Machine(kill_at=rehearsal.trace.index("book.record") + 1)
    with pytest.raises(Killed):
        start(machine, settings)
    machine.kill_at = None
    assert '"planned"' in machine.undo["hub"]
    start(machine, settings)
    ended = [entry["why"] for entry in map(json.loads, machine.history) if entry["what"] == "ended"]
    assert ended == ["its opening was interrupted"]
    assert '"open"' in machine.undo["hub"]
