"""Reader for journal entries: ``journalctl -o json``, ``json-pretty``, ``json-sse``, ``export`` and ``verbose``.

journald receives audit records from the kernel (``_TRANSPORT=audit``) or its ring buffer (``_TRANSPORT=kernel``). Fields that
begin with ``_`` are written by journald itself (systemd.journal-fields(7)), so a record in an entry of another transport was
written by a process and is not trusted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Optional

from sepolicyd.audit.dialects.dialect import Form, Found, Reader, Refusal
from sepolicyd.audit.model import Unparsed, UnparsedReason
from sepolicyd.audit.parse import fields as field
from sepolicyd.audit.parse.header import match_header, type_name
from sepolicyd.audit.parse.record import MAX_RECORD, MAX_TEXT, Record, from_header

MAX_ENTRY = 1 << 20
_TYPED = re.compile(r"(?P<type>[A-Z][A-Z0-9_]*(?:\[\d+\])?) (?=\S)")
_FRAGMENT = re.compile(r'\s*"MESSAGE"\s*:\s*(?P<value>"(?:[^"\\]|\\.)*")\s*,?\s*\Z')
_FIRST = re.compile(r"\s*(?:__CURSOR|__REALTIME_TIMESTAMP|_TRANSPORT|MESSAGE|_AUDIT_TYPE|_AUDIT_ID|_BOOT_ID)=")
_FIELD = re.compile(r"\s*(?P<key>[A-Z_][A-Z0-9_]*)=(?P<value>.*)\Z", re.DOTALL)
_RELAYS = ("audisp-syslog", "audispd", "sedispatch")


class JournalReader(Reader):
    """Reads journal entries, each of one or several lines."""

    form = Form.JOURNAL

    def __init__(self) -> None:
        super().__init__()
        self._json: list[str] = []
        self._size = 0
        self._depth = 0
        self._entry: dict[str, Any] = {}
        self._binary: Optional[list[str]] = None

    def wants(self, line: str) -> bool:
        if self._json or self._binary is not None:
            return True
        start = _without_frame(line)
        if start.startswith("{") and (start.rstrip() == "{" or start.lstrip("{ \t").startswith('"')):
            return True
        if _FRAGMENT.match(line) or _FIRST.match(line):
            return True
        return bool(self._entry) and (bool(_FIELD.match(line)) or line.strip() == "MESSAGE")

    def read(self, line: str) -> Found:
        start = _without_frame(line)
        if self._json or start.startswith("{"):
            return self._json_line(start if not self._json else line)
        fragment = _FRAGMENT.match(line)
        if fragment is not None:
            return self._of_entry({"MESSAGE": _parsed(fragment["value"])})
        return self._export_line(line)

    def beside(self, _line: str) -> Found:
        """End the entry: in the export and verbose formats, a line that is not a field ends it."""
        return self.flush()

    def flush(self) -> Found:
        """End the current entry, and return its record."""
        self._end_binary()
        entry, self._entry = self._entry, {}
        return self._of_entry(entry) if entry else []

    def end(self) -> Found:
        cut = self._json
        self._json = []
        found = list(self.flush())
        if cut and "avc:" in "".join(cut):
            found.append(Unparsed(0, UnparsedReason.CUT, "\n".join(cut)[:MAX_TEXT]))
        return found

    def _json_line(self, line: str) -> Found:
        self._json.append(line)
        self._size += len(line)
        self._depth += _depth(line)
        if self._depth > 0 and self._size < MAX_ENTRY:
            return []
        written = "\n".join(self._json)
        self._json, self._size, self._depth = [], 0, 0
        entry = _parsed(written)
        if isinstance(entry, dict):
            return self._of_entry(entry)
        if "avc:" in written:
            return [Unparsed(0, UnparsedReason.BROKEN, written[:MAX_TEXT])]
        return []

    def _export_line(self, line: str) -> Found:
        if line.strip() == "MESSAGE":  # binary field of the export format: size and data follow
            self._binary = []
            return []
        found = _FIELD.match(line)
        if self._binary is not None:
            if found is None or not self._binary:
                self._binary.append(line)
                return []
            self._end_binary()
        if found is None:
            return []
        done: Found = []
        if found["key"] in ("__CURSOR", "__REALTIME_TIMESTAMP") and "MESSAGE" in self._entry:
            done = self.flush()
        self._entry.setdefault(found["key"], found["value"])
        return done

    def _end_binary(self) -> None:
        if self._binary is not None:
            lines, self._binary = self._binary, None
            written = "\n".join(lines)
            start = re.search(r"(?:USER_)?(?:AVC|SELINUX_ERR|MAC_|SYSCALL)|audit: ", written[:80])
            self._entry.setdefault("MESSAGE", written[start.start() :] if start else written)

    def _of_entry(self, entry: Mapping[str, Any]) -> Found:
        if "MESSAGE" not in entry:
            return self._of_other_json(entry)
        message = _message(entry["MESSAGE"])
        if message is None:
            if str(entry.get("_AUDIT_TYPE_NAME", "")).endswith("AVC"):
                self.refuse(Refusal.JOURNAL)
                return [Unparsed(0, UnparsedReason.NOT_RAW, str(dict(entry))[:MAX_TEXT])]
            return []
        if len(message) > MAX_RECORD:
            return [Unparsed(0, UnparsedReason.TOO_LONG, message[:MAX_TEXT])] if "avc:" in message else []
        message = message.replace("\n", " ").rstrip()
        if not _is_of_the_system(entry):
            return [Unparsed(0, UnparsedReason.FORGED_TRANSPORT, message[:MAX_TEXT])] if "avc:" in message else []
        header = match_header(message)
        if header is not None:
            return [from_header(header, message, 0)]
        typed = _TYPED.match(message)
        kind = typed["type"] if typed else str(entry.get("_AUDIT_TYPE_NAME") or "")
        if not kind or (typed is None and "avc:" not in message):
            return []
        body = message[typed.end() :] if typed else message
        time, serial = _stamp(entry)
        return [Record("", time, serial, type_name(kind), body, message, 0)]

    def _of_other_json(self, entry: Mapping[str, Any]) -> Found:
        """Return a record inside another program's JSON (such as ``full_log`` of Wazuh) if it is the whole text of a field."""
        records = []
        for value in entry.values():
            header = match_header(value) if isinstance(value, str) and len(value) <= MAX_RECORD else None
            if header is not None:
                records.append(from_header(header, value, 0))
        return records


def _is_of_the_system(entry: Mapping[str, Any]) -> bool:
    """Tell whether the kernel or the audit system wrote the entry. An entry without transport has been edited."""
    transport = entry.get("_TRANSPORT")
    if transport in (None, "audit", "kernel"):
        return True
    return entry.get("_UID") == "0" and entry.get("_COMM") in _RELAYS


def _stamp(entry: Mapping[str, Any]) -> tuple[str, int]:
    micros = field.integer(str(entry.get("_SOURCE_REALTIME_TIMESTAMP", "")))
    serial = field.integer(str(entry.get("_AUDIT_ID", "")))
    if micros is None or serial is None:
        return "", 0
    return f"{micros // 1_000_000}.{micros // 1000 % 1000:03d}", serial


def _message(value: Any) -> Optional[str]:
    """Return the text of MESSAGE: a string, or a list of bytes if it contains control characters. None if it was omitted."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, int) and 0 <= one <= 255 for one in value):
        return field.text(bytes(value))
    return None


def _without_frame(line: str) -> str:
    """Return the line without the prefix of json-seq (RFC 7464) or json-sse."""
    return line.lstrip("\x1e").removeprefix("data: ")


def _depth(line: str) -> int:
    """Return the number of opening minus closing braces, outside strings."""
    if line.count("{") == line.count("}") == 0:
        return 0
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', "", line)
    return plain.count("{") - plain.count("}")


def _parsed(written: str) -> Any:
    try:
        return json.loads(written.rstrip().rstrip(","), strict=False)
    except (ValueError, RecursionError):
        return None
