"""Versions of the module from history.jsonl: their gains and losses, and the first version of each rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sepolicyd.access import Access
from sepolicyd.module.source import ALLOW, Rule
from sepolicyd.report.model import Change
from sepolicyd.rollout.apply.changes_besides_modules import from_json
from sepolicyd.rollout.apply.versions import NONE, Versions, rules_from
from sepolicyd.rollout.history import Entry, HistoryEvent


def changes_of(entries: Iterable[Entry]) -> tuple[Change, ...]:
    """Describe the entries of one module, oldest first."""
    return tuple(_change(entry) for entry in entries)


def _change(entry: Entry) -> Change:
    details = entry.details
    return Change(
        what=entry.what.value,
        who=entry.who,
        at=entry.at,
        version=entry.version,
        previous=_number(details.get("previous")),
        gained=accesses_in(details.get("gained")),
        lost=accesses_in(details.get("lost")),
        settings=tuple(_settings(details.get("changes"))),
        notes=tuple(_notes(details)),
        policy=str(details.get("policy", "")),
    )


def _settings(values: Any) -> Iterable[str]:
    for one in values if isinstance(values, list) else ():
        with suppress(KeyError, TypeError, ValueError):
            yield str(from_json(one))


def _notes(details: Mapping[str, Any]) -> Iterable[str]:
    if details.get("reason"):
        yield f"reason: {details['reason']}"
    for one in _list(details, "overrides"):
        if isinstance(one, Mapping):
            yield f"guard overridden for {one.get('access')}: {one.get('reason')} ({one.get('by')})"
    opened = details.get("opened")
    for name, count in sorted(opened.items()) if isinstance(opened, Mapping) else ():
        yield f"boolean {name} enables {count} accesses"
    for name in _list(details, "base"):
        yield f"base module {name} installed together"
    for text in _list(details, "left_out"):
        yield f"omitted: {text}"
    if details.get("confirm_within"):
        yield f"on trial for {_number(details['confirm_within'])} seconds"


def _list(details: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = details.get(key)
    return value if isinstance(value, list) else ()


def _number(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and abs(value) < 1 << 53 else 0


def accesses_in(values: Any) -> tuple[Access, ...]:
    """Parse accesses from history.jsonl; invalid texts are skipped."""
    found = []
    for text in values if isinstance(values, list) else ():
        with suppress(ValueError):
            found.append(parse_access(str(text)))
    return tuple(found)


def parse_access(text: str) -> Access:
    """Parse the output of ``str(access)``.

    :raises ValueError: the text is not an access
    """
    source, pair, permission, *ranges = text.split()
    target, _, tclass = pair.rpartition(":")
    xperms = tuple((int(low, 16), int(high or low, 16)) for low, _, high in (one.partition("-") for one in ranges))
    return Access(source, target, tclass, permission, xperms)


def since(entries: Iterable[Entry]) -> dict[Rule, int]:
    """Return, for each rule of the installed version, the version since which it has been present without interruption."""
    found: dict[Rule, int] = {}
    for entry in entries:
        if entry.what is HistoryEvent.CONFIRM:
            continue
        for rule in _rules(entry.details.get("dropped_rules")):
            found.pop(rule, None)
        for rule in _rules(entry.details.get("added_rules")):
            found.setdefault(rule, entry.version)
    return found


def _rules(values: Any) -> Sequence[Rule]:
    with suppress(ValueError, TypeError):
        return rules_from(values or ())
    return ()


def gained_by(entries: Iterable[Entry], versions: Versions) -> frozenset[Access]:
    """Return the accesses that the installed version gained over the policy without the module, from the history.

    A rollback returns to the gains of that version. If it wrote part of a version, the gains are the accesses that some
    version gained and that a rule of the part allows.

    :param entries: entries of this module, oldest first
    """
    gains: dict[int, frozenset[Access]] = {NONE: frozenset()}
    installed = NONE
    for entry in entries:
        if entry.what is HistoryEvent.CONFIRM:
            continue
        installed, details = entry.version, entry.details
        if entry.what is HistoryEvent.APPLY:
            before = gains.get(_number(details.get("previous")), frozenset())
            gains[installed] = (before - set(accesses_in(details.get("lost")))) | set(accesses_in(details.get("gained")))
        elif installed not in gains:
            keys = {_key(rule.access) for rule in versions.load(installed).rules if rule.kind == ALLOW}
            gains[installed] = frozenset(a for a in frozenset().union(*gains.values()) if _key(a) in keys)
    return gains[installed]


def _key(access: Access) -> tuple[str, str, str, str]:
    return (*access.group, access.permission)
