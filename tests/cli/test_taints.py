"""End to end with a real MAC_STATUS record: daemon, evidence.db, taints of a lease, `show`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from sepolicyd.rollout.clock import Moment
from sepolicyd.rollout.lease.lease_records import LeaseBook, LeaseEvent
from sepolicyd.settings import Settings
from tests.cli.conftest import DATA, Runner

SWITCHED_AT = 1795377159.692  # the captured log's MAC_STATUS, amid denials
LEASE = {"id": "x", "profile": "jupyterhub"}


def taints_shown(sepolicyd: Runner) -> set[str]:
    listed = json.loads(sepolicyd("list", "--json").out)["candidates"]
    shown: list[dict[str, Any]] = json.loads(sepolicyd("show", "--json", *(one["id"] for one in listed)).out)
    return {taint for one in shown for taint in one["evidence"]["taints"]}


@pytest.mark.parametrize(
    ("lease_start", "tainted"), [(SWITCHED_AT - 60.0, True), (SWITCHED_AT + 60.0, False)], ids=["inside", "later"]
)
def test_a_foreign_switch_of_enforcing_inside_a_lease_is_shown(
    sepolicyd: Runner, tmp_path: Path, lease_start: float, tainted: bool
) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(gzip.decompress(next(DATA.glob("04-*")).read_bytes()))
    assert b"type=MAC_STATUS msg=audit(1795377159.692:152): enforcing=1" in log.read_bytes()
    book = LeaseBook(Settings(state=tmp_path / "state").rollout_dir)
    book.record(LeaseEvent.OPENED, Moment(lease_start, 1.0, "boot"), **LEASE, deadline_wall=SWITCHED_AT + 100.0)
    assert sepolicyd("run", "--once", "--log", log).code == 0
    switches = {taint for taint in taints_shown(sepolicyd) if taint.startswith("T-SWITCH")}
    assert bool(switches) is tainted
