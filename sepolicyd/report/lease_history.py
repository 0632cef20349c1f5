"""Leases of one profile from leases.jsonl, each from its opening to its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Optional

from sepolicyd.report.model import LeaseRecord
from sepolicyd.rollout.lease.lease_records import LeaseEvent


def lease_records(history: Iterable[Mapping[str, Any]], profile: str) -> tuple[LeaseRecord, ...]:
    """Join the lines of each lease, oldest lease first. A line with values of unexpected types is skipped.

    :param history: lines of leases.jsonl, as LeaseBook.history gives them
    """
    found: dict[str, LeaseRecord] = {}
    for entry in history:
        event = LeaseEvent.of(entry)
        if entry.get("profile") != profile or event is None:
            continue
        key, old = str(entry.get("id", "")), found.get(str(entry.get("id", "")))
        begins = event in (LeaseEvent.PLANNED, LeaseEvent.OPENED)
        with suppress(TypeError, ValueError):
            changed = _opened(entry, key, old) if begins else _later(event, entry, old)
            if changed is not None:
                found[key] = changed
    return tuple(sorted(found.values(), key=lambda lease: (lease.opened, lease.id)))


def _opened(entry: Mapping[str, Any], key: str, old: Optional[LeaseRecord]) -> LeaseRecord:
    wall = float(entry["wall"])
    return LeaseRecord(
        id=key,
        domains=tuple(str(name) for name in entry.get("domains", ())),
        whole_system=bool(entry.get("whole_system")),
        hidden=bool(entry.get("hidden")),
        by=str(entry.get("by", "")),
        why=str(entry.get("why", "")),
        opened=wall if old is None else old.opened,
        deadline=float(entry.get("deadline_wall", wall)),
        ended=None,
        how="",
        marks=() if old is None else old.marks,
    )


def _later(event: LeaseEvent, entry: Mapping[str, Any], old: Optional[LeaseRecord]) -> Optional[LeaseRecord]:
    if old is None:
        return None
    wall = float(entry["wall"])
    if event is LeaseEvent.RENEWED:
        return replace(old, deadline=float(entry.get("deadline_wall", old.deadline)), renewals=old.renewals + 1)
    if event is LeaseEvent.MARKED:
        return replace(old, marks=(*old.marks, (str(entry.get("name", "")), wall)))
    if event is LeaseEvent.END_FAILED:
        return replace(old, failures=old.failures + 1)
    if event is LeaseEvent.ENDED:
        closed = "" if entry.get("closed", True) else "; the kernel did NOT enforce"
        return replace(old, ended=wall, how=str(entry.get("why", "")) + closed)
    return old
