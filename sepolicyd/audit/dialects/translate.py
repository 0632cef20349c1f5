"""Translate blocks of mixed text: keep raw lines, and read everything else with the dialects.

A line that becomes a record with a complete header keeps its place among the raw lines, so that the scan joins it with the
other records of its event and line numbers stay correct. All other records are joined and read here.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Optional, Union

from sepolicyd.audit.dialects import pasted_line, unwrap_lines
from sepolicyd.audit.dialects.dialect import Form, Reader, Refusal
from sepolicyd.audit.dialects.journal import JournalReader
from sepolicyd.audit.dialects.tool_reports import AlertReader, TableReader
from sepolicyd.audit.model import Unparsed, UnparsedReason
from sepolicyd.audit.parse import fields as field
from sepolicyd.audit.parse.denial import Denials, denials_of, denials_of_line
from sepolicyd.audit.parse.event import Event
from sepolicyd.audit.parse.header import SPEAKING, match_header, type_name
from sepolicyd.audit.parse.record import MAX_RECORD, MAX_TEXT, Record

MAX_SEEN = 20_000
MAX_RECORDS = 256
MAX_OPEN = 64
MAX_SHOWN = 1 << 20
_TAIL = 16  # lines kept for the next block, because a folded record may continue there
_COMPLETE = re.compile(r"tclass=[a-z][a-z0-9_]*[ \t].*?permissive=[01]")
_ANNOUNCES = re.compile(r"avc:|type=[A-Z]*(?:AVC|SELINUX_ERR) |type=14")


class Translator:
    """Converts blocks of any text to blocks of raw lines, and collects the denials that it has read itself.

    ``found`` is complete after :meth:`finish`. ``forms`` counts the lines of each form.
    """

    def __init__(self) -> None:
        self.forms: Counter[Form] = Counter()
        self.refusals: dict[Refusal, int] = {}
        self.found: list[Denials] = []
        self.has_records = False
        """Whether the text contains a record in a form other than auditd's."""
        self.line = 0
        """Number of lines passed on."""
        self._left = b""
        self._seen: dict[str, None] = {}
        self._events: OrderedDict[tuple[str, str, int], list[Record]] = OrderedDict()
        self._readers: tuple[Reader, ...] = (JournalReader(), TableReader(), AlertReader())

    @property
    def is_waiting(self) -> bool:
        """Whether lines wait for the next block."""
        return bool(self._left)

    def feed(self, block: bytes) -> bytes:
        """Translate a block; in the result, each line is a raw record or blank."""
        lines = (self._left + block).split(b"\n")
        cut = len(lines) - 1 if len(lines) > _TAIL * 2 else 0
        cut = _last_border(lines, cut)
        self._left = b"\n".join(lines[cut:])
        return self._translate(lines[:cut]) if cut else b""

    def finish(self) -> bytes:
        """Return the remaining text as raw lines, and close the readers."""
        left, self._left = self._left, b""
        lines = left.split(b"\n")
        rest = self._translate(lines[:-1] if not lines[-1] else lines) if left else b""
        self._finish()
        return rest

    def _finish(self) -> None:
        for reader in self._readers:
            self._take(reader.end(), self.line)
            self.refusals.update(reader.refusals)
        self._flush(0)

    def _translate(self, lines: Sequence[bytes]) -> bytes:
        written = []
        shown = [field.text(line[:MAX_SHOWN]).rstrip("\r\0") for line in lines]
        at = 0
        while at < len(lines):
            line, used = self._step(lines[at], shown, at)
            written.append(line)
            written.extend([b""] * (used - 1))
            at += used
            self.line += used
        return b"\n".join(written) + b"\n"

    def _step(self, raw: bytes, lines: Sequence[str], at: int) -> tuple[bytes, int]:
        """Return (the raw line for this position, the number of lines that it replaces)."""
        if len(raw) > MAX_RECORD and not raw[:80].lstrip(b"data: \x1e").startswith(b"{"):
            return raw, 1
        line = lines[at]
        header = match_header(line)
        if header is not None and not pasted_line.is_page(line):
            return self._raw_line(raw, line, lines, at)
        for reader in self._readers:
            if reader.wants(line):
                self.forms[reader.form] += 1
                self._take(reader.read(line), self.line + 1)
                return b"", 1
        if not pasted_line.RELEVANT.search(line):
            for reader in self._readers:
                self._take(reader.beside(line), self.line)
            return b"", 1
        return self._text_line(line, lines, at)

    def _raw_line(self, raw: bytes, line: str, lines: Sequence[str], at: int) -> tuple[bytes, int]:
        for reader in self._readers:
            reader.record(line)
        more = _following(line, lines, at)
        if more and not _is_whole(line):
            folded = unwrap_lines.unfold(line, more, _accept_raw, loose=not _ANNOUNCES.search(line))
            if folded is not None and folded.lines:
                return self._folded(folded)
            doubtful = self._doubtful(line, more)
            if doubtful is not None:
                return doubtful
        if "avc:" in line and self._is_repeated(line):
            return b"", 1
        return raw, 1

    def _text_line(self, line: str, lines: Sequence[str], at: int) -> tuple[bytes, int]:
        """Translate a line of pasted text that announces a record."""
        more = _following(line, lines, at)
        if more and not _is_whole(line):
            folded = unwrap_lines.unfold(line, more, _accept_text)
            if folded is not None and folded.lines:
                return self._folded(folded)
            doubtful = self._doubtful(line, more)
            if doubtful is not None:
                return doubtful
        return self._pasted(line), 1

    def _doubtful(self, line: str, more: Sequence[str]) -> Optional[tuple[bytes, int]]:
        """Handle a record with a permission split by a line break, which cannot be read."""
        opened = line.rpartition("{")[2]
        if "avc:" not in line or "{" not in line or "}" in opened:
            return None
        self.forms[Form.FOLDED] += 1
        self._take([Unparsed(0, UnparsedReason.SPLIT_PERMISSION, line[:MAX_TEXT])], self.line + 1)
        return b"", 1 + len(more)

    def _folded(self, folded: unwrap_lines.Folded) -> tuple[bytes, int]:
        self.forms[Form.FOLDED] += 1 + folded.lines
        if folded.split:
            self._take([Unparsed(0, UnparsedReason.SPLIT_PERMISSION, folded.text[:MAX_TEXT])], self.line + 1)
            return b"", 1 + folded.lines
        return self._emit(pasted_line.records_of(folded.text, self.line + 1), folded.text), 1 + folded.lines

    def _pasted(self, line: str) -> bytes:
        records = pasted_line.records_of(line, self.line + 1)
        self.forms[Form.PASTED] += bool(records)
        return self._emit(records, line)

    def _emit(self, records: Sequence[Union[Record, Unparsed]], line: str) -> bytes:
        """Return the raw line for a single record with a complete header; other records are read here."""
        if len(records) == 1 and isinstance(records[0], Record) and records[0].serial and _is_epoch(records[0].time):
            record = records[0]
            for reader in self._readers:
                reader.record(line)
            node = f"node={record.node} " if record.node else ""
            raw = f"{node}type={record.type} msg=audit({record.time}:{record.serial}): {record.body}"
            return b"" if "avc:" in raw and self._is_repeated(raw) else field.bytes_of(raw)
        for record_or_not in records:
            self._take([record_or_not], self.line + 1)
        return b""

    def _take(self, found: Sequence[Union[Record, Unparsed]], number: int) -> None:
        """Keep records until their event is complete; a record without header is an event of its own."""
        for one in found:
            if isinstance(one, Unparsed):
                self.found.append(Denials(unparsed=(replace(one, line=one.line or number),)))
                continue
            self.has_records = True
            record = one._replace(number=one.number or number)
            if not record.serial:
                self.found.append(denials_of(Event(record.event, (record,))))
            elif not self._is_repeated(f"{record.key} {record.type} {record.body}"):
                records = self._events.setdefault(record.key, [])
                if len(records) < MAX_RECORDS:
                    records.append(record)
                self._flush(MAX_OPEN)

    def _flush(self, most: int) -> None:
        """Read the oldest events until at most this many are open."""
        while len(self._events) > most:
            _, records = self._events.popitem(last=False)
            self.found.append(denials_of(Event(records[0].event, tuple(records))))

    def _is_repeated(self, line: str) -> bool:
        """Tell whether the same record has already occurred (as in a quoted mail)."""
        key = line.strip()
        if key in self._seen:
            return True
        if len(self._seen) < MAX_SEEN:
            self._seen[key] = None
        return False


def _last_border(lines: Sequence[bytes], cut: int) -> int:
    """Return the last line before ``cut`` at which no folded record can continue: a blank line or a new record."""
    for at in range(cut, max(0, cut - _TAIL), -1):
        if at < len(lines) and (not lines[at].strip() or b"audit(" in lines[at][:200]):
            return at
    return cut


def _following(line: str, lines: Sequence[str], at: int) -> list[str]:
    """Return the next lines that may continue the record on this line, including the message after a header on its own."""
    near = [one[:4096] for one in lines[at + 1 : at + 1 + unwrap_lines.MAX_LINES]]
    if near and line.rstrip().endswith(":") and "avc:" not in line and near[0].lstrip().startswith("avc:"):
        return [near[0], *unwrap_lines.following(near[1:])]
    return unwrap_lines.following(near)


def _is_whole(line: str) -> bool:
    return _COMPLETE.search(line) is not None


def _is_epoch(time: str) -> bool:
    return re.fullmatch(r"[0-9]{1,12}\.[0-9]{1,9}", time) is not None


def _accept_raw(joined: str) -> bool:
    """Tell whether the text is a whole record with a complete header; for companion records, any list of fields is whole."""
    header = match_header(joined)
    if header is None or ("avc:" in joined and "tclass=" not in joined):
        return False
    if type_name(header["type"]) in SPEAKING:
        return not denials_of_line(joined).unparsed
    return True


def _accept_text(joined: str) -> bool:
    if "avc:" in joined and "tclass=" not in joined:
        return False
    records = [one for one in pasted_line.records_of(joined) if isinstance(one, Record)]
    for record in records:
        found = denials_of(Event(record.event, (record,)))
        if found.unparsed or not (found.denials or found.granted or found.notices or found.errors):
            return False
    return bool(records)
