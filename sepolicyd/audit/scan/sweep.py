"""Blocks of whole lines in, counts and slots out: find the marks, match one expression, parse in full what it does not fit.

Why it is fast: an auditd log is read by memchr-like searches and one expression per AVC line; only the first few of
each distinct access, and lines of an unusual shape, are parsed as records with their events.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Optional

from sepolicyd.audit.model import Notice, PolicyError, Unparsed
from sepolicyd.audit.parse.classes import is_cut
from sepolicyd.audit.parse.denial import Denials
from sepolicyd.audit.scan.sightings import Fold, Slot, of_lines

MAX_LISTED = 1000
LOOK_AHEAD = 8192
LOOK_BACK = 4096
LOOK_BESIDE = 3072
MAX_HEADER = 256
MAX_SLOW_LINES = 512

# Group 1 decision and permissions, 2 pid, 3 comm and whatever follows, 4 inode (which tells two sightings not apart),
# 5 the rest. Whatever does not look so is parsed in full.
_DECISION = rb"avc:  ((?:denied|granted)  \{ [a-z][a-z0-9_]*(?: [a-z][a-z0-9_]*)*) \} for"
_AVC = re.compile(
    rb"(?<=\): )" + _DECISION + rb"  pid=([0-9]{1,10}) "
    rb'(comm=(?:"[^" \n]*"|[0-9A-F]+)(?: (?!ino=|ioctl|scon)[a-z_]+=(?:"[^" \n]*"|[^ "\n]+))*)(?: ino=([0-9]+))?([^\n]*)\n'
)
# dbus-daemon's and dbus-broker's USER_AVC, with the same groups; sender and receiver are not in group 3.
_USER = re.compile(
    rb"(?<=msg=')"
    + _DECISION
    + rb"()((?: (?!spid|tpid|scon)[a-z_]+=[^ \"'\n]+)*)()(?: spid=[0-9]+)?(?: tpid=[0-9]+)?([^\n]*)\n"
)
# The rest: ioctl number, contexts without their range (categories do not split accesses), class and permissive.
_CONTEXT = rb"([^: ]{1,64}:[^: ]{1,64}:[A-Za-z][A-Za-z0-9_]{0,127})(?::[^ ]*)?"
_CONTEXTS = rb" {1,2}scontext=" + _CONTEXT + rb" tcontext=" + _CONTEXT
_AVC_TAIL = re.compile(
    rb"(?: ioctlcmd=)?((?<==)[0-9a-fx]+|)" + _CONTEXTS + rb" tclass=([a-z][a-z0-9_]{0,63})((?: permissive=[01])?)"
)
_USER_TAIL = re.compile(rb"()" + _CONTEXTS + rb" tclass=(dbus)((?: permissive=[01])?)  ?exe=[^{}]*")
_NODE = re.compile(rb"node=([^ \n]+) ")
MAX_TAILS = 8192
# A line as auditd writes it that speaks only through "avc:", if at all: not the kernel's SELINUX_ERR and MAC_*, and not
# the AVC records of AppArmor and SMACK. Group 1 is what tells events apart.
_HEADER = rb"type=(?!SELI|MAC_)[A-Z0-9_]+ msg=audit\(([0-9.]+:[0-9]+)\): (?!apparmor=|lsm=)"
_LINE = re.compile(rb"\n(?:" + _HEADER + rb"|)")
_FIRST = re.compile(_HEADER)
_STAMP = re.compile(rb"(?:\b(?:node|host)=([^\s,]+)[ ,]\s*type=[^ \n]+ (?:msg=)?)?audit\(([^()\n]*)\)")
_NEEDLES = (b"SELINUX_ERR", b"MAC_", b"type=140", b"UNKNOWN[140", b"security_", b"type=AVC ", b"apparmor=", b"lsm=")
_OTHER_MARKS = re.compile(
    rb"SELINUX_ERR|\b(?:USER_)?MAC_[A-Z]|\btype=140[01345]\b|UNKNOWN\[140[01345]\]|security_(?:compute|validate|bounded|sid_mls)"
    rb"|type=AVC |\bapparmor=|\blsm="
)
_PORT = re.compile(rb" (?:dest|src|lport|fport)=([0-9]+)")


class Sweep:
    """Takes blocks of whole lines in order; afterwards its attributes hold what was found."""

    def __init__(self) -> None:
        self.lines = self.events = self.notices = self.other = self.unparsed_count = 0
        self.fold = Fold()
        self.unparsed: list[Unparsed] = []
        self.errors: list[PolicyError] = []
        self.notice_list: list[Notice] = []
        self._base = self._offset = 0
        self.first_keys: set[Any] = set()
        self._tails: dict[bytes, bytes] = {}
        self._keys: set[bytes] = set()
        self._slow_lines: dict[bytes, None] = {}

    def block(self, before: bytes, block: bytes, after: bytes) -> None:
        """Take one block; ``before`` and ``after`` are its neighbours, where halves of its events may be."""
        self._base = self.lines
        plain = self._count(block)
        self._avcs(before, block, after)
        if not plain:
            self._others(before, block, after)

    def append(self, later: Sweep) -> None:
        """Add what a sweep of the part behind this one has found."""
        self.events += later.events - len(self._keys & later.first_keys)
        self.unparsed.extend(replace(one, line=one.line + self.lines) for one in later.unparsed)
        for name in ("lines", "notices", "other", "unparsed_count"):
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.errors.extend(later.errors)
        self.notice_list.extend(later.notice_list)
        for listed in (self.unparsed, self.errors, self.notice_list):
            del listed[MAX_LISTED:]
        self.fold.append(later.fold)

    def _others(self, before: bytes, block: bytes, after: bytes) -> None:
        """SELINUX_ERR and the kernel's notices, which hold no ``avc:``."""
        begins = set()
        for needle in _NEEDLES:
            at = block.find(needle)
            while at >= 0:
                begins.add(block.rfind(b"\n", 0, at) + 1)
                at = block.find(needle, _line_end(block, at))
        done = 0
        for begin in sorted(begins):
            line = block[begin : _line_end(block, begin)]
            if begin < done or b"avc:" in line or not _OTHER_MARKS.search(line):
                continue
            done = self._slow(before, block, after, begin)

    def _count(self, block: bytes) -> bool:
        """Count lines and events; True where all lines are auditd's and none is an error or a notice of the kernel."""
        found = _LINE.findall(block, 0, len(block) - 1)
        keys: set[Any] = set(found)
        first = _FIRST.match(block)
        plain = first is not None and b"" not in keys
        if plain and first is not None:
            keys.add(first[1])
        else:
            keys = {node + stamp for node, stamp in set(_STAMP.findall(block)) if _is_stamp(stamp)}
        self.lines += len(found) + 1
        self.events += len(keys - self._keys)
        if not self._base:
            self.first_keys = keys
        self._keys = keys
        return plain

    def _avcs(self, before: bytes, block: bytes, after: bytes) -> None:
        find, avc, user, tail_of, seen = block.find, _AVC.match, _USER.match, self._tails.get, self.fold.seen.get
        base, node = self._offset, b""
        single = not block.startswith(b"node=") and b"\nnode=" not in block[:LOOK_AHEAD]
        position = find(b"avc:")
        while position >= 0:
            match = avc(block, position) or user(block, position)
            if match is not None:
                pid = match[2]
                # not longer than the shortest header, so that it holds nothing of the line before
                window = block[position - 36 if position > 36 else 0 : position] if pid else _window(block, position)
                if not single:
                    node = _node(block, position)
                tail = tail_of(match[5])
                if tail is None:
                    tail = self._tail(match)
                slot = seen((match[1], match[3], tail, node)) or self._miss(before, block, after, match, tail, node, window)
                if slot is not None:
                    if slot.window != window or not _same(before, block, slot.at - base, match):
                        slot.count += 1
                        slot.window = window
                        slot.at = base + position
                    position = find(b"avc:", match.end())
                    continue
            position = find(b"avc:", self._slow(before, block, after, position))
        self._offset += len(block)

    def _tail(self, match: re.Match[bytes]) -> bytes:
        """The rest of the line without ranges; empty where it must be doubted. Kept, because few different ones occur."""
        found = (_AVC_TAIL if match[2] else _USER_TAIL).fullmatch(match[5])
        tail = b" ".join(found.groups()) if found is not None and not is_cut(found[4].decode()) else b""
        if len(self._tails) >= MAX_TAILS:
            self._tails.clear()
        self._tails[match[5]] = tail
        return tail

    def _miss(
        self, before: bytes, block: bytes, after: bytes, match: re.Match[bytes], tail: bytes, node: bytes, window: bytes
    ) -> Optional[Slot]:
        """The slot of a sighting that was not seen before; None where the record is to be doubted."""
        if not tail:
            return None
        details = match[3]
        ioctl, _, contexts = tail.partition(b" ")
        port = _PORT.search(details)
        facet = ioctl or (port[0] if port else b"")

        def make(whole: bool) -> Optional[Slot]:
            found = of_lines(self._event(before, block, after, match.start(), whole))
            denial = (found.denials or found.granted or (None,))[0]
            return None if denial is None else Slot(window, denial)

        key = (match[1], details, tail, node)
        return self.fold.place(key, (match[1], contexts), details.partition(b" ")[0], facet, make)

    def _event(self, before: bytes, block: bytes, after: bytes, position: int, whole: bool) -> list[bytes]:
        """The line at this place, then the other lines of its event (only those right behind it if not ``whole``)."""
        begin = block.rfind(b"\n", 0, position) + 1
        end = _line_end(block, position)
        line = block[begin:end]
        stamp = _STAMP.search(line)
        if stamp is None or not _is_stamp(stamp[2]):
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
        if found.unparsed:
            number = self._base + block.count(b"\n", 0, position) + 1
            found = replace(found, unparsed=tuple(replace(one, line=number) for one in found.unparsed))
        self.take(found)
        return end

    def take(self, found: Denials) -> None:
        """Count what an event says."""
        for denial in (*found.denials, *found.granted):
            self.fold.add(denial)
        self.notices += len(found.notices)
        self.other += found.other
        self.unparsed_count += len(found.unparsed)
        for listed, values in ((self.unparsed, found.unparsed), (self.errors, found.errors), (self.notice_list, found.notices)):
            if len(listed) < MAX_LISTED:
                listed.extend(values)  # type: ignore[arg-type]


def _node(block: bytes, position: int) -> bytes:
    match = _NODE.match(block, block.rfind(b"\n", 0, position) + 1)
    return match[1] if match else b""


def _window(block: bytes, position: int) -> bytes:
    """The header's time and serial, where other fields stand between it and the mark."""
    at = block.rfind(b"audit(", max(0, position - MAX_HEADER), position)
    return block[at : at + 40] if at >= 0 else b""


def _same(before: bytes, block: bytes, at: int, match: re.Match[bytes]) -> bool:
    """Whether the line whose mark is at this place (negative: in the block before) is the matched one once more."""
    if at < 0:
        at += len(before)
        return at >= 0 and before.startswith(match[0], at)
    return block.startswith(match[0], at)


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


def _is_stamp(stamp: bytes) -> bool:
    """False where the header was blanked or redacted."""
    return re.fullmatch(rb"[0-9.]+:[0-9]+", stamp) is not None
