"""Split the bytes read so far after the last complete event."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

from sepolicyd.audit.follow.rotated_file import MAX_DONE, TAIL_BYTES, LogPosition, digest
from sepolicyd.audit.parse.header import EVENT_ID, match_header_bytes, type_name

WINDOW_BYTES = 1 << 16  # an event is expected to begin within this distance before its last line
MAX_LINE_BYTES = 1 << 20  # the kernel's limit is 8970 (MAX_AUDIT_MESSAGE_LENGTH)
EXPIRY_SECONDS = 2.0  # in record time; the same as in auparse and ausearch
PATIENCE_SECONDS = 1.0  # in real time: longest wait for the rest of an event
ALONE_PATIENCE_SECONDS = 0.05  # the same for a log without SYSCALL records (-a task,never)

# Only kernel events have several records; user-space messages (1100-1199, 2100-2999) and auditd's own have one.
SEVERAL = re.compile(
    r"(?:AVC|AVC_PATH|SELINUX_ERR|SYSCALL|PATH|CWD|EXECVE|SOCKADDR|SOCKETCALL|IPC|IPC_SET_PERM|MMAP|OBJ_PID|FD_PAIR|BPRM_FCAPS"
    r"|CAPSET|KERN_MODULE|MQ_\w+|MAC_\w+|CONFIG_CHANGE|NETFILTER_CFG|TIME_\w+|URINGOP|OPENAT2|DM_\w+|1[34]\d\d)\Z"
)
LAST = frozenset({"PROCTITLE", "EOE"})


@dataclass(frozen=True)
class Chunk:
    """Whole lines to process, and the log position after them."""

    text: bytes
    place: LogPosition


@dataclass
class _Segment:
    """Bytes of one file. ``before`` are the bytes just before ``start``; ``ended`` means that no bytes will be added."""

    head: str
    inode: int
    start: int
    before: bytes
    data: bytes = b""
    ended: bool = False

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    @property
    def text(self) -> bytes:
        """The bytes; an incomplete last line of an ended file counts as a line."""
        return self.data + b"\n" if self.ended and self.data and not self.data.endswith(b"\n") else self.data

    def consume(self, count: int) -> None:
        self.before = (self.before + self.data[:count])[-TAIL_BYTES:]
        self.start += min(count, len(self.data))
        self.data = self.data[count:]


class Tail:
    """Bytes read but not yet handed on, possibly over several files. Pure: the time is an argument."""

    def __init__(self, place: LogPosition) -> None:
        self._place = place
        self._segments: list[_Segment] = []
        self._waiting: Optional[tuple[float, int]] = None  # (start time, end offset) of the lines that are held back
        self._has_syscalls = False

    @property
    def place(self) -> LogPosition:
        """The log position after everything that was handed on."""
        return self._place

    @property
    def position(self) -> int:
        """The offset at which to read the current file next."""
        return self._segments[-1].end if self._segments else 0

    @property
    def last_bytes(self) -> bytes:
        """The bytes before ``position``, at most TAIL_BYTES."""
        segment = self._segments[-1]
        return (segment.before + segment.data[-TAIL_BYTES:])[-TAIL_BYTES:]

    @property
    def holding(self) -> bool:
        """Whether whole lines are held back (an incomplete line does not count)."""
        return self._waiting is not None

    @property
    def last_head(self) -> str:
        """The head of the file that was read last."""
        return self._segments[-1].head if self._segments else self._place.head

    @property
    def heads(self) -> set[str]:
        """The heads of all files that were read or are being read."""
        return {*self._place.done, self._place.head, *(segment.head for segment in self._segments)}

    @property
    def last_record(self) -> str:
        """The last event id that was read, as the log writes it: "audit(1795374503.664:4609)"."""
        for segment in reversed(self._segments):
            found = list(EVENT_ID.finditer(segment.data, max(0, len(segment.data) - 16384)))
            if found:
                return found[-1].group().decode()
        return f"audit({self._place.record})"

    def pass_over(self, heads: Sequence[str]) -> None:
        """Skip these files."""
        self._place = replace(self._place, done=(*self._place.done, *heads)[-MAX_DONE:])

    def open(self, head: str, inode: int, offset: int, before: bytes) -> None:
        """Start the next file at this offset."""
        self._segments.append(_Segment(head, inode, offset, before))

    def add(self, data: bytes) -> None:
        self._segments[-1].data += data

    def end(self) -> None:
        """Mark the current file as completely read."""
        self._segments[-1].ended = True

    def patience(self) -> float:
        """Return the seconds to wait for the rest of an event."""
        return PATIENCE_SECONDS if self._has_syscalls else ALONE_PATIENCE_SECONDS

    def take(self, now: float, *, final: bool = False) -> Optional[Chunk]:
        """Return the whole lines before the first event that may still get more records, or None.

        :param now: seconds of a monotonic clock; lines held back for longer than patience() are returned as well
        :param final: hold back nothing except an incomplete line
        """
        text = b"".join(segment.text for segment in self._segments)
        whole = self._whole(text)
        if not whole:
            self._drop_ended()
            return None
        cut = whole if final else max(self._hold(text, whole), self._ripe(now))
        self._remember(now, whole, cut)
        if not cut:
            return None
        self._consume(cut)
        lines = text[:cut]
        # NUL bytes: the hole that copytruncate leaves for a writer without O_APPEND; the kernel never logs NUL
        lines = lines.replace(b"\0", b"") if b"\0" in lines else lines
        self._place = self._reached(lines)
        return Chunk(lines, self._place)

    def _whole(self, text: bytes) -> int:
        whole = text.rfind(b"\n") + 1
        return len(text) if len(text) - whole > MAX_LINE_BYTES else whole

    def _hold(self, text: bytes, whole: int) -> int:
        """Return the start of the earliest event that may still get records; the lines before it can be handed on."""
        base = 0 if whole <= WINDOW_BYTES else text.rfind(b"\n", 0, whole - WINDOW_BYTES) + 1
        begun: dict[tuple[bytes, bytes], int] = {}
        newest = 0.0
        position = base
        for line in text[base:whole].split(b"\n"):  # not splitlines(): a message may contain a carriage return
            header = match_header_bytes(line)
            if header:
                key = (header["time"], header["serial"])
                newest = max(newest, float(header["time"]))
                kind = type_name(header["type"].decode())
                if kind in LAST:
                    begun.pop(key, None)
                elif SEVERAL.match(kind):
                    self._has_syscalls = self._has_syscalls or kind == "SYSCALL"
                    begun.setdefault(key, position)
            position += len(line) + 1
        return min((at for (seconds, _), at in begun.items() if newest - float(seconds) < EXPIRY_SECONDS), default=whole)

    def _ripe(self, now: float) -> int:
        if self._waiting is None or now - self._waiting[0] < self.patience():
            return 0
        return self._waiting[1]

    def _remember(self, now: float, whole: int, cut: int) -> None:
        if cut >= whole:
            self._waiting = None
        elif self._waiting is None or self._waiting[1] <= cut:
            self._waiting = (now, whole - cut)
        else:
            self._waiting = (self._waiting[0], self._waiting[1] - cut)

    def _consume(self, count: int) -> None:
        for segment in self._segments:
            step = min(count, len(segment.text))
            segment.consume(step)
            count -= step
            if count <= 0:
                break
        self._drop_ended()

    def _drop_ended(self) -> None:
        while len(self._segments) > 1 and self._segments[0].ended and not self._segments[0].data:
            done = self._segments.pop(0)
            heads = tuple(head for head in self._place.done if head != done.head)
            self._place = replace(self._place, done=(*heads, done.head)[-MAX_DONE:])

    def _reached(self, lines: bytes) -> LogPosition:
        segment = self._segments[0]
        found = list(EVENT_ID.finditer(lines, max(0, len(lines) - 16384)))
        record = (found[-1].group(1) + b":" + found[-1].group(2)).decode() if found else self._place.record
        return replace(
            self._place,
            head=segment.head,
            offset=segment.start,
            tail=digest(segment.before),
            inode=segment.inode,
            record=record,
        )
