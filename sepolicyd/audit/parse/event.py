"""An audit event: the records with the same node, time and serial."""

from __future__ import annotations

from dataclasses import dataclass

from sepolicyd.audit.model import EventId
from sepolicyd.audit.parse.record import Record


@dataclass(frozen=True)
class Event:
    """The distinct records of one event, in the order of the log."""

    id: EventId
    records: tuple[Record, ...]
