"""Blocks of whole lines in, counts and slots out: find the marks, match one expression, parse in full what it does not fit.

Why it is fast: an auditd log is read by memchr-like searches and one expression per AVC line; only the first few of
each distinct access, and lines of an unusual shape, are parsed as records with their events.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple, Optional

from sepolicyd.audit.classes import is_cut
from sepolicyd.audit.denial import Denials
from sepolicyd.audit.fold import Fold, Slot, of_lines
from sepolicyd.audit.record import split_stamp
from sepolicyd.audit.values import Notice, SelinuxError, Unparsed
from sepolicyd.audit.wrap import unwrap

MAX_LISTED = 1000
MAX_PROCESSES = 20_000
LOOK_AHEAD = 8192
LOOK_BACK = 4096
LOOK_BESIDE = 1024
MAX_HEADER = 256
MAX_SLOW_LINES = 512

# Group 1 decision and permissions, 2 pid, 3 comm and whatever follows, 4 inode, 5 ioctl number, 6 and 7 contexts without
# their range (categories do not split accesses), 8 class and permissive. Whatever does not look so is parsed in full.
_CONTEXT = rb"([^: \n]{1,64}:[^: \n]{1,64}:[A-Za-z][A-Za-z0-9_]{0,127})(?::[^ \n]*)?"
_STRICT = re.compile(
    rb"(?<=\): )avc:  ((?:denied|granted)  \{ [a-z][a-z0-9_]*(?: [a-z][a-z0-9_]*)*) \} for  pid=([0-9]{1,10}) "
    rb'(comm=(?:"[^" \n]*"|[0-9A-F]+)(?: (?!ino=|ioctl|scon)[a-z_]+=(?:"[^" \n]*"|[^ "\n]+))*)'
    rb"(?: ino=([0-9]+))?((?: ioctlcmd=[0-9a-fx]+)?) ? scontext="
    + _CONTEXT
    + rb" tcontext="
    + _CONTEXT
    + rb" tclass=([a-z][a-z0-9_]{0,63}(?: permissive=[01])?)\n"
)
_LINE = re.compile(rb"\n(?:type=[A-Z0-9_\[\]]+ msg=audit\(([0-9.]+:[0-9]+)\): |)")
_FIRST = re.compile(rb"type=[A-Z0-9_\[\]]+ msg=audit\(([0-9.]+:[0-9]+)\): ")
_STAMP = re.compile(rb"(?:\b(?:node|host)=([^\s,]+)[ ,]\s*type=[^ \n]+ (?:msg=)?)?audit\(([^()\n]*)\)")
_OTHER_MARKS = re.compile(
    rb"[^\n]*(?:SELINUX_ERR|MAC_[A-Z]|\btype=140[1345]\b|UNKNOWN\[140[1345]\]|security_(?:compute|validate|bounded|sid_mls))[^\n]*\n?"
)
_PROCESS = re.compile(
    rb"type=SYSCALL [^\n]*? ppid=([0-9]{1,10}) pid=([0-9]{1,10}) auid=([0-9]+) uid=[^\n]*? comm=([^ \n]+) exe=([^ \n]+)"
    rb"(?: subj=([^ \n]+))?"
)
_DETAIL = re.compile(rb" (?:dest|src|lport|fport)=([0-9]+)")


class Process(NamedTuple):
    """What one SYSCALL record beside a denial says of a process, as the log wrote it but for quotes."""

    pid: int
    ppid: int
    comm: bytes
    exe: bytes
    subject: bytes


class Sweep:
    """Takes blocks of whole lines in order; afterwards its attributes hold what was found."""

    def __init__(self) -> None:
        self.lines = self.events = self.denials = self.granted = self.notices = self.other = self.unparsed_count = 0
        self.fold = Fold()
        self.unparsed: list[Unparsed] = []
        self.errors: list[SelinuxError] = []
        self.notice_list: list[Notice] = []
        self.processes: dict[Process, None] = {}
        self._base = 0
        self._pids: set[bytes] = set()
        self._keys: set[bytes] = set()
        self._slow_lines: dict[bytes, None] = {}

    def block(self, before: bytes, block: bytes, after: bytes) -> None:
        """Take one block; ``before`` and ``after`` are its neighbours, where halves of its events may be."""
        self._base = self.lines
        standard = self._count(block)
        self._avcs(before, block, after)
        if standard:
            self._others_in_standard(before, block, after)
        else:
            done = 0
            for match in _OTHER_MARKS.finditer(block):
                if match.start() >= done and b"avc:" not in match[0]:
                    done = self._slow(before, block, after, match.start())

    def _others_in_standard(self, before: bytes, block: bytes, after: bytes) -> None:
        """SELINUX_ERR and the kernel's notices, which hold no ``avc:``."""
        for needle in (b"=SELINUX_ERR", b"type=MAC_"):
            at = block.find(needle)
            while at >= 0:
                end = _line_end(block, at)
                begin = block.rfind(b"\n", 0, at) + 1
                if at - begin < MAX_HEADER and block.find(b"avc:", begin, end) < 0:
                    self._slow(before, block, after, at)
                at = block.find(needle, end)

    def _count(self, block: bytes) -> bool:
        """Count events, and the lines where all have auditd's header (then True)."""
        found = _LINE.findall(block, 0, len(block) - 1)
        keys = set(found)
        first = _FIRST.match(block)
        standard = first is not None and b"" not in keys
        if standard and first is not None:
            keys.add(first[1])
            self.lines += len(found) + (block[-1:] == b"\n")
        else:
            self.lines += block.count(b"\n")
            keys = {_key(match) for match in _STAMP.finditer(block)}
            keys.discard(b"")
        self.lines += block[-1:] != b"\n"
        self.events += len(keys - self._keys)
        self._keys = keys
        return standard

    def _avcs(self, before: bytes, block: bytes, after: bytes) -> None:
        find, strict, seen = block.find, _STRICT.match, self.fold.seen.get
        pids = self._pids
        plain = not block.startswith(b"node=") and b"\nnode=" not in block[:4096]
        position = find(b"avc:")
        while position >= 0:
            match = strict(block, position) if plain else None
            if match is None:
                position = find(b"avc:", self._slow(before, block, after, position))
                continue
            window = block[max(0, position - 40) : position]
            slot = seen(match.group(1, 3, 5, 6, 7, 8))
            if slot is None:
                slot = self._miss(before, block, after, match, window)
                if slot is None:
                    position = find(b"avc:", self._slow(before, block, after, position))
                    continue
            if slot.window == window and slot.count and slot.groups == match.groups():
                position = find(b"avc:", match.end())
                continue
            slot.count += 1
            slot.window = window
            slot.groups = match.groups()
            if match[2] not in pids:
                self._process(before, block, after, match)
            if match[1][0] == 100:  # "denied"
                self.denials += 1
            else:
                self.granted += 1
            position = find(b"avc:", match.end())

    def _miss(self, before: bytes, block: bytes, after: bytes, match: re.Match[bytes], window: bytes) -> Optional[Slot]:
        tclass = match[8].partition(b" ")[0].decode()
        if is_cut(tclass):
            return None
        details = match[3]
        detail = _DETAIL.search(details)
        facet = match[5] or (detail[0] if detail else b"")
        access = (match[1], match[6], match[7], tclass)

        def make(whole: bool) -> Slot:
            return Slot(window, None, tuple(self._event(before, block, after, match.start(), whole)))

        return self.fold.place(match.group(1, 3, 5, 6, 7, 8), access, details.partition(b" ")[0], facet, window, None, make)

    def _process(self, before: bytes, block: bytes, after: bytes, match: re.Match[bytes]) -> None:
        if len(self._pids) > MAX_PROCESSES:
            self._pids.clear()  # process numbers come round again
        self._pids.add(match[2])
        if len(self.processes) >= MAX_PROCESSES:
            return
        for line in self._event(before, block, after, match.start(), True)[1:]:
            found = _PROCESS.search(line)
            if found is not None:
                comm, exe = found[4].strip(b'"'), found[5].strip(b'"')
                self.processes[Process(int(found[2]), int(found[1]), comm, exe, found[6] or b"")] = None

    def _event(self, before: bytes, block: bytes, after: bytes, position: int, whole: bool) -> list[bytes]:
        """The line at this place, then the other lines of its event (only those right behind it if not ``whole``)."""
        begin = block.rfind(b"\n", 0, position) + 1
        end = _line_end(block, position)
        line = block[begin:end]
        stamp = _STAMP.search(line)
        if stamp is None or not _key(stamp):
            return [line]
        token = b"audit(" + stamp[2] + b")"
        reach = end + (LOOK_AHEAD if whole else LOOK_BESIDE)
        earlier = _lines_with(token, block, max(0, begin - LOOK_BACK), begin) if whole else []
        if whole and before and begin < LOOK_BACK:
            earlier = _lines_with(token, before, max(0, len(before) + begin - LOOK_BACK), len(before)) + earlier
        later = _lines_with(token, block, end, reach)
        if after and reach > len(block):
            later += _lines_with(token, after, 0, reach - len(block))
        return [line, *earlier, *later]

    def _slow(self, before: bytes, block: bytes, after: bytes, position: int) -> int:
        """Parse the line at this place in full; returns where it ends."""
        lines = self._event(before, block, after, position, True)
        line, end = lines[0], _line_end(block, position)
        if _STAMP.search(line):
            if line in self._slow_lines:
                return end
            self._slow_lines[line] = None
            if len(self._slow_lines) > MAX_SLOW_LINES:
                del self._slow_lines[next(iter(self._slow_lines))]
        found = of_lines(lines)
        if found.unparsed and not (found.denials or found.granted):
            joined, consumed = unwrap(line, block[end + 1 : end + 1 + LOOK_AHEAD], lambda text: not of_lines([text]).unparsed)
            if joined is not None:
                found = of_lines([joined, *lines[1:]])
                end = min(end + consumed, len(block))
        if found.unparsed:
            number = self._base + block.count(b"\n", 0, position) + 1
            found = replace(found, unparsed=tuple(replace(one, line=number) for one in found.unparsed))
        self._take(found)
        return end

    def _take(self, found: Denials) -> None:
        for denial in (*found.denials, *found.granted):
            self.fold.add(denial)
        self.denials += len(found.denials)
        self.granted += len(found.granted)
        self.notices += len(found.notices)
        self.other += found.other
        self.unparsed_count += len(found.unparsed)
        for listed, values in ((self.unparsed, found.unparsed), (self.errors, found.errors), (self.notice_list, found.notices)):
            if len(listed) < MAX_LISTED:
                listed.extend(values)  # type: ignore[arg-type]


def _line_end(block: bytes, position: int) -> int:
    end = block.find(b"\n", position)
    return len(block) if end < 0 else end


def _lines_with(token: bytes, block: bytes, low: int, high: int) -> list[bytes]:
    """The lines that hold the token near their beginning, it being between low and high."""
    found = []
    at = block.find(token, low, high)
    while at >= 0:
        begin = block.rfind(b"\n", max(0, at - MAX_HEADER), at) + 1
        end = _line_end(block, at)
        if begin or at < MAX_HEADER:
            found.append(block[begin:end])
        at = block.find(token, end, high)
    return found


def _key(match: re.Match[bytes]) -> bytes:
    """What tells events apart, b"" where the header was blanked."""
    return (match[1] or b"") + match[2] if split_stamp(match[2].decode("latin-1"))[1] else b""
