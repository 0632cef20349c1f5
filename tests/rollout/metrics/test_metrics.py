"""Metrics checked with Prometheus' own parser; atomic replacement of the file; unreadable facts are omitted."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from sepolicyd.errors import StateError
from sepolicyd.rollout.clock import Moment
from sepolicyd.rollout.doctor.baseline import BaselineCheck, run_checks
from sepolicyd.rollout.doctor.baseline_facts import BaselineFacts
from sepolicyd.rollout.history import Entry, HistoryEvent
from sepolicyd.rollout.lease.lease import CorruptLease
from sepolicyd.rollout.metrics.exposition import Sample, counter, gauge, render
from sepolicyd.rollout.metrics.gather import write_metrics
from sepolicyd.rollout.metrics.metrics import MetricsFacts, metrics_text
from tests.rollout.lease.test_machine import LEASE

NOW = Moment(LEASE.deadline_wall - 90, LEASE.deadline_boottime - 90, LEASE.opened.boot_id)


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(sample, labels) -> value, by the reference parser; a name with two TYPE lines is refused there."""
    parser = pytest.importorskip("prometheus_client.parser")
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in {"gauge", "counter"}
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, "a series twice: Prometheus refuses the whole file"
            found[key] = sample.value
    return found


def of(**facts: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return parsed(metrics_text(MetricsFacts("hub", NOW, **facts)))


def test_a_lease_shows_its_seconds_and_its_failures() -> None:
    found = of(leases=[LEASE, CorruptLease(Path("x"), "cut")])
    mine = (("profile", LEASE.profile),)
    assert found["sepolicyd_lease_seconds_left", mine] == 90
    assert found["sepolicyd_lease_deadline_timestamp_seconds", mine] == LEASE.deadline_wall
    assert found["sepolicyd_lease_failed_attempts", mine] == LEASE.attempts
    assert found["sepolicyd_leases", ()] == 1
    assert found["sepolicyd_lease_records_damaged", ()] == 1


def test_without_leases_there_are_no_seconds_and_a_zero() -> None:
    found = of(leases=[])
    assert found["sepolicyd_leases", ()] == 0
    assert not [key for key in found if key[0].startswith("sepolicyd_lease_seconds")]


def test_what_cannot_be_read_is_missing_and_says_so() -> None:
    found = of()
    assert found["sepolicyd_metrics_complete", ()] == 0
    assert not [key for key in found if key[0] in {"sepolicyd_leases", "sepolicyd_state", "sepolicyd_pending"}]


def test_changes_by_kind() -> None:
    entries = [
        Entry(HistoryEvent.APPLY, "ada", 10.0),
        Entry(HistoryEvent.APPLY, "ada", 20.0),
        Entry(HistoryEvent.RETURN, "x", 30.5),
    ]
    found = of(history=entries)
    apply, back = (tuple(sorted({"profile": "hub", "event": name}.items())) for name in ("apply", "return"))
    assert found["sepolicyd_last_change_timestamp_seconds", apply] == 20
    assert found["sepolicyd_changes_total", apply] == 2
    assert found["sepolicyd_last_change_timestamp_seconds", back] == 30.5


def test_losses_and_baseline() -> None:
    found = of(kernel_lost=7, reports=run_checks(BaselineFacts(auditd_active=False, permissive=None)))
    assert found["sepolicyd_kernel_events_lost_total", ()] == 7
    assert found["sepolicyd_baseline_pass", (("check", "auditd"),)] == 0
    assert found["sepolicyd_baseline_findings", (("check", "auditd"),)] == 1
    assert found["sepolicyd_baseline_pass", (("check", "enforcing"),)] == 1
    assert ("sepolicyd_baseline_pass", (("check", "permissive-domains"),)) not in found
    assert len([key for key in found if key[0] == "sepolicyd_baseline_pass"]) == len(BaselineCheck) - 1


def test_hostile_label_values_stay_values() -> None:
    name = 'a"} 1\nsepolicyd_leases 99\n\\'
    found = parsed(render([gauge("x", 'two\nlines \\ and "quotes"', Sample(1.25, {"profile": name}))]))
    assert found == {("sepolicyd_x", (("profile", name),)): 1.25}


def test_numbers() -> None:
    text = render(
        [counter("x", "h", Sample(1e15, {"a": "1"}), Sample(float("inf"), {"a": "2"}), Sample(0.1234567, {"a": "3"}))]
    )
    assert parsed(text)["sepolicyd_x_total", (("a", "1"),)] == 1e15
    assert "+Inf" in text
    assert "0.123\n" in text
    assert "NaN" in render([gauge("x", "h", Sample(float("nan"), {}))])


def test_the_file_is_replaced_whole_and_everybody_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "sepolicyd.prom"
    old_umask = os.umask(0o077)
    try:
        write_metrics(path, "a 1\n")
    finally:
        os.umask(old_umask)
    reader = path.open()  # an old reader keeps the old content
    write_metrics(path, "b 2\n")
    assert (reader.read(), path.read_text()) == ("a 1\n", "b 2\n")
    reader.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [one.name for one in tmp_path.iterdir()] == ["sepolicyd.prom"]


def test_a_symbolic_link_in_its_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """The directory may belong to node_exporter's user."""
    target = tmp_path / "shadow"
    target.write_text("secret")
    (tmp_path / "sepolicyd.prom").symlink_to(target)
    (tmp_path / ".sepolicyd.prom.new").symlink_to(target)
    write_metrics(tmp_path / "sepolicyd.prom", "a 1\n")
    assert target.read_text() == "secret"
    assert (tmp_path / "sepolicyd.prom").read_text() == "a 1\n"


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="there is no directory"):
        write_metrics(tmp_path / "none/sepolicyd.prom", "a 1\n")


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sepolicyd.prom"
    write_metrics(path, "a 1\n")

    def full(fd: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sepolicyd.storage.files.write_all", full)
    with pytest.raises(StateError, match="No space left"):
        write_metrics(path, "b 2\n")
    assert path.read_text() == "a 1\n"
    assert [one.name for one in tmp_path.iterdir()] == ["sepolicyd.prom"]
