"""Find the denials in blocks of an audit log.

Every ``avc:`` is located with ``bytes.find`` (measured in a whole scan: faster than a regular expression). A line that
matches one of the two expressions of :mod:`avc_patterns` is counted for its place (:mod:`access_samples`) and parsed only if
it is kept. All other lines go through the parser. If parser and expression disagree about a record, the parser reads all
records of that place.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any, Optional

from sepolicyd.audit.model import Denial, Kind, Notice, PolicyError, Unparsed
from sepolicyd.audit.parse.denial import Denials, denials_of_lines
from sepolicyd.audit.scan.access_samples import MAX_FACETS, Detail, Place, Places, Slot
from sepolicyd.audit.scan.avc_patterns import (
    CLASS,
    KERNEL_AVC,
    KEY,
    LIKE_KERNEL,
    LIKE_USER,
    PORTS,
    SOURCE,
    STAMP,
    TARGET,
    USER_AVC,
    VERDICT,
)
from sepolicyd.audit.scan.event_records import event_of, has_stamp, line_end
from sepolicyd.audit.scan.imitations import Imitations

MAX_LISTED = 1000
MAX_SLOW_LINES = 512
MAX_BRACES = 8192
MAX_DOUBTED = 4096
LOOK_BACK = 8192
MARK = b"avc:"

# Marks in lines without "avc:". The first two occur in records of auditd, the others in the kernel's ring buffer and in
# journals: they are searched for only in blocks that do not begin and end with a record of auditd.
_NEEDLES = (b"SELINUX_ERR", b"MAC_")
_NEEDLES_ELSEWHERE = (b"type=140", b"UNKNOWN[140", b"security_", b"type=AVC ", b"apparmor=", b"lsm=")
_OTHER_MARKS = re.compile(
    rb"SELINUX_ERR|\b(?:USER_)?MAC_[A-Z]|\btype=140[01345]\b|UNKNOWN\[140[01345]\]|security_(?:compute|validate|bounded|sid_mls)"
    rb"|type=AVC |\bapparmor=|\blsm="
)
_RECORD = re.compile(rb"(?:node=[^ \n]+ )?type=[A-Z0-9_]+ msg=audit\(")


class Sweep:
    """Scanner of blocks of whole lines, fed in order. Its attributes hold the results."""

    def __init__(self) -> None:
        self.lines = self.notices = self.other = self.unparsed_count = self.attempts = 0
        self.has_records = False
        """Whether any line has the header of an audit record."""
        self.places = Places()
        self.imitations = Imitations()
        self.attempt_sources: Counter[str] = Counter()
        """Forgery attempts among the unparsed lines, by type of the process; "" where no record proves the type."""
        self.unparsed: list[Unparsed] = []
        self.errors: list[PolicyError] = []
        self.notice_list: list[Notice] = []
        self._base = 0
        self._counted = (0, 1)
        self._braces: dict[bytes, tuple[bytes, ...]] = {}
        self._doubted: set[Any] = set()
        self._slow_lines: dict[bytes, None] = {}

    def block(self, before: bytes, block: bytes, after: bytes) -> None:
        """Scan one block. ``before`` and ``after`` are its neighbours, which may hold other records of its events."""
        if not block.endswith(b"\n"):
            block += b"\n"
        self._base = self.lines
        self._counted = (0, self._base + 1)
        self.lines += block.count(b"\n")
        self.has_records = self.has_records or b"audit(" in block
        self._denials(before, block, after)
        self._others(before, block, after)
        self.imitations.block(before, block, after)

    def _denials(self, before: bytes, block: bytes, after: bytes) -> None:
        find, rfind, kernel, user = block.find, block.rfind, KERNEL_AVC.match, USER_AVC.match
        blocks, record, count_alike = (before, block, after), self._record, self._count_alike
        position = find(MARK)
        while position >= 0:
            start = rfind(b"\n", 0, position) + 1
            match = kernel(block, start)
            if match is not None:
                if not count_alike(match.groups()):
                    record(blocks, start, match, match.group(*KEY), match.group(*LIKE_KERNEL))
            else:
                match = user(block, start)
                if match is None:
                    position = find(MARK, self._slow(*blocks, position))
                    continue
                record(blocks, start, match, (*match.group(*KEY), Kind.USER_AVC), match.group(*LIKE_USER))
            position = find(MARK, match.end())

    def _count_alike(self, groups: tuple[Any, ...]) -> bool:
        """Count a kernel record that has the same kept fields as an earlier one; return False for any other record.

        Nearly all records of a long log take this path, which is the shortest. Records of a new process never do.
        """
        node, stamp, verdict, brace, pid, comm, _, ioctl, source, target, tclass, permissive = groups
        place = self.places.by_key.get((node, verdict, source, target, tclass))
        if place is None or place.open or pid in place.pids or stamp <= place.newest or ioctl or place.gathers_ports:
            return False
        permissions = self._braces.get(brace)
        if permissions is None or place.may_keep(permissions, comm):
            return False
        place.newest = stamp
        place.count(permissions, permissive, stamp, comm)
        return True

    def _record(
        self, blocks: tuple[bytes, bytes, bytes], start: int, match: re.Match[bytes], key: Any, like: tuple[Any, ...]
    ) -> None:
        """Count a record that one of the expressions matches. ``start`` is the start of its line."""
        place = self.places.by_key.get(key)
        stamp = match[STAMP]
        if place is None:
            place = self._first(blocks, start, match, key, like)
            if place is None:
                self._slow(*blocks, start)
                return
        elif stamp > place.newest:
            place.newest = stamp
        elif _stands_before(blocks, start, match[0]):
            return  # a duplicate
        slot = place.slots.get(like) or self._beyond(blocks, start, place, like, stamp)
        if slot is not None:
            slot.count += 1
            if stamp > slot.last:
                slot.last = stamp
            elif stamp < slot.first:
                slot.first = stamp

    def _beyond(
        self, blocks: tuple[bytes, bytes, bytes], start: int, place: Place, like: tuple[Any, ...], stamp: bytes
    ) -> Optional[Slot]:
        """Return a slot for a record that is like no slot of the place, None if it was counted without a slot."""
        brace, comm, details, ioctl, permissive, pid = like
        permissions = self._braces.get(brace) or self._permissions(brace)
        if place.may_keep(permissions, comm):
            wanted = self.places.wants(place, permissions, comm)
            if wanted:
                lines = event_of(*blocks, start, self.places.detail)
                return self.places.keep(place, like, Slot(lines, stamp), comm, pid)
            if wanted is None:
                return place.domain.overflow
        if place.gathers_ports:
            place.ports.update(PORTS.findall(details))
            place.gathers_ports = len(place.ports) < MAX_FACETS
        if comm and ioctl and len(place.ioctls) < MAX_FACETS:
            place.ioctls.add(ioctl)
        place.count(permissions, permissive, stamp, comm)
        return None

    def _first(
        self, blocks: tuple[bytes, bytes, bytes], start: int, match: re.Match[bytes], key: Any, like: tuple[Any, ...]
    ) -> Optional[Place]:
        """Return a new place with its first slot, if parser and expression agree about the record."""
        if key in self._doubted:
            return None
        found = denials_of_lines([match[0]])
        denial = next(iter((*found.denials, *found.granted)), None)
        permissions = self._permissions(like[0])
        if denial is None or not _agree(denial, match, permissions):
            if len(self._doubted) < MAX_DOUBTED:
                self._doubted.add(key)
            return None
        place = self.places.make(key, match[SOURCE], match[CLASS])
        place.newest = match[STAMP]
        if self.places.wants(place, permissions, like[1]):
            lines = event_of(*blocks, start, self.places.detail)
            self.places.keep(place, like, Slot(lines, match[STAMP]), like[1], like[5])
        return place

    def _permissions(self, brace: bytes) -> tuple[bytes, ...]:
        """Return the permissions between the braces, cached because few different sets occur."""
        if len(self._braces) >= MAX_BRACES:
            self._braces.clear()
        found = self._braces[brace] = tuple(dict.fromkeys(brace.split()))
        return found

    def _others(self, before: bytes, block: bytes, after: bytes) -> None:
        """Parse SELINUX_ERR records and kernel notices, which do not contain ``avc:``."""
        last = block.rfind(b"\n", 0, len(block) - 1) + 1
        is_plain = bool(before or after) and bool(_RECORD.match(block) and _RECORD.match(block, last))
        begins = set()
        for needle in _NEEDLES if is_plain else (*_NEEDLES, *_NEEDLES_ELSEWHERE):
            at = block.find(needle)
            while at >= 0:
                begins.add(block.rfind(b"\n", 0, at) + 1)
                at = block.find(needle, line_end(block, at))
        done = 0
        for begin in sorted(begins):
            line = block[begin : line_end(block, begin)]
            if begin < done or MARK in line or not _OTHER_MARKS.search(line):
                continue
            done = self._slow(before, block, after, begin)

    def _slow(self, before: bytes, block: bytes, after: bytes, position: int) -> int:
        """Parse the line at this place in full and return its end."""
        end = line_end(block, position)
        line = block[block.rfind(b"\n", 0, position) + 1 : end]
        if has_stamp(line) and self._is_repeated(line):
            return end
        # only kept denials and errors need the other records of their event
        gains = b"SELINUX_ERR" in line and len(self.errors) < MAX_LISTED
        found = denials_of_lines(event_of(before, block, after, position, Detail.EVENT) if gains else [line])
        if len(found.denials) == 1 and not (gains or found.unparsed or found.granted or found.notices or found.other):
            self._add(before, block, after, position, found)
            return end
        if found.unparsed:
            number = self._number(block, position)
            found = replace(found, unparsed=tuple(replace(one, line=number) for one in found.unparsed))
        self.take(found)
        return end

    def _add(self, before: bytes, block: bytes, after: bytes, position: int, found: Denials) -> None:
        """Count a denial that was read from its line alone; read the other records of its event only if it is kept."""
        [denial] = found.denials

        def enriched() -> Denial:
            again = denials_of_lines(event_of(before, block, after, position, self.places.detail))
            return next(iter(again.denials), denial)

        self.places.add(denial, enriched)

    def _number(self, block: bytes, position: int) -> int:
        """Return the number of the line at this place. Calls come in ascending order, so each line is counted once."""
        counted, number = self._counted
        if position < counted:
            counted, number = 0, self._base + 1
        number += block.count(b"\n", counted, position)
        self._counted = (position, number)
        return number

    def _is_repeated(self, line: bytes) -> bool:
        """Tell whether one of the last lines that the parser read was the same."""
        if line in self._slow_lines:
            return True
        self._slow_lines[line] = None
        if len(self._slow_lines) > MAX_SLOW_LINES:
            del self._slow_lines[next(iter(self._slow_lines))]
        return False

    def take(self, found: Denials) -> None:
        """Count the denials, messages and errors of one event."""
        for denial in (*found.denials, *found.granted):
            self.places.add(denial)
        self.notices += len(found.notices)
        self.other += found.other
        self.unparsed_count += len(found.unparsed)
        for one in found.unparsed:
            if one.attempt:
                self.attempts += 1
                self.attempt_sources[one.source] += 1
            if len(self.unparsed) < MAX_LISTED or (one.attempt and self.attempts <= MAX_LISTED):
                self.unparsed.append(one)
        self.errors.extend(found.errors[: MAX_LISTED - len(self.errors)])
        self.notice_list.extend(found.notices[: MAX_LISTED - len(self.notice_list)])


def _agree(denial: Denial, match: re.Match[bytes], permissions: tuple[bytes, ...]) -> bool:
    """Tell whether parser and expression read the same access."""
    contexts = [f"{one.user}:{one.role}:{one.type}" for one in (denial.scontext, denial.tcontext)]
    read = (denial.verdict.value, *denial.permissions, *contexts, denial.tclass)
    names = (match[VERDICT], *permissions, match[SOURCE], match[TARGET], match[CLASS])
    return tuple(name.encode() for name in read) == names


def _stands_before(blocks: tuple[bytes, bytes, bytes], start: int, line: bytes) -> bool:
    """Tell whether the line that starts here is a duplicate of one shortly before."""
    before, block, _ = blocks
    if block.find(line, max(0, start - LOOK_BACK), start) >= 0:
        return True
    return start < LOOK_BACK and before.find(line, max(0, len(before) - LOOK_BACK)) >= 0
