"""From lines to a batch: counts, roles, messages of kernel and auditd, and invalid names."""

from __future__ import annotations

from typing import Optional

import pytest

from sepolicyd.audit.model import Denial
from sepolicyd.daemon.intake import Intake
from sepolicyd.rollout.learning.coverage import assign_exercises
from sepolicyd.rollout.lease.exercises import ExerciseMark
from sepolicyd.rules.attribution.matcher_interface import Match
from sepolicyd.rules.evidence import merged_roles
from sepolicyd.state.evidence_store import Batch
from tests.audit.follow.writer import event


class Everything:
    """A matcher that takes what jupyterhub_t asks."""

    def match(self, denial: Denial) -> Optional[Match]:
        return Match("hub", "source domain") if denial.scontext.type == "jupyterhub_t" else None

    def match_comm(self, example: Denial, comm: str) -> Optional[Match]:
        return self.match(example)


def taken(*parts: bytes) -> Batch:
    intake = Intake(Everything())
    for part in parts:
        intake.feed(part)
    return intake.settle()


def load(serial: int) -> bytes:
    stamp = f"{1795373145 + serial // 100}.{serial % 100 * 10:03d}:{serial}"
    return f"type=MAC_POLICY_LOAD msg=audit({stamp}): auid=0 ses=1 lsm=selinux res=1\n".encode()


def text(*serials: int) -> bytes:
    return b"".join(b"".join(event(serial)) for serial in serials)


def test_each_denial_counts_once_however_the_lines_come_in_pieces() -> None:
    whole = taken(text(*range(1, 400)))
    pieces = taken(*(text(serial) for serial in range(1, 400)))
    assert whole.counts["denials"] == pieces.counts["denials"] == 399
    assert whole.counts["lines"] == pieces.counts["lines"] == 399 * 5
    for batch in (whole, pieces):
        ((key, seen),) = batch.evidence.items()
        assert (str(key[0]), key[1], seen.count) == ("jupyterhub_t etc_t:file read", "hub", 399)
        assert batch.counts["matched"] == 399


def test_the_service_of_others_is_counted_by_its_domain() -> None:
    batch = taken(text(1).replace(b"jupyterhub_t", b"sshd_t"))
    assert batch.evidence == {}
    assert batch.ignored == {"sshd_t": 1}
    assert (batch.counts["ignored"], batch.counts["matched"]) == (1, 0)


def test_sightings_on_both_sides_of_a_policy_load_are_told_apart() -> None:
    """A load flushes the kernel's cache, as each exercise does at its beginning: one sighting in each is what there is."""
    log = text(1) + load(1000) + text(1500) + load(2000) + text(2500)
    batch = taken(log)
    (seen,) = merged_roles(batch.evidence).items()
    assert seen[1].times == ((1795373145, 1), (1795373160, 1), (1795373170, 1))
    marks = [ExerciseMark(name, 1795373145.0 + start, "hub", "x") for name, start in (("a", 0), ("b", 10), ("c", 20))]
    assert assign_exercises(dict([seen]), marks)[seen[0]].exercises == ("a", "b", "c")
    assert [remark.kind for remark in batch.remarks] == ["policyload", "policyload"]
    assert batch.counts["lines"] == log.count(b"\n")


def test_a_switch_of_enforcing_is_remarked_with_its_direction() -> None:
    line = (
        b"type=MAC_STATUS msg=audit(1795373145.784:77): enforcing=0 old_enforcing=1 auid=0 ses=1 enabled=1 old-enabled=1"
        b" lsm=selinux res=1\n"
    )
    batch = taken(line)
    assert [(remark.kind, remark.at) for remark in batch.remarks] == [("setenforce-0", 1795373145.784)]


@pytest.mark.parametrize(
    ("line", "kinds", "lost"),
    [
        (b"audit: audit_lost=7 audit_rate_limit=0 audit_backlog_limit=64\n", ["lost"], 1),
        (b"Nov 22 20:00:01 host kernel: [ 12.5] audit: backlog limit exceeded\n", ["lost"], 1),
        (b"audit: rate limit exceeded\n", ["lost"], 1),
        (b"type=DAEMON_START msg=audit(1795373145.1:9): op=start ver=3.0.9 res=success\n", ["auditd"], 0),
        (b"type=DAEMON_ROTATE msg=audit(1795373145.1:9): op=rotate-logs\n", [], 0),
        (b'type=PATH msg=audit(1795373145.1:9): name="audit: audit_lost=7"\n', [], 0),
        (b'type=AVC msg=audit(1795373145.1:9): comm="type=DAEMON_END"\n', [], 0),
    ],
)
def test_lost_events_and_auditds_own_start_and_end_are_remarked(line: bytes, kinds: list[str], lost: int) -> None:
    batch = taken(text(1) + line + text(2))
    assert [remark.kind for remark in batch.remarks] == kinds
    assert batch.counts["lost"] == lost
    assert batch.counts["matched"] == 2


def test_a_name_that_no_policy_can_hold_is_listed_and_never_becomes_evidence() -> None:
    bad = text(1).replace(b"etc_t", b"etc_t$(id)")
    batch = taken(bad + text(2))
    assert [str(access) for access, _ in batch.evidence] == ["jupyterhub_t etc_t:file read"]
    assert batch.counts["unparsed"] == len(batch.unparsed) == 1


def test_lines_that_are_no_records_are_counted_and_harm_nothing() -> None:
    batch = taken(b"\x1f\x8b\x08 not gzip\n" + text(1) + b"\xff\xfe\n\n" + b"avc:  denied  { \n")
    assert batch.counts["matched"] == 1
    assert batch.counts["unparsed"] == 1
    assert batch.counts["lines"] == 5 + 4
