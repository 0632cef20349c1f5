"""The metrics of this machine's rollout: state, pending candidates, leases, losses, changes and baseline checks.

Labels are names from the profile, the policy's level names and fixed words: never text from the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from sepolicyd import __version__
from sepolicyd.rollout.clock import Moment
from sepolicyd.rollout.doctor.baseline import CheckReport, CheckResult
from sepolicyd.rollout.history import Entry, HistoryEvent
from sepolicyd.rollout.lease.lease import CorruptLease, Lease
from sepolicyd.rollout.metrics.exposition import Metric, Sample, counter, gauge, render
from sepolicyd.rollout.stage import Rollout
from sepolicyd.rollout.status import Picture
from sepolicyd.rules.guard.level import GuardLevel

# key of the evidence's counts -> metric and help
COUNTS = {
    "lines": ("log_lines", "Lines of the audit log that the daemon has read."),
    "matched": ("denials", "Denials that were attributed to the service."),
    "lost": ("events_lost", "Messages of the kernel in the log that it has lost audit events."),
    "gaps": ("log_gaps", "Places where the log was cut away before the daemon had read it."),
    "overflow": ("denials_dropped", "Denials that were counted and not kept, because the evidence was full."),
    "unparsed": ("lines_unparsed", "Lines with a denial that could not be parsed."),
}
CHANGES = (HistoryEvent.APPLY, HistoryEvent.ROLLBACK, HistoryEvent.RETURN, HistoryEvent.CONFIRM)


@dataclass(frozen=True)
class MetricsFacts:
    """What the metrics are made of. None: it could not be read, and the metrics that need it are missing."""

    profile: str
    now: Moment
    picture: Optional[Picture] = None
    history: Sequence[Entry] = ()
    """Changes of this profile's module, oldest first."""
    leases: Optional[Sequence[Lease | CorruptLease]] = None
    """Of all profiles."""
    trial_until: Optional[float] = None
    """Epoch seconds by which the version on trial must be confirmed."""
    trial_failed: bool = False
    """A trial that is over could not be ended."""
    kernel_lost: Optional[int] = None
    """`lost` of auditctl -s: since boot."""
    reports: Sequence[CheckReport] = ()


def metrics_text(facts: MetricsFacts) -> str:
    """Return the whole file."""
    return render(_all(facts))


def _all(facts: MetricsFacts) -> list[Metric]:
    info = gauge("info", "The version of sepolicyd.", Sample(1, {"version": __version__}))
    complete = gauge(
        "metrics_complete",
        "1 if state, leases and history could be read; 0 if the metrics that need them are missing.",
        Sample(float(facts.picture is not None and facts.leases is not None), {}),
    )
    return [
        info,
        complete,
        *_state(facts),
        *_evidence(facts),
        *_changes(facts),
        *_leases(facts),
        *_losses(facts),
        *_baseline(facts),
    ]


def _state(facts: MetricsFacts) -> list[Metric]:
    picture, labels = facts.picture, {"profile": facts.profile}
    if picture is None:
        return []
    levels = Counter(item.level for item in picture.queue.items)
    states = [Sample(float(picture.stage_report.state is state), {**labels, "state": state.value}) for state in Rollout]
    pending = [Sample(levels[level], {**labels, "level": level.value}) for level in GuardLevel]
    return [
        gauge("state", "The stage of the rollout: 1 for the present one, 0 for the others.", *states),
        gauge("pending", "Candidates that wait for a decision, by level.", *pending),
        gauge("ready", "1 if the evidence is complete enough to enforce.", Sample(float(picture.readiness.ready), labels)),
        gauge("taints", "Reasons to doubt the evidence.", Sample(len(picture.taints), labels)),
    ]


def _evidence(facts: MetricsFacts) -> list[Metric]:
    picture, labels = facts.picture, {"profile": facts.profile}
    if picture is None:
        return []
    snapshot = picture.queue.snapshot
    if not snapshot.present:
        return []
    updated = [Sample(snapshot.updated, labels)] if snapshot.updated else []
    return [
        gauge("evidence_updated_timestamp_seconds", "When the daemon last saved evidence.", *updated),
        *(counter(name, text, Sample(snapshot.counts.get(key, 0), labels)) for key, (name, text) in COUNTS.items()),
    ]


def _changes(facts: MetricsFacts) -> list[Metric]:
    labels = {"profile": facts.profile}
    last = {entry.what: entry.at for entry in facts.history}
    counts = Counter(entry.what for entry in facts.history)
    shown = [event for event in CHANGES if event in last]
    trial = [] if facts.trial_until is None else [Sample(max(0.0, facts.trial_until - facts.now.wall), labels)]
    return [
        gauge(
            "module_version",
            "Version of the loaded module, 0 for none.",
            *([] if facts.picture is None else [Sample(facts.picture.version, labels)]),
        ),
        gauge(
            "last_change_timestamp_seconds",
            "When the loaded policy was last changed, by the kind of change.",
            *(Sample(last[event], {**labels, "event": event.value}) for event in shown),
        ),
        counter(
            "changes",
            "Changes of the loaded policy, by kind.",
            *(Sample(counts[event], {**labels, "event": event.value}) for event in shown),
        ),
        gauge("trial_seconds_left", "Seconds until an unconfirmed version is rolled back.", *trial),
        gauge("trial_failed", "1 if a trial that is over could not be ended.", Sample(float(facts.trial_failed), labels)),
    ]


def _leases(facts: MetricsFacts) -> list[Metric]:
    if facts.leases is None:
        return []
    leases = [item for item in facts.leases if isinstance(item, Lease)]
    damaged = len(facts.leases) - len(leases)
    by_profile = [(lease, {"profile": lease.profile}) for lease in leases]
    return [
        gauge("leases", "Open leases of all profiles.", Sample(len(leases), {})),
        gauge("lease_records_damaged", "Lease records that cannot be read.", Sample(damaged, {})),
        gauge(
            "lease_seconds_left",
            "Seconds until the lease ends; 0 if it is overdue.",
            *(Sample(lease.remaining(facts.now), labels) for lease, labels in by_profile),
        ),
        gauge(
            "lease_deadline_timestamp_seconds",
            "When the lease ends.",
            *(Sample(lease.deadline_wall, labels) for lease, labels in by_profile),
        ),
        gauge(
            "lease_failed_attempts",
            "Attempts to end the lease that failed.",
            *(Sample(lease.attempts, labels) for lease, labels in by_profile),
        ),
    ]


def _losses(facts: MetricsFacts) -> list[Metric]:
    samples = [] if facts.kernel_lost is None else [Sample(facts.kernel_lost, {})]
    return [counter("kernel_events_lost", "Audit events that the kernel has lost since boot (auditctl -s).", *samples)]


def _baseline(facts: MetricsFacts) -> list[Metric]:
    answered = [report for report in facts.reports if report.result is not CheckResult.UNKNOWN]
    return [
        gauge(
            "baseline_pass",
            "1 if the check of sepolicyd doctor --baseline passes, 0 if it fails; missing if it could not be answered.",
            *(Sample(float(report.result is CheckResult.PASS), {"check": report.check.value}) for report in answered),
        ),
        gauge(
            "baseline_findings",
            "Findings of the check.",
            *(Sample(len(report.findings), {"check": report.check.value}) for report in answered),
        ),
    ]
