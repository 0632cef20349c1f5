"""Read a kept AVC record of the kernel and the other records of its event in one pass.

The expression of :mod:`avc_patterns` has already split the record into fields without blanks. Events with a line in an
unusual form are read by :func:`~sepolicyd.audit.parse.denial.denials_of_lines`, which gives the same Denial
(tests/audit/scan/test_kept_record.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Optional

from sepolicyd.audit.model import AvcDecision, Context, Denial, EventId, Kind
from sepolicyd.audit.parse import fields as field
from sepolicyd.audit.parse.classes import is_cut
from sepolicyd.audit.parse.companions import Companions
from sepolicyd.audit.parse.denial import COMPANION, MAX_COMPANIONS, MAX_HEADER, MAX_RAW, denials_of_lines, object_fields
from sepolicyd.audit.parse.record import MAX_RECORD, decode
from sepolicyd.audit.scan.avc_patterns import BRACE, CLASS, KERNEL_AVC, NODE, PERMISSIVE, STAMP, VERDICT

_BESIDE = re.compile(rb"(?:node=([^ \n]+) )?type=(SYSCALL|PATH|CWD|EXECVE|PROCTITLE|SOCKADDR) msg=audit\(([0-9.]+:[0-9]+)\): ")
_PERMISSIVE = {b"1": True, b"0": False}


def read_kept(lines: Sequence[bytes]) -> Optional[Denial]:
    """Return the denial on the first line, None if it holds none. The other lines are records of the same event."""
    match = KERNEL_AVC.match(lines[0] + b"\n")
    denial = None if match is None else _denial(match, lines)
    if denial is not None:
        return denial
    found = denials_of_lines(lines)
    return next(iter((*found.denials, *found.granted)), None)


def _denial(match: re.Match[bytes], lines: Sequence[bytes]) -> Optional[Denial]:
    """Build the denial; return None if a line has a form that only the parser reads."""
    line = lines[0]
    tclass = match[CLASS].decode()
    is_plain = b"\x1d" not in line and b"\t" not in line and line.find(b" type=", match.end(STAMP)) < 0
    if not is_plain or len(line) > MAX_RECORD or is_cut(tclass):
        return None
    raw = [decode(line)]
    companions = _companions(match, lines, raw)
    values = _values(raw[0])
    if companions is None or values is None:
        return None
    scontext, tcontext = Context.parse(values["scontext"]), Context.parse(values["tcontext"])
    if scontext is None or tcontext is None:
        return None
    time, _, serial = match[STAMP].decode().partition(":")
    return Denial(
        event=EventId(field.text(match[NODE] or b""), time, int(serial)),
        kind=Kind.AVC,
        verdict=AvcDecision.DENIED if match[VERDICT] == b"denied" else AvcDecision.GRANTED,
        permissive=_PERMISSIVE.get(match[PERMISSIVE]),
        raw=tuple(raw[:MAX_RAW]),
        scontext=scontext,
        tcontext=tcontext,
        tclass=tclass,
        permissions=tuple(dict.fromkeys(match[BRACE].decode().split())),
        **object_fields(values, tclass, companions),
        **companions.process(values),
    )


def _values(line: str) -> Optional[dict[str, str]]:
    """Return the fields behind the permissions, the first value of a repeated key."""
    values: dict[str, str] = {}
    for word in line[line.index("} for ") + 6 :].split(" "):
        key, _, written = word.partition("=")
        if not key:
            continue  # two blanks
        if key in values or key[0] == "-":
            return None
        values[key] = field.value_of(written, encoded=key in field.ENCODED)
    return values


def _companions(match: re.Match[bytes], lines: Sequence[bytes], raw: list[str]) -> Optional[Companions]:
    """Return the other records of the event, or None if one has an unusual form. Their lines are appended to ``raw``."""
    companions = Companions()
    stamp, node = match[STAMP], match[NODE]
    for line in lines[1 : 1 + MAX_COMPANIONS]:
        begin = _BESIDE.match(line)
        if begin is None:
            if COMPANION.search(line, 0, MAX_HEADER):
                return None
            continue
        if begin[3] != stamp or begin[1] != node or line.find(b" type=", begin.end()) >= 0 or len(line) > MAX_RECORD:
            return None
        text = decode(line)
        raw.append(text)
        companions.add(begin[2].decode(), text.partition("): ")[2])
    return companions
