"""/run/sepolicyd/lease.json exists while a lease is open, is removed after every kind of end, and is never required."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from sepolicyd.errors import RefusedError, StateError
from sepolicyd.kernel.journal import MessageId
from sepolicyd.rollout.lease import lifecycle as leases
from sepolicyd.rollout.lease.end import end_all
from sepolicyd.rollout.lease.lease import carried_lease, carry_lease, parse_lease, render_lease
from sepolicyd.rollout.lease.lease_records import LeaseBook
from sepolicyd.rollout.lease.public_record import disagreement, public_document
from tests.paths import POLICIES
from tests.rollout.lease.fakes import Machine
from tests.rollout.lease.test_lease import PROFILE, Confined
from tests.rollout.lease.test_machine import LEASE
from tests.rollout.lease.test_promise import BY_HAND, tick


def opened(why: str = "ticket 4711") -> Machine:
    machine = Machine()
    leases.start(BY_HAND, PROFILE, 600, by="ada", why=why, world=machine.world(), policy=Confined())
    return machine


def test_it_exists_before_anything_is_opened_and_says_who_and_why() -> None:
    machine = opened()
    assert machine.trace.index("book.publish") < machine.trace.index("store.open")
    assert machine.public is not None
    (lease,) = machine.public["leases"]
    assert (lease["by"], lease["why"], lease["phase"]) == ("ada", "ticket 4711", "open")
    assert set(lease["domains"]) == machine.open_types


@pytest.mark.parametrize("how", ["stop", "enforce", "deadline", "boot", "all", "damaged"])
def test_every_way_to_close_removes_it(how: str) -> None:
    machine = opened()
    if how == "stop":
        leases.stop(BY_HAND, PROFILE, by="ada", world=machine.world())
    elif how == "enforce":
        leases.enforce(BY_HAND, PROFILE, by="ada", world=machine.world())
    elif how == "all":
        end_all(machine.world())
    elif how == "boot":
        machine.reboot()
        tick(machine)
    else:
        if how == "damaged":
            machine.undo = dict.fromkeys(machine.undo, "{")
        else:
            machine.pass_time(600)
        tick(machine)
    assert machine.public is None
    assert not machine.open_types


def test_a_lease_works_without_it_and_says_so() -> None:
    machine = Machine(broken=frozenset({"book.publish"}))
    leases.start(BY_HAND, PROFILE, 600, by="ada", world=machine.world(), policy=Confined())
    assert machine.open_types
    assert MessageId.LEASE_NOT_PUBLISHED in {message for message, _ in machine.notices}
    machine.pass_time(600)
    tick(machine)
    assert not machine.open_types
    assert not machine.undo


def test_a_removed_one_is_back_after_a_minute() -> None:
    machine = opened()
    before, machine.public = machine.public, None
    tick(machine)
    assert machine.public == before


def test_on_a_disk_it_is_whole_and_readable_for_all(tmp_path: Path) -> None:
    path = tmp_path / "run/lease.json"
    book = LeaseBook(tmp_path / "rollout", path)
    book.write(replace(LEASE, why="a \u2028 <b>"))
    mask = os.umask(0o077)
    try:
        book.publish()
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o755
    assert json.loads(path.read_text()) == public_document(book.all())
    assert disagreement(path, book.all()) == ""
    path.write_text("{}")
    assert "does not match" in disagreement(path, book.all())
    book.remove(LEASE.profile)
    assert "has ended" in disagreement(path, book.all())
    book.publish()
    assert not path.exists()


def test_a_directory_that_cannot_be_made_is_an_expected_failure(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    book = LeaseBook(tmp_path / "rollout", tmp_path / "run/lease.json")
    book.write(LEASE)
    with pytest.raises(StateError, match="cannot be written"):
        book.publish()


def test_the_schema_fits(tmp_path: Path) -> None:
    schema = json.loads((POLICIES / "schema/lease.schema.json").read_text(encoding="utf-8"))
    book = LeaseBook(tmp_path)
    book.write(LEASE)
    book.path_of("other").write_text("{")
    document = public_document(book.all())
    assert set(document) == set(schema["properties"])
    assert set(document["leases"][0]) == set(schema["properties"]["leases"]["items"]["required"])
    assert document["damaged_records"]
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft7Validator(schema).validate(document)


def test_a_record_of_0_1_0_and_a_record_for_0_1_0() -> None:
    """0.1.0 knows no `why`: it reads a record without one, and so do we."""
    assert "why" not in json.loads(render_lease(LEASE))
    with_reason = replace(LEASE, why="because")
    assert parse_lease(render_lease(with_reason)) == with_reason
    assert carried_lease(carry_lease(with_reason)) == with_reason


def test_a_reason_is_one_plain_line() -> None:
    machine = opened("two\nlines \x1b[31m" + "x" * 900)
    assert machine.public is not None
    why = machine.public["leases"][0]["why"]
    assert why.startswith("two lines [31mxx")
    assert len(why) == 500
    with pytest.raises(RefusedError):
        leases.start(BY_HAND, PROFILE, 600, by="eve", world=machine.world(), policy=Confined())
