"""Gather what the metrics show, and write the file for node_exporter's textfile collector."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from sepolicyd.errors import SepolicydError, StateError
from sepolicyd.rollout.apply import trial as trials
from sepolicyd.rollout.apply.versions import module_name
from sepolicyd.rollout.clock import SystemClock
from sepolicyd.rollout.doctor.baseline import run_checks
from sepolicyd.rollout.doctor.gather_baseline import gather_baseline
from sepolicyd.rollout.history import Entry, History
from sepolicyd.rollout.lease.lease import CorruptLease, Lease
from sepolicyd.rollout.lease.lease_records import LeaseBook
from sepolicyd.rollout.metrics.metrics import MetricsFacts
from sepolicyd.rollout.session import Session
from sepolicyd.rollout.status import Picture, look
from sepolicyd.settings import Settings
from sepolicyd.storage.files import write_public


def gather_metrics(session: Session) -> tuple[MetricsFacts, tuple[str, ...]]:
    """Read all facts for the metrics. Facts that cannot be read are omitted.

    :return: the facts, and one sentence for each fact that could not be read
    """
    settings, problems = session.settings, []
    picture: Optional[Picture] = None
    try:
        picture = look(session, None)
    except SepolicydError as error:
        problems.append(f"the state of {session.profile.name} is not shown: {error}")
    baseline = gather_baseline(settings)
    status = baseline.audit_status or {}
    facts = MetricsFacts(
        profile=session.profile.name,
        now=SystemClock().now(),
        picture=picture,
        history=_history(session, problems),
        leases=_leases(settings, problems),
        trial_until=_trial_until(settings),
        trial_failed=bool(trials.problem(settings)),
        kernel_lost=status.get("lost"),
        reports=run_checks(baseline),
    )
    return facts, tuple(problems)


def write_metrics(path: Path, text: str) -> None:
    """Replace the file atomically. Every user can read it.

    :raises StateError: the file could not be written and is unchanged
    """
    if not path.parent.is_dir() and path.parent.parent != Path("/run"):
        raise StateError(
            f"{path} cannot be written: there is no directory {path.parent}",
            "create it, or set metrics_file in /etc/sepolicyd/config.yaml to the directory that node_exporter reads",
        )
    write_public(path, text.encode())


def _history(session: Session, problems: list[str]) -> list[Entry]:
    try:
        entries = History(session.settings.rollout_dir).entries()
    except SepolicydError as error:
        problems.append(f"changes are not shown: {error}")
        return []
    module = module_name(session.profile.name)
    return [entry for entry in entries if entry.module == module]


def _leases(settings: Settings, problems: list[str]) -> Optional[list[Lease | CorruptLease]]:
    book = LeaseBook(settings.rollout_dir)
    if not book.is_readable:
        problems.append(f"leases are not shown: only root can read {book.directory}")
        return None
    return book.all()


def _trial_until(settings: Settings) -> Optional[float]:
    try:
        trial = trials.read_trial(settings)
    except SepolicydError:
        return 0.0  # damaged: the next command of root takes the version back
    return None if trial is None else trial.deadline_wall
