"""Reference implementation that joins records to events one by one, like auparse."""

from __future__ import annotations

from collections import OrderedDict

from sepolicyd.audit.model import EventId
from sepolicyd.audit.parse.event import Event
from sepolicyd.audit.parse.record import Record

# auditd writes an event's records within milliseconds, but CPUs interleave; ausearch waits 2 seconds of record time too.
EXPIRY_SECONDS = 2.0
MAX_OPEN = 512
MAX_RECORDS = 256


class Assembler:
    """An event ends when record time has moved on by ``expiry`` seconds, or when ``max_open`` others are open."""

    def __init__(self, expiry: float = EXPIRY_SECONDS, max_open: int = MAX_OPEN) -> None:
        self._expiry = expiry
        self._max_open = max_open
        self._open: OrderedDict[tuple[str, str, int], dict[tuple[str, str], Record]] = OrderedDict()
        self._newest = 0.0

    def feed(self, record: Record) -> list[Event]:
        """Take one record; the events that are finished by it, oldest first."""
        if not record.serial and not record.time:
            return [Event(record.event, (record,))]  # no header: nothing can be joined to it
        done: list[Event] = []
        key = record.key
        records = self._open.get(key)
        if records is None:
            done = self._expire(record.event.seconds)
            records = self._open[key] = {}
        if record.type == "EOE":
            del self._open[key]
            if records:
                done.append(_event(key, records))
        elif len(records) < MAX_RECORDS:
            records.setdefault((record.type, record.body), record)
        return done

    def flush(self) -> list[Event]:
        """All events that are still open (at the end of the input), oldest first."""
        done = [_event(key, records) for key, records in self._open.items()]
        self._open.clear()
        return done

    @property
    def open(self) -> int:
        """How many events wait for more records."""
        return len(self._open)

    def _expire(self, now: float) -> list[Event]:
        done = []
        self._newest = max(self._newest, now)
        while self._open:
            key = next(iter(self._open))
            age = self._newest - EventId(*key).seconds
            if len(self._open) < self._max_open and age < self._expiry:
                break
            done.append(_event(key, self._open.pop(key)))
        return done


def _event(key: tuple[str, str, int], records: dict[tuple[str, str], Record]) -> Event:
    return Event(EventId(*key), tuple(records.values()))
