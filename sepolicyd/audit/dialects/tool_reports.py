"""Readers for reports of other tools: alerts of sealert, tables of aureport and of ``ausearch --format csv``.

An entry with both contexts, class and permission becomes a record. Any other entry is listed as unparsed, with a message that
names the form to use instead.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from typing import Optional

from sepolicyd.audit.dialects.dialect import Form, Found, Reader, Refusal
from sepolicyd.audit.model import Context, Unparsed, UnparsedReason
from sepolicyd.audit.parse.fields import integer
from sepolicyd.audit.parse.record import MAX_TEXT, Record

_NUMBERED = re.compile(r"\s*\d+\. \d")
_REPORT = re.compile(r"\s*(?P<name>[A-Z][A-Za-z /]*) Report\s*\Z")
_SENTENCE = re.compile(r"\s*At \d{1,2}:\d\d:\d\d .*\b(?:un)?successfully\b")
_CSV = re.compile(r"\s*NODE,EVENT,DATE,TIME,")
_COLUMNS = {
    "scontext": ("SUBJ_LABEL", "SCONTEXT"),
    "tcontext": ("OBJ_LABEL", "TCONTEXT"),
    "tclass": ("OBJ_CLASS", "TCLASS", "CLASS"),
    "permission": ("PERM", "PERMISSION", "PERMISSIONS", "ACCESS"),
}
_PREVENTS = re.compile(r"SELinux (?:is preventing|prevents)\b")
_ACCESS = re.compile(
    r"(?:from |with )[‘’'\"]?(?P<access>[a-z_0-9]+(?:(?:, | and | )(?!with )[a-z_0-9]+)*?)[‘’'\"]? access(?:es)? "
    r"(?:on|to) (?:the |a |an )?(?P<tclass>[a-z_0-9]+)"
)
_CAPABILITY = re.compile(r"from using the [‘’'\"]?(?P<access>[a-z_0-9]+)[‘’'\"]? (?:capability|capabilities)")
_SCONTEXT = re.compile(r"\s*Source Context\s+(?P<value>\S+)\s*\Z", re.IGNORECASE)
_TCONTEXT = re.compile(r"\s*Target Context\s+(?P<value>\S+)\s*\Z", re.IGNORECASE)
_OBJECTS = re.compile(r"\s*Target Objects\s+(?P<name>.*?) *\[ (?P<tclass>[a-z_0-9]+) \]\s*\Z", re.IGNORECASE)
_PORT = re.compile(r"port (?P<number>[0-9]{1,5})")
_PATH = re.compile(r'/[^\s"]+')  # the kernel writes other paths in hexadecimal
_HASH = re.compile(
    r"\s*Hash:\s*(?P<comm>.*),(?P<source>[^,\s]+),(?P<target>[^,\s]+),(?P<tclass>[a-z_0-9]+),(?P<access>[a-z_0-9, ]+?)\s*\Z"
)
_KINDS = {"directory": "dir", "file": "file", "link": "lnk_file", "socket": "sock_file"}


def _record(
    values: Mapping[str, str], permissions: str, raw: str, *, comm: str = "", time: str = "", serial: int = 0
) -> Record:
    name = comm.encode("utf-8", "replace").hex().upper() if re.search(r'[\s"]', comm) else f'"{comm}"'
    who = f"comm={name} " if comm else ""
    who += _object(values.get("object", ""), permissions)
    contexts = " ".join(f"{key}={values[key]}" for key in ("scontext", "tcontext", "tclass"))
    verdict = values.get("verdict", "denied")
    return Record("", time, serial, "AVC", f"avc:  {verdict}  {{ {permissions} }} for  {who}{contexts}", raw, 0)


def _object(name: str, permissions: str) -> str:
    """Return the object that an alert names as a field of a record: a path, or a port; "" where it is neither."""
    port = _PORT.fullmatch(name)
    if port is not None:
        return f"{'dest' if 'name_connect' in permissions else 'src'}={port['number']} "
    return f'path="{name}" ' if _PATH.fullmatch(name) else ""


class TableReader(Reader):
    """Reads ``aureport --avc`` and ``ausearch --format csv``, and reports tables without denials."""

    form = Form.TABLE

    def __init__(self) -> None:
        super().__init__()
        self._rows = ""
        self._columns: list[str] = []

    def wants(self, line: str) -> bool:
        if _CSV.match(line) or _REPORT.match(line) or _SENTENCE.match(line):
            return True
        if self._columns:
            return line.count(",") >= len(self._columns) - 1
        return bool(self._rows) and bool(_NUMBERED.match(line))

    def read(self, line: str) -> Found:
        report = _REPORT.match(line)
        if report is not None:
            self._rows, self._columns = report["name"], []
            if self._rows != "AVC":
                self.refuse(Refusal.REPORT)
            return []
        if _SENTENCE.match(line):
            self.refuse(Refusal.TEXT)
            return [Unparsed(0, UnparsedReason.NOT_RAW, line[:MAX_TEXT])]
        if _CSV.match(line):
            self._columns = next(csv.reader([line.strip()]))
            self.refuse(Refusal.CSV)
            return []
        return self._csv_row(line) if self._columns else self._aureport_row(line)

    def _csv_row(self, line: str) -> Found:
        row = dict(zip(self._columns, next(csv.reader([line.strip()]), [])))
        if "AVC" not in row.get("EVENT", "") and "SELINUX" not in row.get("EVENT", ""):
            return []
        values = {key: next((row[name] for name in names if row.get(name)), "") for key, names in _COLUMNS.items()}
        if all(values.values()):
            return [_record(values, values["permission"].replace(",", " "), line)]
        return [Unparsed(0, UnparsedReason.NOT_RAW, line[:MAX_TEXT])]

    def _aureport_row(self, line: str) -> Found:
        """Read ``N. DATE TIME COMM SUBJECT SYSCALL CLASS PERMISSION OBJECT RESULT EVENT``; a comm may contain blanks."""
        if self._rows != "AVC":
            return []
        words = line.split()
        contexts = [at for at, word in enumerate(words) if at >= 4 and word.count(":") >= 2 and Context.parse(word)]
        if len(contexts) > 2:
            return [Unparsed(0, UnparsedReason.CONTEXTS_TWICE, line[:MAX_TEXT])]
        if len(contexts) < 2 or contexts[1] - contexts[0] < 4 or contexts[1] + 2 >= len(words):
            return [Unparsed(0, UnparsedReason.NOT_RAW, line[:MAX_TEXT])]
        subject, target = contexts
        result = words[target + 1]
        if result not in ("denied", "granted"):
            return [Unparsed(0, UnparsedReason.NO_DECISION, line[:MAX_TEXT])]
        values = {
            "scontext": words[subject],
            "tcontext": words[target],
            "tclass": words[subject + 2],
            "verdict": result,
        }
        permissions = " ".join(words[subject + 3 : target]).replace(",", " ")
        comm = " ".join(words[3:subject])
        serial = integer(words[target + 2]) or 0
        return [_record(values, permissions, line, comm=comm, time=f"{words[1]} {words[2]}", serial=serial)]


class AlertReader(Reader):
    """Reads alerts of sealert and of setroubleshoot in the journal. A raw message inside the alert takes precedence."""

    form = Form.ALERT

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[str, str] = {}
        self._title = ""
        self._has_record = False
        self._announced = False
        self._records = 0
        self._lonely: list[Unparsed] = []

    def wants(self, line: str) -> bool:
        if _PREVENTS.search(line) and "audit(" not in line:
            return True
        return bool(self._title) and any(one.match(line) for one in (_SCONTEXT, _TCONTEXT, _OBJECTS, _HASH))

    def read(self, line: str) -> Found:
        if _PREVENTS.search(line):
            done = self._close()
            self._title = line.strip()
            accesses = [*_ACCESS.finditer(line), *_CAPABILITY.finditer(line)]
            if len(accesses) == 1:
                self._note(accesses[0])
            return done
        for key, pattern in (("scontext", _SCONTEXT), ("tcontext", _TCONTEXT)):
            found = pattern.match(line)
            if found is not None:
                self._found.setdefault(key, found["value"])
        found = _OBJECTS.match(line)
        if found is not None:
            self._found["tclass"] = found["tclass"]
            self._found["object"] = found["name"]
        found = _HASH.match(line)
        if found is not None:
            self._found.update(tclass=found["tclass"], access=found["access"], comm=found["comm"])
        return []

    def _note(self, access: re.Match[str]) -> None:
        self._found["access"] = access["access"].replace(" and ", " ")
        tclass = access.groupdict().get("tclass")
        if tclass:
            self._found.setdefault("tclass", _KINDS.get(tclass, tclass))

    def record(self, line: str) -> None:
        """Note that the text contains the alert's raw message, so that its prose is not needed."""
        if "avc:" in line:
            self._has_record = self._has_record or self._announced or self._is_own(line)
            self._records += 1

    def beside(self, line: str) -> Found:
        """Note the heading of the alert's own raw messages."""
        self._announced = self._announced or (bool(self._title) and "Raw Audit Messages" in line)
        return []

    def _is_own(self, line: str) -> bool:
        """Tell whether a record can be the message of the current alert: same source, class and one permission, if given."""
        asked = re.split(r"[ ,]+", self._found.get("access", ""))
        told = [self._found[key] for key in ("scontext", "tclass") if key in self._found]
        return all(value in line for value in told) and any(word in line for word in asked)

    def end(self) -> Found:
        done = list(self._close())
        if not self._records and self._lonely:
            self.refusals[Refusal.ALERT] = len(self._lonely)
            done += self._lonely
        return done

    def _close(self) -> Found:
        """End the current alert, and return its record or, without a raw message, an unparsed entry."""
        title, found, has_record = self._title, self._found, self._has_record
        self._title, self._found, self._has_record, self._announced = "", {}, False, False
        if not title or has_record:
            return []
        record = _of_alert(title, found)
        if record is not None:
            return [record]
        self._lonely.append(Unparsed(0, UnparsedReason.NOT_RAW, title[:MAX_TEXT]))
        return []


def _of_alert(title: str, found: Mapping[str, str]) -> Optional[Record]:
    if not all(found.get(key) for key in ("scontext", "tcontext", "tclass", "access")):
        return None
    if any(Context.parse(found[key]) is None for key in ("scontext", "tcontext")):
        return None
    shown = "\n".join([title, *(f"{key}: {value}" for key, value in found.items())])
    return _record(found, found["access"].replace(",", " "), shown, comm=found.get("comm", ""))
