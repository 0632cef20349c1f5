"""The content of a report on a rollout that real tools have built, applied and rolled back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest

from sepolicyd.access import Access
from sepolicyd.errors import RefusedError
from sepolicyd.module.source import FileContext, TypeTransition
from sepolicyd.report.collect import collect
from sepolicyd.report.grants import grants_of
from sepolicyd.report.model import Grant, GrantState, ObjectKind, Report, object_kind
from sepolicyd.report.page import render
from sepolicyd.report.version_history import parse_access
from sepolicyd.rollout.apply.changes_besides_modules import ChangedBoolean, ChangedPath, ChangedPort
from sepolicyd.rollout.apply.rollback import rollback
from sepolicyd.rollout.apply.versions import EMPTY, Version
from sepolicyd.rollout.clock import Moment
from sepolicyd.rollout.history import Entry, History, HistoryEvent
from sepolicyd.rollout.lease.lease_records import LeaseBook, LeaseEvent
from sepolicyd.rollout.session import Session
from sepolicyd.rules.evidence import Evidence
from sepolicyd.rules.fixes.detail import (
    BooleanSetting,
    ConfigurationLine,
    CreatedLabel,
    FixDetail,
    LabelledPort,
    LabelledPorts,
    NewLabels,
    OwnType,
    PathLabel,
)
from sepolicyd.rules.fixes.fix import FixKind
from sepolicyd.state.decisions import AnswerKind, Decision
from sepolicyd.state.evidence_store import Batch, EvidenceStore
from tests.rollout.apply.world import EXECMEM, OPEN, PORT, READ, WRITE, World, world

pytestmark = pytest.mark.toolchain
NOW = 1.7e9 + 86400


@pytest.fixture
def here(tmp_path: Path) -> World:
    return world(tmp_path)


def session_of(here: World) -> Session:
    from sepolicyd.settings import policy_dirs

    return Session(replace(here.settings, policy_dirs=policy_dirs()), here.profile)


def decide(here: World, answer: AnswerKind, *accesses: Access, by: str = "ada", reason: str = "needed", **more: object) -> None:
    store = session_of(here).decisions()
    try:
        store.add(Decision(answer, accesses, by, 1.7e9, reason, "cafe", **more))  # type: ignore[arg-type]
    finally:
        store.close()


def load(here: World) -> None:
    store = session_of(here).decisions()
    try:
        here.apply(store.decided())
    finally:
        store.close()


def observe(here: World, accesses: Sequence[Access], at: Optional[Sequence[float]] = None) -> None:
    batch = Batch()
    for number, access in enumerate(accesses):
        first = at[number] if at else 1.7e9
        batch.add(access, "main", Evidence(count=2, first=first, last=first, kinds=("AVC",), times=((int(first), 1),)))
    store = EvidenceStore(here.settings.evidence_db, here.profile.name)
    store.save(batch, {})
    store.close()


def report(here: World) -> Report:
    return collect(session_of(here), NOW)


def row(grants: Sequence[Grant], access: Access) -> Grant:
    return next(
        one for one in grants if (one.source, one.target, one.tclass) == access.group and access.permission in one.permissions
    )


def test_each_access_has_its_decision_and_its_version(here: World) -> None:
    decide(here, AnswerKind.ALLOW, READ, OPEN)
    load(here)
    decide(here, AnswerKind.ALLOW, WRITE, by="bob", reason="logs")
    load(here)
    decide(here, AnswerKind.ALLOW, PORT)
    decide(here, AnswerKind.DENY, EXECMEM, reason="no")
    made = report(here)
    assert made.version == 2
    read, write, port = row(made.grants, READ), row(made.grants, WRITE), row(made.grants, PORT)
    assert (read.version, read.state, read.permissions) == (1, GrantState.LOADED, ("open", "read"))
    assert (write.version, write.state) == (2, GrantState.LOADED)
    assert write.decision is not None
    assert (write.decision.by, write.decision.reason) == ("bob", "logs")
    assert port.state is GrantState.WAITING
    assert [one.permissions for one in made.refusals] == [("execmem",)]
    assert [(one.version, set(one.gained)) for one in made.changes] == [(1, {READ, OPEN}), (2, {WRITE})]
    page = render(made)
    assert "since version 2" in page
    assert "not loaded yet" in page


def test_a_rule_without_a_decision_is_shown_as_such(here: World) -> None:
    decide(here, AnswerKind.ALLOW, READ, WRITE)
    load(here)
    decide(here, AnswerKind.RESET, WRITE)
    made = report(here)
    assert row(made.grants, WRITE).state is GrantState.WITHDRAWN
    assert row(made.grants, WRITE).decision is None
    assert row(made.grants, READ).state is GrantState.LOADED


def test_a_rollback_takes_the_rules_out_of_force(here: World) -> None:
    decide(here, AnswerKind.ALLOW, READ)
    load(here)
    decide(here, AnswerKind.ALLOW, WRITE)
    load(here)
    rollback(here.settings, here.profile.name, by="ada", reason="too much")
    made = report(here)
    assert made.version == 1
    assert row(made.grants, WRITE).state is GrantState.WAITING
    assert [one.what for one in made.changes] == ["apply", "apply", "rollback"]
    assert "reason: too much" in made.changes[-1].notes


def test_the_graph_tells_new_types_from_more_permissions(here: World) -> None:
    decide(here, AnswerKind.ALLOW, READ, OPEN, EXECMEM)
    load(here)
    (svc,) = report(here).reach
    edges = {edge.target: edge for edge in svc.edges}
    assert edges["svc_data_t"].text == "file { open read }"
    before = collect(session_of(world(here.settings.root.parent / "other")), NOW).reach[0]
    assert svc.before == before.after
    assert edges["svc_data_t"].widened is any("svc_data_t" in rule for _, rules in before.rules for rule in rules)
    assert svc.after[ObjectKind.FILES] >= svc.before[ObjectKind.FILES]
    assert sorted(svc.rules) == sorted(before.rules)


def test_the_store_that_has_changed_since_is_named(here: World) -> None:
    decide(here, AnswerKind.ALLOW, READ)
    load(here)
    assert report(here).policy_note == ""
    path = here.settings.root / "other.cil"
    path.write_text("(type stranger_t)\n(roletype object_r stranger_t)\n")
    here.store.install([path], 400)
    assert "has changed since" in report(here).policy_note


def test_leases_have_their_length_and_their_exercises(here: World) -> None:
    book = LeaseBook(here.settings.rollout_dir)
    begun = {
        "id": "ab",
        "profile": "svc",
        "domains": ["svc_t"],
        "hidden": True,
        "deadline_wall": 8200.0,
        "by": "me",
        "why": "w",
    }
    book.record(LeaseEvent.PLANNED, Moment(1000.0, 5.0, "boot"), **begun)
    book.record(LeaseEvent.OPENED, Moment(1040.0, 5.0, "boot"), **begun)
    book.record(LeaseEvent.MARKED, Moment(1100.0, 5.0, "boot"), id="ab", profile="svc", name="log in", by="me")
    book.record(LeaseEvent.RENEWED, Moment(1200.0, 5.0, "boot"), **{**begun, "deadline_wall": 9000.0})
    book.record(LeaseEvent.END_FAILED, Moment(9001.0, 5.0, "boot"), id="ab", profile="svc", why="deadline")
    book.record(LeaseEvent.ENDED, Moment(9060.0, 5.0, "boot"), id="ab", profile="svc", why="deadline", closed=True)
    book.record(LeaseEvent.OPENED, Moment(9100.0, 5.0, "boot"), **{**begun, "id": "cd", "profile": "other"})
    (lease,) = report(here).leases
    assert (lease.opened, lease.deadline, lease.ended, lease.seconds(NOW)) == (1000.0, 9000.0, 9060.0, 8060.0)
    assert (lease.renewals, lease.failures, lease.marks) == (1, 1, (("log in", 1100.0),))


def test_a_line_of_another_kind_costs_that_line(here: World) -> None:
    decide(here, AnswerKind.ALLOW, READ)
    load(here)
    book = LeaseBook(here.settings.rollout_dir)
    book.record(LeaseEvent.OPENED, Moment(1.0, 5.0, "b"), id="a", profile="svc", domains=["svc_t"], deadline_wall=9.0)
    book.record(LeaseEvent.OPENED, Moment(2.0, 5.0, "b"), id="b", profile="svc", domains=7, deadline_wall=9.0)
    details = {"gained": ["x", 3, None], "overrides": [1], "opened": [2], "base": 3, "left_out": {"a": 1}, "previous": "x"}
    History(here.settings.rollout_dir).add(Entry(HistoryEvent.APPLY, "eve", 1.0, "sepolicyd_svc", 1, "op2", details))
    made = report(here)
    assert [one.id for one in made.leases] == ["a"]
    assert made.changes[-1].gained == ()
    render(made)


def test_records_of_another_service_are_refused(here: World) -> None:
    observe(here, [READ])
    other = replace(session_of(here), profile=replace(here.profile, name="other"))
    with pytest.raises(RefusedError, match="holds the evidence of 'svc'"):
        collect(other, NOW)


def test_an_altered_history_is_said(here: World) -> None:
    decide(here, AnswerKind.ALLOW, READ)
    load(here)
    path = here.settings.rollout_dir / "history.jsonl"
    path.write_text(path.read_text().replace('"alice"', '"mallory"'))
    (fault,) = report(here).faults
    assert "was changed after it was written" in fault


def test_what_was_seen_and_not_decided_is_pending(here: World) -> None:
    observe(here, [READ, OPEN, WRITE])
    decide(here, AnswerKind.ALLOW, READ)
    made = report(here)
    assert [(one.permissions, one.count) for one in made.pending] == [(("open", "write"), 4)]
    assert made.seen == 3


def test_ten_thousand_accesses_take_less_than_five_seconds(here: World) -> None:
    names = [f"a_type_{number}_t" for number in range(5000)]
    accesses = [Access("svc_t", name, "file", permission) for name in names for permission in ("open", "read")]
    observe(here, accesses)
    store = session_of(here).decisions()
    for access in accesses[:600]:
        store.add(Decision(AnswerKind.ALLOW, (access,), "ada", 1.7e9, "because it is needed", "cafe"))
    store.close()
    began = time.process_time()
    page = render(report(here)).encode()
    assert time.process_time() - began < 5
    assert len(page) < 5_000_000


def test_a_boolean_is_named_as_the_means() -> None:
    decision = Decision(
        AnswerKind.ALLOW, (READ,), "ada", 1.0, fix_kind=FixKind.BOOLEAN, fix_detail=BooleanSetting("svc_can", True), id=1
    )
    (grant,) = grants_of({READ: decision}, EMPTY, {})
    assert (grant.means, grant.state, grant.version) == ("boolean svc_can on", GrantState.WAITING, 0)
    (grant,) = grants_of({READ: decision}, replace(EMPTY, changes=(ChangedBoolean("svc_can", True),)), {})
    assert grant.state is GrantState.LOADED


@pytest.mark.parametrize(
    ("kind", "detail", "version"),
    [
        (
            FixKind.PORT,
            LabelledPorts((LabelledPort("tcp", 80, "a_t"),)),
            replace(EMPTY, changes=(ChangedPort("tcp", 80, "a_t"),)),
        ),
        (
            FixKind.RELABEL,
            NewLabels(("/a",), (PathLabel("/a", "a_t"),)),
            replace(EMPTY, changes=(ChangedPath("/a"),), contexts=(FileContext("/a", "a_t"),)),
        ),
        (
            FixKind.OWN_TYPE,
            OwnType(created=(CreatedLabel("a_t", "b_t", "file", "c_t"),)),
            replace(EMPTY, transitions=(TypeTransition("a_t", "b_t", "file", "c_t"),)),
        ),
    ],
)
def test_a_fix_is_in_force_where_the_version_carries_it_out(kind: FixKind, detail: FixDetail, version: Version) -> None:
    decision = Decision(AnswerKind.ALLOW, (READ,), "ada", 1.0, fix_kind=kind, fix_detail=detail, id=1)
    assert grants_of({READ: decision}, EMPTY, {})[0].state is GrantState.WAITING
    assert grants_of({READ: decision}, version, {})[0].state is GrantState.LOADED


def test_what_a_person_has_to_do_is_not_called_in_force() -> None:
    detail = ConfigurationLine("hub.py", "c.X = 1")
    decision = Decision(AnswerKind.ALLOW, (READ,), "ada", 1.0, fix_kind=FixKind.APPLICATION, fix_detail=detail, id=1)
    (grant,) = grants_of({READ: decision}, EMPTY, {})
    assert (grant.state, grant.means) == (GrantState.BY_HAND, "application, by hand")


@pytest.mark.parametrize(
    "access",
    [READ, EXECMEM, Access("a_t", "b_t", "chr_file", "ioctl", ((0x5401, 0x5401), (0x5410, 0x541F)))],
)
def test_accesses_of_the_history_are_parsed(access: Access) -> None:
    assert parse_access(str(access)) == access


@pytest.mark.parametrize("tclass", ["sock_file", "tcp_socket", "unix_stream_socket", "capability", "dbus", "netif"])
def test_every_class_has_a_kind(tclass: str) -> None:
    kinds = {
        "sock_file": ObjectKind.FILES,
        "tcp_socket": ObjectKind.NETWORK,
        "netif": ObjectKind.NETWORK,
        "dbus": ObjectKind.SYSTEM,
    }
    assert object_kind(tclass) is kinds.get(tclass, ObjectKind.PROCESSES)
