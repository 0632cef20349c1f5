"""Encode evidence as the text of a database row, and decode it. Decoding checks each field, since rows are untrusted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from sepolicyd.access import SELF, Access, is_identifier
from sepolicyd.rules.evidence import MAX_KEPT, MAX_SAMPLE_CHARS, MAX_SAMPLES, MAX_TIMES, Evidence

MAX_BODY_CHARS = 32_768  # per row; bounds the file size under a flood of long names
SMALL_BODY_CHARS = 2048  # per row if there are many rows
MAX_READ_CHARS = 1 << 16
MAX_TEXT_CHARS = 8192
MAX_INTEGER = 1 << 53
TRIMMED = ((8, 256), (3, 96))  # how many values of a field are kept, and how many characters of each


class BadRow(ValueError):  # noqa: N818 - a property of the data, not a failure of the program
    """A row that the daemon cannot have written; the text is the reason."""


def render(evidence: Evidence, limit: int = MAX_BODY_CHARS) -> str:
    """Return the JSON of the non-empty fields. To stay within the limit, samples are dropped first, then long texts are cut."""
    body = _dump(evidence)
    if len(body) > limit:
        body = _dump(replace(evidence, samples=tuple(text[:1024] for text in evidence.samples[:1])))
    for kept, chars in TRIMMED:
        if len(body) > limit:
            body = _dump(_trimmed(evidence, kept, chars))
    return body


def parse(body: object) -> Evidence:
    """Parse the text of one row.

    :raises BadRow: the text is too long or not JSON, or a field has a type or size that :func:`render` never writes
    """
    if not isinstance(body, str) or len(body) > MAX_READ_CHARS:
        raise BadRow("the row is not text, or too long")
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRow("the row is not JSON") from None
    return from_values(values)


def from_values(values: object) -> Evidence:
    """Return the evidence in a decoded JSON object.

    :raises BadRow: a field has a type or size that :func:`render` never writes
    """
    if not isinstance(values, dict):
        raise BadRow("the row is not a JSON object")
    unknown = set(values) - set(_CHECKS)
    if unknown:
        raise BadRow(f"unknown field {sorted(unknown)[0][:64]!r}")
    checked = {}
    for name, value in values.items():
        try:
            checked[name] = _CHECKS[name](value)
        except (TypeError, ValueError, AttributeError):
            raise BadRow(f"field {name} has a wrong type or size") from None
    evidence = Evidence(**checked)
    if evidence.count < 1:
        raise BadRow("the count is below one")
    return evidence


def access_of(names: Sequence[object]) -> Access:
    """Return the access of one row. The names were written by another user or host.

    :param names: source, target, class and permission

    :raises BadRow: a name is not a valid identifier, or the target should be SELF
    """
    texts = [name for name in names if isinstance(name, str) and is_identifier(name)]
    if len(texts) != len(names):
        raise BadRow("a name that is not a valid identifier")
    source, target, tclass, permission = texts
    if target == source:
        raise BadRow(f"the target equals the source, but must be written as {SELF}")
    return Access(source, target, tclass, permission)


def to_values(evidence: Evidence) -> dict[str, Any]:
    """Return the non-empty fields."""
    values = {spec.name: getattr(evidence, spec.name) for spec in fields(evidence)}
    return {name: value for name, value in values.items() if value}


def _dump(evidence: Evidence) -> str:
    # surrogates (undecodable bytes of the log) must not reach SQLite, which accepts UTF-8 only: ensure_ascii writes \udcXX
    return json.dumps(to_values(evidence), separators=(",", ":"))


def _trimmed(evidence: Evidence, kept: int, chars: int) -> Evidence:
    cut: dict[str, Any] = {"samples": tuple(text[:chars] for text in evidence.samples[:1])}
    for spec in fields(evidence):
        value = getattr(evidence, spec.name)
        if isinstance(value, tuple) and spec.name not in ("samples", "times"):
            cut[spec.name] = tuple(_cut(item, chars) for item in value[:kept])
    return replace(evidence, **cut)


def _cut(item: Any, chars: int) -> Any:
    if isinstance(item, str):
        return item[:chars]
    return tuple(_cut(part, chars) for part in item) if isinstance(item, tuple) else item


def _integer(value: Any) -> int:
    if type(value) is not int or not -MAX_INTEGER < value < MAX_INTEGER:
        raise TypeError
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not -MAX_INTEGER < value < MAX_INTEGER:
        raise TypeError
    return float(value)


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > MAX_TEXT_CHARS:
        raise TypeError
    return value


def _many(check: Callable[[Any], Any], limit: int = MAX_KEPT) -> Callable[[Any], tuple[Any, ...]]:
    def checked(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) > limit:
            raise TypeError
        return tuple(check(item) for item in value)

    return checked


def _pair(left: Callable[[Any], Any], right: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, Any]]:
    def checked(value: Any) -> tuple[Any, Any]:
        if type(value) is not list or len(value) != 2:
            raise TypeError
        return (left(value[0]), right(value[1]))

    return checked


def _sample(value: Any) -> str:
    text = _text(value)
    if len(text) > MAX_SAMPLE_CHARS:
        raise TypeError
    return text


def _cell(value: Any) -> tuple[int, int]:
    start, width = _pair(_integer, _integer)(value)
    if width < 1 or width & (width - 1):
        raise ValueError
    return (start, width)


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "count": _integer,
    "first": _number,
    "last": _number,
    "enforced": _integer,
    "hosts": _integer,
    "pids": _many(_integer),
    "ioctls": _many(_integer),
    "ports": _many(_pair(_text, _integer)),
    "contexts": _many(_pair(_text, _text)),
    "times": _many(_cell, MAX_TIMES),
    "samples": _many(_sample, MAX_SAMPLES),
}
_CHECKS.update((spec.name, _many(_text)) for spec in fields(Evidence) if spec.name not in _CHECKS)
