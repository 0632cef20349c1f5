"""From decisions to a verified policy in a real store, and rollback."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from sepolicyd.access import Access
from sepolicyd.errors import RefusedError, StateError, ToolError, ToolMissingError
from sepolicyd.module.build import build, workdir
from sepolicyd.module.source import render_te
from sepolicyd.policy.delta import difference
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rollout.apply import execute
from sepolicyd.rollout.apply import trial as trials
from sepolicyd.rollout.apply.end_trial import confirm, end_trial
from sepolicyd.rollout.apply.journal import ApplyJournal
from sepolicyd.rollout.apply.pipeline import recover
from sepolicyd.rollout.apply.proof import prove
from sepolicyd.rollout.apply.rollback import rollback
from sepolicyd.rollout.apply.versions import Versions
from sepolicyd.rollout.history import History
from sepolicyd.storage.lock import exclusive
from tests.rollout.apply.world import EXECMEM, MODULE, OPEN, PORT, READ, WRITE, ShadowGuard, World, allow, dontaudit

pytestmark = pytest.mark.toolchain


def test_the_policy_gains_exactly_the_decided_accesses(machine: World, tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.write_bytes(machine.policy())
    applied = machine.apply({**allow(READ, OPEN), **allow(EXECMEM, number=2), **dontaudit(WRITE)})
    delta = difference(before, machine.store.policy())
    assert delta.gained == {READ, OPEN, EXECMEM}
    assert delta.dontaudit_gained == {WRITE}
    assert not delta.lost
    assert applied.verified == "identical"
    assert machine.store.installed_policy().read_bytes() == machine.policy()
    assert machine.ours() == [MODULE]


def test_every_gained_access_names_its_decision(machine: World) -> None:
    plan = machine.plan({**allow(READ, number=4), **allow(OPEN, number=5)})
    assert {access: decision.id for access, decision in plan.proof.covered.items()} == {READ: 4, OPEN: 5}
    assert not plan.proof.refusals
    assert "decision 4 by alice" in plan.source.te


def test_planning_changes_nothing(machine: World) -> None:
    before = machine.policy()
    machine.plan(allow(READ))
    assert machine.policy() == before
    assert not machine.settings.state.exists()


def test_pending_accesses_that_are_allowed_now_are_told(machine: World) -> None:
    applied = machine.apply(allow(READ), pending=[READ, WRITE])
    assert applied.now_allowed == (READ,)


def test_the_same_again_changes_nothing(machine: World) -> None:
    machine.apply(allow(READ))
    before = machine.policy()
    again = machine.apply(allow(READ))
    assert not again.changed
    assert again.version == 1
    assert machine.policy() == before


def test_a_decision_taken_back_goes_with_the_next_apply(machine: World) -> None:
    machine.apply(allow(READ, OPEN))
    machine.apply(allow(READ))
    policy = PolicyIndex.load(machine.store.policy())
    assert policy.allowed(READ).allowed
    assert not policy.allowed(OPEN).allowed


def test_an_unknown_name_is_left_out_and_the_rest_goes_on(machine: World) -> None:
    stranger = Access.of("svc_t", "gone_t", "file", "read")
    odd = Access.of("svc_t", "etc_t", "file", "fly")
    plan = machine.plan({**allow(READ), **allow(stranger, odd, number=2)})
    assert plan.delta.gained == {READ}
    assert plan.left_out == {
        stranger: "the policy has no type gone_t",
        odd: "the policy has no permission fly of class file",
    }


def test_what_the_guard_refuses_is_not_loaded(machine: World) -> None:
    shadow = Access.of("svc_t", "shadow_t", "file", "read")
    before = machine.policy()
    with pytest.raises(RefusedError, match="R-002"):
        machine.apply({**allow(READ), **allow(shadow, number=2)})
    assert machine.policy() == before


def test_a_written_override_allows_it_and_stands_in_the_history(machine: World) -> None:
    shadow = Access.of("svc_t", "shadow_t", "file", "read")
    override = {"access": "svc_t shadow_t:file read", "reason": "ticket 7", "by": "root"}
    world = dataclasses.replace(machine, settings=dataclasses.replace(machine.settings, overrides=(override,)))
    world.apply(allow(shadow))
    [entry] = History(world.settings.rollout_dir).entries()
    assert entry.details["overrides"] == [{"access": str(shadow), "reason": "ticket 7", "by": "root"}]


def test_an_access_that_no_decision_covers_is_refused(machine: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that slips in one rule more than the source has is caught by the difference."""
    import sepolicyd.rollout.apply.module_draft as planning

    real = planning.build  # type: ignore[attr-defined]

    def slipping(source, directory, *, mls):  # type: ignore[no-untyped-def]
        more = source.te.replace("file { read }", "file { read write }")
        return real(dataclasses.replace(source, te=more), directory, mls=mls)

    monkeypatch.setattr(planning, "build", slipping)
    plan = machine.plan(allow(READ))
    assert plan.proof.uncovered == (WRITE,)
    with pytest.raises(RefusedError, match="no decision covers it"):
        machine.load(plan)
    assert machine.ours() == []


def test_a_base_module_goes_in_the_same_transaction_and_is_no_decision(machine: World, tmp_path: Path) -> None:
    with workdir() as place:
        base = tmp_path / "svcbase.pp"
        base.write_bytes(build(render_te("svcbase", [WRITE]), place).read_bytes())
    plan = machine.plan(allow(READ), base=[base])
    assert plan.delta.gained == {READ}
    assert plan.base_delta is not None
    assert plan.base_delta.gained == {WRITE}
    machine.load(plan)
    assert machine.ours() == [MODULE, "svcbase"]
    assert machine.plan(allow(READ), base=[base]).empty
    rollback(machine.settings, "svc", by="alice")
    assert machine.ours() == []


def test_a_base_module_that_init_has_renewed_is_left_alone(machine: World, tmp_path: Path) -> None:
    def base(*accesses: Access) -> Path:
        with workdir() as place:
            path = tmp_path / "svcbase.pp"
            path.write_bytes(build(render_te("svcbase", accesses), place).read_bytes())
        return path

    machine.load(machine.plan(allow(READ), base=[base(WRITE)]))
    machine.store.install([base(WRITE, EXECMEM)], machine.settings.priority)
    renewed = machine.policy()
    machine.apply(allow(READ, OPEN))
    assert PolicyIndex.load(machine.store.policy()).allowed(EXECMEM).allowed
    rollback(machine.settings, "svc", by="bob", to=1)
    assert machine.policy() == renewed
    rollback(machine.settings, "svc", by="bob", to=0)
    assert machine.ours() == ["svcbase"]


def test_the_drift_of_a_store_is_not_ours_unless_it_opens(machine: World, tmp_path: Path) -> None:
    """On the machine itself another hand may have changed the store without a load; our load would bring it in."""
    running = PolicyIndex.load(_kept(machine, tmp_path / "running"))
    other = tmp_path / "other.cil"
    other.write_text("(type drift_t)(typepermissive other_t)(allow svc_t drift_t (file (read)))")
    machine.store.install([other], 400)
    stored = PolicyIndex.load(_kept(machine, tmp_path / "stored"))
    plan = machine.plan(allow(READ))
    proof = prove(
        difference(running, plan.linked),
        plan.linked,
        plan.source,
        plan.desired,
        allow(READ),
        ShadowGuard(),
        machine.profile,
        (),
        difference(running, stored),
    )
    assert proof.strange == ("permissive other_t",)
    assert proof.uncovered == (Access.of("svc_t", "drift_t", "file", "read"),)


def _kept(machine: World, path: Path) -> Path:
    path.write_bytes(machine.policy())
    return path


def test_a_module_of_our_name_at_another_priority_is_refused(machine: World, tmp_path: Path) -> None:
    foreign = tmp_path / f"{MODULE}.cil"
    foreign.write_text("(type foreign_t)")
    machine.store.install([foreign], 400)
    with pytest.raises(RefusedError, match="at priority 400 instead of"):
        machine.plan(allow(READ))


def test_a_module_of_our_name_with_foreign_content_is_refused(machine: World, tmp_path: Path) -> None:
    machine.apply(allow(READ))
    foreign = tmp_path / f"{MODULE}.cil"
    foreign.write_text("(type foreign_t)")
    machine.store.install([foreign], machine.settings.priority)
    with pytest.raises(RefusedError, match="was not built by sepolicyd"):
        machine.plan(allow(READ))


def test_our_module_removed_by_hand_comes_back(machine: World) -> None:
    machine.apply(allow(READ))
    machine.store.install([], machine.settings.priority, remove=[MODULE])
    assert machine.apply(allow(READ)).version == 2
    assert machine.ours() == [MODULE]


def test_a_base_policy_replaced_after_planning_is_noticed(machine: World, tmp_path: Path) -> None:
    plan = machine.plan(allow(READ))
    update = tmp_path / "update.cil"
    update.write_text("(type update_t)")
    machine.store.install([update], 100)
    with pytest.raises(RefusedError, match="has changed since this change was planned"):
        machine.load(plan)
    assert machine.ours() == []


def test_rollback_goes_back_one_and_to_none(machine: World) -> None:
    start = machine.policy()
    machine.apply(allow(READ))
    first = machine.policy()
    machine.apply(allow(READ, OPEN))
    rollback(machine.settings, "svc", by="bob")
    assert machine.policy() == first
    rollback(machine.settings, "svc", by="bob")
    assert machine.policy() == start
    assert machine.ours() == []
    with pytest.raises(RefusedError, match="no version of sepolicyd_svc is installed"):
        rollback(machine.settings, "svc", by="bob")
    with pytest.raises(RefusedError, match="already at version 0"):
        rollback(machine.settings, "svc", by="bob", to=0)
    rollback(machine.settings, "svc", by="bob", to=2)
    assert PolicyIndex.load(machine.store.policy()).allowed(OPEN).allowed
    whats = [(entry.what, entry.version) for entry in History(machine.settings.rollout_dir).entries()]
    assert whats == [("apply", 1), ("apply", 2), ("rollback", 1), ("rollback", 0), ("rollback", 2)]


def test_rollback_to_a_version_that_is_not_kept(machine: World) -> None:
    machine.apply(allow(READ))
    with pytest.raises(StateError, match="has no version 7"):
        rollback(machine.settings, "svc", by="bob", to=7)


def test_a_damaged_kept_package_is_not_loaded(machine: World) -> None:
    machine.apply(allow(READ))
    machine.apply(allow(OPEN))
    before = machine.policy()
    package = Versions(machine.settings.rollout_dir, MODULE).directory / "1" / f"{MODULE}.pp"
    package.write_bytes(package.read_bytes()[:-1])
    with pytest.raises(StateError, match="has changed since it was stored"):
        rollback(machine.settings, "svc", by="bob")
    assert machine.policy() == before


def test_port_boolean_and_file_context_are_one_change_and_go_back_together(machine: World) -> None:
    start = machine.policy()
    read_var = Access.of("svc_t", "var_t", "file", "read")
    label = Access.of("svc_t", "etc_t", "file", "write")
    decided = {
        **allow(READ),
        **allow(PORT, number=2, fix="port", detail={"ports": [{"protocol": "tcp", "number": 9000, "type": "svc_port_t"}]}),
        **allow(read_var, number=3, fix="boolean", detail={"boolean": "svc_may_read", "value": True}),
        **allow(
            label,
            number=4,
            fix="relabel",
            detail={"paths": [], "contexts": [{"pattern": "/srv/svc(/.*)?", "type": "svc_data_t", "kind": ""}]},
        ),
    }
    plan = machine.plan(decided)
    assert not plan.proof.refusals
    assert plan.delta.gained == {READ}
    machine.load(plan)
    policy = PolicyIndex.load(machine.store.policy())
    assert policy.booleans["svc_may_read"]
    assert [port.type for port in policy.ports if port.low == 9000] == ["svc_port_t"]
    contexts = machine.settings.root / "etc/selinux/default/contexts/files/file_contexts"
    assert "/srv/svc(/.*)?" in contexts.read_text()
    assert machine.plan(decided).empty
    rollback(machine.settings, "svc", by="bob")
    assert machine.policy() == start
    assert "/srv/svc" not in contexts.read_text()


def test_files_of_an_own_type_by_a_transition(machine: World) -> None:
    create = Access.of("svc_t", "var_t", "file", "create")
    move = {"source": "svc_t", "target": "var_t", "class": "file", "type": "svc_data_t"}
    plan = machine.plan(allow(create, fix="own-type", detail={"paths": [], "contexts": [], "transitions": [move]}))
    assert not plan.proof.refusals
    assert not plan.delta.gained
    machine.load(plan)
    assert PolicyIndex.load(machine.store.policy()).transition("svc_t", "var_t", "file") == "svc_data_t"


def test_a_fix_that_only_a_person_can_do_is_told(machine: World) -> None:
    plan = machine.plan(allow(READ, fix="application", detail={"file": "config.py", "line": "c.x = False"}))
    assert plan.desired.manual == ("cafe: set c.x = False in config.py",)
    assert plan.empty


def test_a_port_that_nobody_wants_any_more_gets_its_label_back(machine: World) -> None:
    detail = {"ports": [{"protocol": "tcp", "number": 8000, "type": "port_t"}]}
    start = machine.policy()
    machine.apply(allow(PORT, fix="port", detail=detail))
    assert machine.policy() != start
    machine.apply(allow())
    assert machine.policy() == start


def test_a_trial_that_is_confirmed_stays(machine: World) -> None:
    machine.apply(allow(READ), confirm_within=600)
    after = machine.policy()
    assert confirm(machine.settings, by="bob").version == 1
    assert end_trial(machine.settings, even_if_not_due=True) is None
    assert machine.policy() == after


def test_a_trial_that_nobody_confirms_returns_with_the_next_command(machine: World, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.apply(allow(READ))
    first = machine.policy()
    machine.apply(allow(READ, OPEN), confirm_within=600)
    assert recover(machine.settings) == []
    later = dataclasses.replace(trials.now(), boottime=trials.now().boottime + 601)
    monkeypatch.setattr(trials, "now", lambda: later)
    [settled] = recover(machine.settings)
    assert "went from version 2 to 1" in settled.text
    assert machine.policy() == first
    assert recover(machine.settings) == []


@pytest.mark.parametrize("change", ["wall", "boottime", "boot_id"])
def test_a_trial_ends_by_either_clock_or_a_reboot(machine: World, change: str) -> None:
    machine.apply(allow(READ), confirm_within=600)
    trial = trials.read_trial(machine.settings)
    assert trial is not None
    now = trials.now()
    assert not trial.is_due(now)
    assert not trial.is_due(dataclasses.replace(now, wall=now.wall - 9e6))
    moved = "another" if change == "boot_id" else getattr(now, change) + 601
    assert trial.is_due(dataclasses.replace(now, **{change: moved}))  # type: ignore[arg-type]


def test_what_returns_after_a_trial_never_allows_more(machine: World) -> None:
    """Version 1 allowed OPEN, version 2 does not: the end of version 2's trial must not bring OPEN back."""
    machine.apply(allow(READ, OPEN))
    machine.apply(allow(READ, WRITE), confirm_within=600)
    end_trial(machine.settings, even_if_not_due=True)
    policy = PolicyIndex.load(machine.store.policy())
    assert policy.allowed(READ).allowed
    assert not policy.allowed(OPEN).allowed
    assert not policy.allowed(WRITE).allowed


def test_no_apply_while_another_is_on_trial(machine: World) -> None:
    machine.apply(allow(READ), confirm_within=600)
    with pytest.raises(RefusedError, match="is on trial"):
        machine.apply(allow(READ, OPEN))


def test_two_at_once(machine: World) -> None:
    plan = machine.plan(allow(READ))
    with exclusive(machine.settings.rollout_dir / "apply.lock", "x"), pytest.raises(RefusedError, match="another sepolicyd"):
        machine.load(plan)


def test_a_locked_store_is_told_with_its_holder(machine: World) -> None:
    import fcntl

    with (machine.store.directory / "semanage.trans.LOCK").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RefusedError, match=rf"is locked by .*\(pid {os.getpid()}\)"):
            machine.store.wait_for_lock(0.2)
    machine.store.wait_for_lock(0.2)


def test_the_journal_holds_each_step(machine: World) -> None:
    machine.apply(allow(READ))
    [operation] = ApplyJournal(machine.settings.rollout_dir).operations()
    assert operation.end == "done"
    assert operation.steps == ("kept", "installed", "verified")
    assert json.loads(json.dumps(operation.details["history"]))["gained"] == [str(READ)]


def _with_another_hand(real, machine: World):  # type: ignore[no-untyped-def]
    """An install before which somebody else adds a rule, past the check at the start."""

    def install(store, packages, *given, **more):  # type: ignore[no-untyped-def]
        other = machine.settings.state / "other.cil"
        other.write_text("(allow svc_t shadow_t (file (read)))")
        store.install([other], 400)
        real(store, packages, *given, **more)

    return install


def test_what_somebody_else_adds_meanwhile_is_never_installed_with_ours(
    machine: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "install_checked", _with_another_hand(execute.install_checked, machine))  # type: ignore[attr-defined]
    with pytest.raises(RefusedError, match=r"svc_t shadow_t:file read would be gained, but no decision covers it"):
        machine.apply(allow(READ))
    assert machine.ours() == []
    assert not ApplyJournal(machine.settings.rollout_dir).operations()


def test_a_plan_from_a_copy_is_compared_with_what_the_store_links(machine: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = machine.plan(allow(READ))
    monkeypatch.setattr(execute, "install_checked", _with_another_hand(execute.install_checked, machine))  # type: ignore[attr-defined]
    with pytest.raises(ToolError, match="allows more than the proved one: svc_t shadow_t:file read"):
        machine.load(made)
    assert machine.ours() == []
    assert not ApplyJournal(machine.settings.rollout_dir).operations()


def no_verifier(*_: object, **__: object) -> None:
    raise ToolMissingError("the semanage bindings of Python are not installed")


def test_without_the_one_transaction_it_is_proved_in_a_copy(machine: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "install_checked", no_verifier)
    steps: list[str] = []
    applied = machine.apply(allow(READ), on_step=steps.append)
    assert applied.verified == "identical"
    assert any("one transaction is not possible: the semanage bindings" in step for step in steps)
    shadow = Access.of("svc_t", "shadow_t", "file", "read")
    before = machine.policy()
    with pytest.raises(RefusedError, match="R-002"):
        machine.apply({**allow(READ), **allow(shadow, number=2)})
    assert machine.policy() == before


def test_without_it_a_policy_that_is_not_the_proved_one_is_taken_back(machine: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "install_checked", no_verifier)
    monkeypatch.setattr(execute, "install", _with_another_hand(execute.install, machine))  # type: ignore[attr-defined]
    before = machine.policy()
    with pytest.raises(ToolError, match="allows more than the proved one: svc_t shadow_t:file read"):
        machine.apply(allow(READ))
    assert machine.ours() == []
    assert not ApplyJournal(machine.settings.rollout_dir).open()
    assert machine.policy() != before


def test_a_libsemanage_that_ignores_its_verifier_is_noticed(machine: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is in the store unproved: it is taken out again, and the copy decides."""

    def unverified(store, packages, todo, priority, place, judge):  # type: ignore[no-untyped-def]
        execute.install(store, packages, priority, place)  # type: ignore[attr-defined]

    monkeypatch.setattr(execute, "install_checked", unverified)
    machine.apply(allow(READ))
    good = machine.policy()
    with pytest.raises(RefusedError, match="R-002"):
        machine.apply({**allow(READ), **allow(Access.of("svc_t", "shadow_t", "file", "read"), number=2)})
    assert machine.policy() == good
    assert machine.apply(allow(READ)).changed is False


def test_a_refused_policy_leaves_no_sandbox_and_no_lock(machine: World) -> None:
    with pytest.raises(RefusedError):
        machine.apply(allow(Access.of("svc_t", "shadow_t", "file", "read")))
    assert not (machine.store.directory / "tmp").exists()
    machine.store.wait_for_lock(0.2)


def test_a_label_of_a_path_alone_is_a_version(machine: World) -> None:
    """No rule, no file context: restorecon of one path is all that the decision asks for."""
    decided = allow(READ, fix="relabel", detail={"paths": ["/srv/svc/x"], "contexts": []})
    assert machine.apply(decided).changed
    assert not machine.apply(decided).changed
