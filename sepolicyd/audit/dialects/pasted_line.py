"""Convert one logical line of pasted text to records of the kernel's grammar.

A record with a complete header is taken verbatim from the header on, without any prefix (quotation mark of a mail, file name
printed by grep, syslog prefix). Only without such a header are the encodings of web pages and terminals undone, and the bare
values of ``ausearch -i`` separated.
"""

from __future__ import annotations

import re
from typing import Union

from sepolicyd.audit.model import Unparsed, UnparsedReason
from sepolicyd.audit.parse import header
from sepolicyd.audit.parse.fields import ENCODED
from sepolicyd.audit.parse.record import MARK, MAX_TEXT, Record, from_header

RELEVANT = re.compile(
    r"avc:|SELINUX_ERR|audit\(|\btype=[A-Z0-9]|\bop=security_|\bsecurity_(?:compute|bounded|validate)_|^\W*AVC "
)
_VERBATIM = re.compile(rf"(?:{header.AUDITD})|(?:type=[0-9]{{4}} audit\([0-9]{{1,12}}\.[0-9]{{1,9}}:[0-9]{{1,20}}\): ?)")
# A header with a localized date, without a type, or with redacted values.
_LOOSE = re.compile(
    r"(?:\b(?:node|host)=(?P<node>[^\s,]+)[ ,]\s*)?"
    r"(?:\bt?ype=(?P<type>[A-Za-z][A-Za-z0-9_]*(?:\[\d+\])?|\d+) ?,?\s*(?:msg=)?)?audit\((?P<stamp>[^()]{0,80})\) *:? ?"
)
_JOURNAL = re.compile(
    r"(?:^|\baudit(?:\[\d+\])?: |^[\s>#*`'\"]*)(?P<type>(?:USER_)?(?:AVC|SELINUX_ERR|MAC_[A-Z_]+)|"
    r"SYSCALL|PATH|CWD|PROCTITLE|SOCKADDR|EXECVE) (?=\S)"
)
_DATE = re.compile(r"[0-9][/ -][0-9]")  # ausearch -i decodes hexadecimal strings and removes quotes
_NUMBER_ONLY = re.compile(r"\btype=(?P<type>\d{4})\b *:? *")
_ENTITIES = (
    *(("&quot;", '"'), ("&#34;", '"'), ("&#39;", "'"), ("&#x27;", "'"), ("&lt;", "<"), ("&gt;", ">")),
    *(("&nbsp;", " "), ("&#160;", " "), ("&amp;", "&")),
)
_ENRICHED = re.compile("'(?:#035|\u241d)(?=[A-Z][A-Z0-9_]*=)")
_NEWLINE = re.compile(r"(?:#012|\\n|\\x0a) *(?=exe=)")
_KEY = r"[A-Za-z_][A-Za-z0-9_.\[\]-]*"
# A bare value of ausearch -i extends over blanks up to the next key.
_LOOSE_FIELD = re.compile(rf'(?P<key>{_KEY})=(?:"(?P<quoted>[^"]*)"|(?P<bare>[^\s"]*(?:[ \t]+(?!{_KEY}=)[^\s"]+)*))')
_CONTEXT_KEYS = frozenset({"scontext", "tcontext", "tclass", "permissive", "perms", "oldcontext", "newcontext", "taskcontext"})
_GLUED = re.compile(r"(?<=[a-z0-9)])(?=(?:tcontext|tclass|permissive)=)")
_LONELY_SIGN = re.compile(r"(?<=[a-z]) =(?=[^\s=\"])")
_DECISION = re.compile(r"avc:\s*(?:denied|granted)\s*\{[^{}\"=]*\}\s*(?:for\b)?\s*")
_OTHER_MODULE = re.compile(r"\(XEN\)|\blsm=(?!selinux)[A-Za-z]+|apparmor=", re.IGNORECASE)
_ERROR = re.compile(r"\bop=security_[a-z_]+ |\bsecurity_(?:compute_sid|bounded_transition|validate_transition): ")
_AGAIN = re.compile(r"avc:\s+(?:denied|granted)\s*\{")


def clean(text: str) -> str:
    """Undo encodings of web pages, mails and JSON: no-break spaces, HTML entities, escaped quotes and newlines."""
    if "\xa0" in text:
        text = text.replace("\xa0", " ")
    if "&" in text:
        for entity, character in _ENTITIES:
            text = text.replace(entity, character)
    if '\\"' in text or "\\u0027" in text:
        text = text.replace('\\"', '"').replace("\\u0027", "'")
    return undo_syslog(text)


def undo_syslog(text: str) -> str:
    """Undo rsyslog's escapes and the symbol for the separator (U+241D), only at the end of a user-space message."""
    return _NEWLINE.sub(" ", _ENRICHED.sub("'\x1d", text))


def is_page(text: str) -> bool:
    """Tell whether a line with a record header was copied from a web page (missing quotes, characters outside ASCII).

    No value can cause this in a raw line, because the kernel writes such values in hexadecimal.
    """
    if "\xa0" in text and "type=AVC " in text[:200]:
        return True
    return '"' not in text and ("comm=&quot;" in text or "comm=&#34;" in text or ": avc:&nbsp;" in text)


def records_of(text: str, number: int = 0) -> list[Union[Record, Unparsed]]:
    """Return the records on a line of pasted text. Never raises."""
    verbatim = _VERBATIM.search(text)
    if verbatim is not None and _is_outside(text[: verbatim.start()]) and not is_page(text):
        return [_verbatim(undo_syslog(text[verbatim.start() :]), text, number)]
    cleaned = clean(text)
    found = _LOOSE.search(cleaned)
    mark = cleaned.find(MARK)
    if found is not None and (mark < 0 or found.end() <= mark) and _is_outside(cleaned[: found.start()]):
        return _with_loose_header(found, cleaned, text, number)
    return _without_header(cleaned, text, number)


def _is_outside(before: str) -> bool:
    """Tell whether the text before a header is not part of a record, so that the header cannot be inside a value."""
    return "=" not in before and ('"' not in before or before.endswith('"'))


def _verbatim(text: str, raw: str, number: int) -> Union[Record, Unparsed]:
    found = header.match_header(text)
    if found is None:
        return Unparsed(number, UnparsedReason.NO_HEADER, raw[:MAX_TEXT])
    record = from_header(found, text, number)
    body = _without_trailer(record.body) if record.type.startswith("USER_") else record.body.rstrip("`'], \t")
    return record._replace(raw=raw, body=body)


def _with_loose_header(found: re.Match[str], cleaned: str, raw: str, number: int) -> list[Union[Record, Unparsed]]:
    if _OTHER_MODULE.search(cleaned[: found.start()]):
        return [Record("", "", 0, "AVC", "lsm=other", raw, number)]
    time, serial = split_stamp(found["stamp"])
    body = cleaned[found.end() :]
    if _LOOSE.search(body) and "msg='" not in body:
        # values are unquoted here, so a lost newline and a name that contains a header cannot be distinguished
        return [Unparsed(number, UnparsedReason.CONTEXTS_TWICE, raw[:MAX_TEXT], "a second header")]
    kind = found["type"] or ("USER_AVC" if "USER_AVC" in cleaned[: found.start()] or "msg='avc:" in body else "AVC")
    kind = header.type_name(kind)
    body = canonical(kind, body, interpreted=_DATE.search(time) is not None)
    return [Record(found["node"] or "", time, serial, kind, body, raw, number)]


def _without_header(cleaned: str, raw: str, number: int) -> list[Union[Record, Unparsed]]:
    mark = cleaned.find(MARK)
    before = cleaned if mark < 0 else cleaned[:mark]
    if mark >= 0 and _OTHER_MODULE.search(before):
        return [Record("", "", 0, "AVC", "lsm=other", raw, number)]
    for pattern in (_JOURNAL, _NUMBER_ONLY):
        found = pattern.search(before)
        if found is not None and '"' not in before[: found.start()]:
            kind = header.type_name(found["type"])
            if mark < 0 and kind not in header.SPEAKING and kind not in header.NOTICES:
                return []  # without time and serial, its event is unknown
            body = cleaned[mark if pattern is _NUMBER_ONLY and mark >= 0 else found.end() :]
            if kind == "SELINUX_ERR" and not re.match(r"op=|security_", body):
                return []
            return _pieces(kind, body, raw, number)
    if mark < 0:
        error = _ERROR.search(cleaned)
        return [] if error is None else [Record("", "", 0, "SELINUX_ERR", cleaned[error.start() :], raw, number)]
    return _pieces("USER_AVC" if "USER_AVC" in before else "AVC", cleaned[mark:], raw, number)


def _pieces(kind: str, body: str, raw: str, number: int) -> list[Union[Record, Unparsed]]:
    """Split a line without headers into messages; the next message begins after the class of the previous one."""
    bodies = [body]
    if kind == "AVC":
        starts = [0]
        for found in list(_AGAIN.finditer(body))[1:65]:
            piece = body[starts[-1] : found.start()]
            if piece.count('"') % 2 == 0 and "tclass=" in piece:
                starts.append(found.start())
        bodies = [body[start:end] for start, end in zip(starts, [*starts[1:], len(body)])]
    return [Record("", "", 0, kind, canonical(kind, one), raw, number) for one in bodies]


def canonical(kind: str, body: str, *, interpreted: bool = False) -> str:
    """Return a body in the kernel's grammar: quote bare values that contain blanks, and restore lost blanks.

    :param interpreted: the text comes from ``ausearch -i``, so bare values are not hexadecimal
    """
    if kind.startswith("USER_"):
        return _without_trailer(body)
    body = _LONELY_SIGN.sub("=", _GLUED.sub(" ", body.strip("`'] \t")))
    decision = _DECISION.match(body.lstrip())
    start = len(body) - len(body.lstrip()) + decision.end() if decision else 0
    written = [body[:start].rstrip()] if decision else []
    end = start
    for found in _LOOSE_FIELD.finditer(body, start):
        between = body[end : found.start()].strip()
        if between:
            written.append(between)
        written.append(_field(found, interpreted=interpreted))
        end = found.end()
    rest = body[end:].strip()
    return " ".join([*written, rest] if rest else written)


def _field(found: re.Match[str], *, interpreted: bool) -> str:
    key, quoted = found["key"], found["quoted"]
    if quoted is not None:
        return f'{key}="{quoted}"'
    bare = found["bare"].rstrip(" ,")
    if key in _CONTEXT_KEYS or not ((interpreted and key in ENCODED) or re.search(r"\s", bare)):
        return f"{key}={bare}"
    return f'{key}="{bare}"'


def _without_trailer(body: str) -> str:
    """Return a user-space body without text that a web page or a mail has added after its closing quote."""
    end = body.rfind("'")
    behind = body[end + 1 :].strip()
    if end < 0 or not behind or MARK in behind or behind[0] in "\x1d" or re.match(r"[A-Z][A-Z0-9_]*=", behind):
        return body
    return body[: end + 1]


def split_stamp(stamp: str) -> tuple[str, int]:
    """Return (time, serial) of "1795373145.784:172" or of a date with a serial; ("", 0) if it was redacted."""
    time, _, serial = stamp.rpartition(":")
    serial = serial.strip()
    if not serial.isascii() or not serial.isdigit() or len(serial) > 20:
        return "", 0
    return time.strip(), int(serial)
