"""Parse one line of an audit log into a record: its header, and its body as written by the kernel.

Nothing is decoded or unescaped here. A line that does not begin with a header is not a record, regardless of its content; forms
of mails, web pages and the journal are handled in audit/dialects.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Union

from sepolicyd.audit.model import EventId, Unparsed, UnparsedReason
from sepolicyd.audit.parse import fields as field
from sepolicyd.audit.parse.header import match_header, node_of, type_name

MARK = "avc:"
MAX_TEXT = 4096
MAX_RECORD = 1 << 16
"""Longest accepted line in characters: MAX_AUDIT_MESSAGE_LENGTH is 8970, and auditd adds less than that."""
_ANNOUNCES = re.compile(r"avc:|SELINUX_ERR|op=security_")


class Record(NamedTuple):
    """One record of an event."""

    node: str
    time: str
    """Seconds and milliseconds as written in the log; "" for a line without header (audit/dialects)."""
    serial: int
    type: str
    """The name of the record type; a number if it is unknown."""
    body: str
    """The text after the header, verbatim."""
    raw: str
    """The whole line, for evidence; hostile text."""
    number: int = 0
    """The line number, from 1; 0 if unknown."""

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.node, self.time, self.serial)

    @property
    def event(self) -> EventId:
        return EventId(self.node, self.time, self.serial)


def decode(line: Union[bytes, str]) -> str:
    """Return the line as text without its line end; a byte that is not UTF-8 becomes ``\\xNN`` (fields.text)."""
    decoded = field.text(line) if isinstance(line, bytes) else line
    return decoded.rstrip("\r\n\0")


def parse(line: Union[bytes, str], number: int = 0) -> Union[Record, Unparsed, None]:
    """Parse a line; None for a line that is not a record and announces no denial. Never raises."""
    if len(line) > MAX_RECORD:
        shown = decode(line[:MAX_TEXT])
        marked = (b"avc:" in line) if isinstance(line, bytes) else (MARK in line)
        return Unparsed(number, UnparsedReason.TOO_LONG, shown) if marked or _ANNOUNCES.search(shown) else None
    raw = decode(line)
    header = match_header(raw)
    if header is None:
        if _ANNOUNCES.search(raw) is None:
            return None
        return Unparsed(number, UnparsedReason.NO_HEADER, raw[:MAX_TEXT])
    return from_header(header, raw, number)


def from_header(header: re.Match[str], raw: str, number: int) -> Record:
    """Return the record that begins with this header."""
    body = raw[header.end() :]
    return Record(node_of(header), header["time"], int(header["serial"]), type_name(header["type"]), body, raw, number)
