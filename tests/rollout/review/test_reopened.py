"""A denial that recurs after its fix reopens the decision, by the time in the log."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from sepolicyd.access import Access
from sepolicyd.rollout.apply.versions import Version, Versions
from sepolicyd.rollout.review.reopened import reopened
from sepolicyd.rules.evidence import Evidence
from sepolicyd.rules.fixes.detail import (
    NO_DETAIL,
    ConfigurationLine,
    DomainTransition,
    FixDetail,
    InterfaceCall,
    NewLabels,
    OwnType,
)
from sepolicyd.rules.fixes.fix import FixKind
from sepolicyd.settings import Settings
from sepolicyd.state.decisions import AnswerKind, Decision

ASKED = Access.of("svc_t", "var_t", "file", "read")
LABEL = NewLabels(("/srv/x",))
SETTING = ConfigurationLine("x.py", "c.y = 1")


def seen_at(last: float) -> dict[Access, Evidence]:
    return {ASKED: Evidence(count=1, first=900.0, last=last)}


def decided(
    kind: Optional[FixKind], detail: FixDetail, answer: AnswerKind = AnswerKind.ALLOW, at: float = 2000.0
) -> dict[Access, Decision]:
    return {ASKED: Decision(answer, (ASKED,), "alice", at, fix_kind=kind, fix_detail=detail, last_seen=1000.0, id=1)}


def applied(settings: Settings, at: float) -> None:
    versions = Versions(settings.rollout_dir, "sepolicyd_svc")
    versions.write(Version(number=1, modules={}, rules=(), changes=(), labels="", parent=0, at=at), {})
    versions.set_current(1)


@pytest.mark.parametrize(
    ("kind", "detail", "last", "open_again"),
    [
        (FixKind.APPLICATION, SETTING, 1000.0, False),
        (FixKind.APPLICATION, SETTING, 1001.0, True),
        (FixKind.TRANSITION, DomainTransition("x_exec_t", "x_t"), 5000.0, True),
        (FixKind.RELABEL, LABEL, 2500.0, False),  # decided, and not applied yet
        (None, NO_DETAIL, 9000.0, False),  # a rule answers it, whenever it was seen
        (FixKind.INTERFACE, InterfaceCall("x(svc_t)"), 9000.0, False),
        (FixKind.OWN_TYPE, OwnType(LABEL, allowed=("read",)), 9000.0, False),  # allowed with it
    ],
)
def test_what_a_person_does_by_hand_stays_open_until_it_is_done(tmp_path: Path, kind, detail, last, open_again) -> None:
    settings = Settings(state=tmp_path)
    assert bool(reopened(settings, "svc", seen_at(last), decided(kind, detail))) is open_again


def test_what_apply_carries_out_counts_from_the_version(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    applied(settings, at=3000.0)
    assert not reopened(settings, "svc", seen_at(2999.0), decided(FixKind.RELABEL, LABEL))
    assert not reopened(settings, "svc", seen_at(3030.0), decided(FixKind.RELABEL, LABEL))  # files were being relabelled
    assert reopened(settings, "svc", seen_at(3100.0), decided(FixKind.RELABEL, LABEL)) == seen_at(3100.0)
    assert not reopened(settings, "svc", seen_at(3100.0), decided(FixKind.RELABEL, LABEL, at=3050.0))  # decided later


def test_denied_is_denied(tmp_path: Path) -> None:
    for answer in (AnswerKind.DENY, AnswerKind.DONTAUDIT):
        assert not reopened(Settings(state=tmp_path), "svc", seen_at(9000.0), decided(None, NO_DETAIL, answer))
