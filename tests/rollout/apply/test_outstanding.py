"""`status` and `apply` agree on outstanding changes for every kind of decision."""

from __future__ import annotations

from typing import Any

import pytest

from sepolicyd.access import Access
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rollout.apply.module_draft import drafted
from sepolicyd.rollout.apply.outstanding import outstanding_by_records
from sepolicyd.rollout.apply.versions import Versions
from sepolicyd.rollout.stage import Rollout, StageFacts, stage_report
from tests.rollout.apply.world import MODULE, OPEN, PORT, READ, World, allow, dontaudit

pytestmark = pytest.mark.toolchain
READ_VAR = Access.of("svc_t", "var_t", "file", "read")
CREATE = Access.of("svc_t", "var_t", "file", "create")
MOVE = {"source": "svc_t", "target": "var_t", "class": "file", "type": "svc_data_t"}
CONTEXT = {"pattern": "/srv/svc(/.*)?", "type": "svc_data_t", "kind": ""}
DECISIONS: dict[str, Any] = {
    "rule": allow(READ),
    "interface": allow(READ, OPEN, fix="interface", detail={"call": "svc_read(svc_t)"}),
    "dontaudit": dontaudit(READ),
    "dontaudit fix": allow(READ, fix="dontaudit"),
    "boolean": allow(READ_VAR, fix="boolean", detail={"boolean": "svc_may_read", "value": True}),
    "port": allow(PORT, fix="port", detail={"ports": [{"protocol": "tcp", "number": 9000, "type": "svc_port_t"}]}),
    "relabel by context": allow(READ_VAR, fix="relabel", detail={"paths": [], "contexts": [CONTEXT]}),
    "relabel by path": allow(READ_VAR, fix="relabel", detail={"paths": ["/srv/svc/x"], "contexts": []}),
    "own type": allow(CREATE, fix="own-type", detail={"paths": [], "contexts": [], "transitions": [MOVE]}),
}


def by_status(machine: World, decided: Any) -> int:
    versions = Versions(machine.settings.rollout_dir, MODULE)
    return outstanding_by_records(versions, decided, PolicyIndex.load(machine.store.policy())).count


def by_apply(machine: World, decided: Any) -> int:
    with drafted(machine.settings, machine.profile, decided) as draft:
        return draft.outstanding.count


@pytest.mark.parametrize("kind", DECISIONS)
def test_status_counts_what_apply_does(machine: World, kind: str) -> None:
    decided = DECISIONS[kind]
    assert by_status(machine, decided) == by_apply(machine, decided) > 0
    assert machine.apply(decided).changed
    assert by_status(machine, decided) == by_apply(machine, decided) == 0
    # and what is taken back is work again
    assert by_status(machine, {}) == by_apply(machine, {})
    assert (by_status(machine, {}) > 0) is (kind != "relabel by path")


def test_what_only_a_person_can_do_is_no_work_for_apply(machine: World) -> None:
    decided = allow(READ, fix="application", detail={"file": "config.py", "line": "c.x = False"})
    assert by_status(machine, decided) == by_apply(machine, decided) == 0


def test_what_the_policy_has_no_name_for_is_no_work_for_apply(machine: World) -> None:
    decided = allow(Access.of("svc_t", "gone_t", "file", "read"))
    assert by_status(machine, decided) == by_apply(machine, decided) == 0


def test_unapplied_changes_are_never_called_enforced() -> None:
    assert stage_report(StageFacts(domains_loaded=True, unapplied=1, version=3)).state is Rollout.REVIEWING
