"""One line of any audit source in, a record out: header fields parsed, body left as the kernel wrote it."""

from __future__ import annotations

import re
from typing import NamedTuple, Optional, Union

from sepolicyd.audit.model import EventId, Unparsed

MARK = "avc:"
GROUP_SEPARATOR = "\x1d"
MAX_TEXT = 4096

# linux/audit.h: printed as numbers by the kernel ring and as UNKNOWN[n] by user space that is older than the kernel.
NUMBERED = {
    "1107": "USER_AVC",
    "1108": "USER_SELINUX_ERR",
    "1300": "SYSCALL",
    "1302": "PATH",
    "1306": "SOCKADDR",
    "1307": "CWD",
    "1309": "EXECVE",
    "1320": "EOE",
    "1327": "PROCTITLE",
    "1400": "AVC",
    "1401": "SELINUX_ERR",
    "1402": "AVC_PATH",
    "1403": "MAC_POLICY_LOAD",
    "1404": "MAC_STATUS",
    "1405": "MAC_CONFIG_CHANGE",
}

# auditd: node=N type=T msg=audit(TIME:SERIAL): BODY. The kernel ring has no "msg=", ausearch -i puts a blank or two before
# the colon and a date in some locale (with its own colons) before the last one. A redacted header may hold anything.
_HEADER = re.compile(
    r"(?:\b(?:node|host)=(?P<node>[^\s,]+)[ ,]\s*)?"
    r"(?:\btype=(?P<type>[A-Za-z][A-Za-z0-9_]*(?:\[\d+\])?|\d+) ?,?\s*(?:msg=)?)?audit\((?P<stamp>[^()]*)\) *:? ?"
)
_PLAIN = re.compile(
    r"(?:node=(?P<node>\S+) )?type=(?P<type>[A-Z][A-Z0-9_]*) msg=audit\((?P<time>[0-9]+\.[0-9]+):(?P<serial>[0-9]{1,20})\): "
)
# journalctl: "audit[PID]: AVC avc:", "audit: AVC msg=...", "AVC avc:"; MESSAGE= alone begins with the type.
_JOURNAL = re.compile(
    r"(?:^|\baudit(?:\[\d+\])?: |\"MESSAGE\" ?: ?\"|MESSAGE=|^> ?)\s*(?P<type>(?:USER_)?(?:AVC|SELINUX_ERR|MAC_[A-Z_]+)|"
    r"SYSCALL|PATH|CWD|PROCTITLE|SOCKADDR|EXECVE) (?=\S)"
)
_NUMBER_ONLY = re.compile(r"\btype=(?P<type>\d{4})\b *:? *")
_ENTITIES = (("&quot;", '"'), ("&#34;", '"'), ("&#39;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", " "), ("&amp;", "&"))
_UNKNOWN = re.compile(r"UNKNOWN\[(\d+)\]\Z")


class Record(NamedTuple):
    """One record. ``time`` as the log wrote it ("" when not logged), ``body`` what follows the header, ``raw`` the line.

    ``number`` is the line's number (from 1; 0 when not known). ``type`` is a name where the number is known.
    """

    node: str
    time: str
    serial: int
    type: str
    body: str
    raw: str
    number: int = 0

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.node, self.time, self.serial)

    @property
    def event(self) -> EventId:
        return EventId(self.node, self.time, self.serial)


def decode(line: Union[bytes, str]) -> str:
    """The line as text without its end; bytes that are not UTF-8 become ``\\xNN``, so that the text can always be stored."""
    text = line.decode("utf-8", "backslashreplace") if isinstance(line, bytes) else line
    return text.rstrip("\r\n\0")


def clean(text: str) -> str:
    """Undo what mail, web pages and JSON do to a line: no-break blanks, entities, backslashed quotes, #012, U+241D."""
    if "\u241d" in text or "\xa0" in text:
        text = text.replace("\u241d", GROUP_SEPARATOR).replace("\xa0", " ")
    if "&" in text:
        for entity, character in _ENTITIES:
            text = text.replace(entity, character)
    if '\\"' in text or "\\n" in text:
        text = text.replace('\\"', '"').replace("\\n", "\n").replace("\\u0027", "'")
    if "#012" in text:
        text = text.replace("#012", "\n")  # rsyslog's escape of a newline
    return text


def parse(line: Union[bytes, str], number: int = 0) -> Union[Record, Unparsed, None]:
    """The record on the line; None for a line that is none and holds no mark of a denial. Never raises.

    A line with several records glued together gives one Record whose body holds the others; :mod:`denial` takes it apart.
    """
    raw = decode(line)
    text = clean(raw)
    plain = _PLAIN.match(text)
    if plain is not None:  # as auditd writes it: nothing to look for
        node, kind, time, serial = plain.groups("")
        return Record(node, time, int(serial), kind, text[plain.end() :], raw, number)
    header = _HEADER.search(text)
    if header is not None:
        mark = text.find(MARK)
        if mark < 0 or header.end() <= mark:
            return _from_header(header, text, raw, number)
    if MARK not in text and "security_" not in text:
        journal = _JOURNAL.search(text)
        return None if journal is None else Record("", "", 0, journal["type"], text[journal.end() :], raw, number)
    return _bare(text, raw, number)


def split_stamp(stamp: str) -> tuple[str, int]:
    """(time, serial) of "1795373145.784:172" or of a date with a serial; ("", 0) where it was blanked or redacted."""
    time, _, serial = stamp.rpartition(":")
    serial = serial.strip()
    if not serial.isascii() or not serial.isdigit() or len(serial) > 20:
        return "", 0
    return time.strip(), int(serial)


def type_name(text: str) -> str:
    """ "1400" and "UNKNOWN[1400]" as "AVC"."""
    unknown = _UNKNOWN.match(text)
    return NUMBERED.get(unknown[1] if unknown else text, text)


def _from_header(header: re.Match[str], text: str, raw: str, number: int) -> Record:
    time, serial = split_stamp(header["stamp"])
    body = text[header.end() :]
    kind = header["type"] or ("USER_AVC" if "USER_AVC" in text[: header.start()] or "msg='avc:" in body else "AVC")
    return Record(header["node"] or "", time, serial, type_name(kind), body, raw, number)


def _bare(text: str, raw: str, number: int) -> Optional[Record]:
    """A message without an audit header: journal, "type=1400 : avc:", or nothing before ``avc:`` at all."""
    mark = text.find(MARK)
    before = text if mark < 0 else text[:mark]
    for pattern in (_JOURNAL, _NUMBER_ONLY):
        match = pattern.search(before)
        if match is not None:
            return Record("", "", 0, type_name(match["type"]), text[match.end() :], raw, number)
    if mark < 0:
        if "security_compute_sid" in text or "security_validate_transition" in text or "op=security_" in text:
            return Record("", "", 0, "SELINUX_ERR", text, raw, number)
        return None
    kind = "USER_AVC" if "USER_AVC" in before else "AVC"
    return Record("", "", 0, kind, text[mark:], raw, number)
