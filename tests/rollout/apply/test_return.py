"""Return to an earlier version: the whole change except accesses denied since, which are listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sepolicyd.access import Access
from sepolicyd.errors import RefusedError, StateError
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rollout.apply import trial as trials
from sepolicyd.rollout.apply.desired_policy import desired_policy
from sepolicyd.rollout.apply.end_trial import confirm, end_trial
from sepolicyd.rollout.apply.pipeline import recover
from sepolicyd.rollout.apply.rollback import rollback
from sepolicyd.rollout.apply.versions import META, Versions
from sepolicyd.rollout.history import History
from tests.rollout.apply.world import MODULE, OPEN, PORT, READ, WRITE, World, allow, dontaudit

pytestmark = pytest.mark.toolchain

READ_VAR = Access.of("svc_t", "var_t", "file", "read")
CREATE = Access.of("svc_t", "var_t", "file", "create")
LABEL = Access.of("svc_t", "etc_t", "file", "write")


def port() -> dict[Access, Any]:
    return allow(PORT, number=2, fix="port", detail={"ports": [{"protocol": "tcp", "number": 9000, "type": "svc_port_t"}]})


def boolean() -> dict[Access, Any]:
    return allow(READ_VAR, number=3, fix="boolean", detail={"boolean": "svc_may_read", "value": True})


def label(pattern: str = "/srv/svc(/.*)?") -> dict[Access, Any]:
    contexts = [{"pattern": pattern, "type": "svc_data_t", "kind": ""}]
    return allow(LABEL, number=4, fix="relabel", detail={"paths": [], "contexts": contexts})


def move() -> dict[Access, Any]:
    transition = {"source": "svc_t", "target": "var_t", "class": "file", "type": "svc_data_t"}
    return allow(CREATE, number=5, fix="own-type", detail={"paths": [], "contexts": [], "transitions": [transition]})


def everything() -> dict[Access, Any]:
    return {**allow(READ, OPEN), **dontaudit(WRITE), **port(), **boolean(), **label(), **move()}


def shown(machine: World) -> dict[str, bool]:
    """Which parts of `everything` the store holds."""
    policy = PolicyIndex.load(machine.store.policy())
    contexts = (machine.settings.root / "etc/selinux/default/contexts/files/file_contexts").read_text()
    return {
        "open": policy.allowed(OPEN).allowed,
        "dontaudit": len(policy.tables.rules("dontaudit")) > 1,
        "port": any(one.low == 9000 for one in policy.ports),
        "boolean": policy.booleans["svc_may_read"],
        "label": "/srv/svc" in contexts,
        "move": policy.transition("svc_t", "var_t", "file") == "svc_data_t",
    }


ALL = dict.fromkeys(("open", "dontaudit", "port", "boolean", "label", "move"), True)


def test_what_returns_after_a_trial_is_the_whole_change_but_for_what_nobody_wants(machine: World) -> None:
    """Version 2 drops OPEN, so that the package of version 1 cannot return; all the rest of it must."""
    machine.apply(everything())
    assert shown(machine) == ALL
    machine.apply({**everything(), **dontaudit(OPEN, number=12)}, confirm_within=600)
    end_trial(machine.settings, even_if_not_due=True)
    assert shown(machine) == {**ALL, "open": False}
    assert machine.store.installed_policy().read_bytes() == machine.policy()


@pytest.mark.parametrize("part", ["port", "boolean", "label", "move"])
def test_a_part_that_the_trial_gave_up_does_not_return_either(machine: World, part: str) -> None:
    makers = {"port": port, "boolean": boolean, "label": label, "move": move}
    machine.apply(everything())
    rest = {access: decision for access, decision in everything().items() if access not in makers[part]()}
    machine.apply(rest, confirm_within=600)
    end_trial(machine.settings, even_if_not_due=True)
    assert shown(machine) == {**ALL, part: False}


def test_a_rollback_leaves_out_what_was_denied_since_and_says_so(machine: World) -> None:
    machine.apply(everything())
    now = {access: decision for access, decision in everything().items() if access not in {OPEN, READ_VAR, LABEL}}
    machine.apply(now)
    done = rollback(machine.settings, "svc", by="bob", to=1, still=desired_policy(now))
    assert "left out, because they have been denied or reset since: " in done.text
    for words in (f"allow {OPEN}", "/srv/svc(/.*)? as svc_data_t", "boolean svc_may_read on"):
        assert words in done.text
    assert shown(machine) == {**ALL, "open": False, "boolean": False, "label": False}
    [entry] = [one for one in History(machine.settings.rollout_dir).entries() if one.what == "rollback"]
    assert len(entry.details["left_out"]) == 3
    assert machine.plan(now).empty


def test_with_nothing_denied_since_the_very_version_returns(machine: World) -> None:
    machine.apply(everything())
    first = machine.policy()
    now = {**everything(), **allow(WRITE, number=20)}
    machine.apply(now)
    done = rollback(machine.settings, "svc", by="bob", still=desired_policy(everything()))
    assert "left out" not in done.text
    assert machine.policy() == first
    assert Versions(machine.settings.rollout_dir, MODULE).current() == 1


def test_as_it_was(machine: World) -> None:
    machine.apply(everything())
    first = machine.policy()
    machine.apply(allow(READ))
    rollback(machine.settings, "svc", by="bob", to=1)
    assert machine.policy() == first


def test_a_version_whose_labels_were_not_noted_says_that_they_are_left_out(machine: World) -> None:
    machine.apply(everything())
    path = Versions(machine.settings.rollout_dir, MODULE).directory / "1" / META
    values = json.loads(path.read_text())
    del values["contexts"], values["transitions"]
    path.write_text(json.dumps(values))
    machine.apply(allow(READ))
    done = rollback(machine.settings, "svc", by="bob", to=1, still=desired_policy(allow(READ)))
    assert "file contexts and type transitions" in done.text


def damaged(machine: World) -> Path:
    path = machine.settings.rollout_dir / trials.FILE
    path.write_text('{"profile": ')
    return path


@pytest.mark.parametrize("how", ["the timer", "the next command", "rollback", "confirm"])
def test_a_trial_whose_file_is_damaged_is_over(machine: World, how: str) -> None:
    machine.apply(allow(READ, OPEN))
    machine.apply(allow(READ, WRITE), confirm_within=600)
    path = damaged(machine)
    if how == "the timer":
        assert end_trial(machine.settings) is not None
    elif how == "the next command":
        assert recover(machine.settings)
    elif how == "rollback":
        rollback(machine.settings, "svc", by="bob", still=desired_policy(allow(READ)))
    else:
        with pytest.raises(RefusedError, match="deadline has passed"):
            confirm(machine.settings, by="bob")
    policy = PolicyIndex.load(machine.store.policy())
    assert [policy.allowed(one).allowed for one in (READ, OPEN, WRITE)] == [True, False, False]
    assert not path.exists()
    assert end_trial(machine.settings) is None


def test_rubbish_in_the_place_of_a_trial_that_never_was_is_told(machine: World) -> None:
    machine.apply(allow(READ))
    path = damaged(machine)
    with pytest.raises(StateError, match="cannot be read"):
        recover(machine.settings)
    path.unlink()
    assert recover(machine.settings) == []


def test_a_part_is_a_version_like_any_other(machine: World) -> None:
    machine.apply(allow(READ, OPEN))
    machine.apply(allow(READ))
    machine.apply(allow(READ, WRITE))
    rollback(machine.settings, "svc", by="bob", to=1, still=desired_policy(allow(READ, WRITE)))
    assert machine.apply(allow(READ, WRITE)).changed
    rollback(machine.settings, "svc", by="bob", to=0)
    assert machine.ours() == []
    assert History(machine.settings.rollout_dir).verify() == []
