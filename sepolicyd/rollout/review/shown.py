"""Record of the candidates last shown to each user, so that an approval by id covers only what that user has seen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from sepolicyd.errors import RefusedError, StateError
from sepolicyd.rollout.lease.lifecycle import caller
from sepolicyd.rules.assess.assess import Assessed
from sepolicyd.settings import Settings
from sepolicyd.storage.files import write_whole

MAX_KEPT = 50_000  # candidates, the latest


def record(settings: Settings, items: Iterable[Assessed]) -> None:
    """Record that these candidates were shown to the invoking user.

    A failed write is ignored: a user who cannot write the record cannot approve either.
    """
    items = tuple(items)
    if not items or not settings.state.is_dir():
        return
    known = dict(_read(settings))
    for item in items:
        known.pop(item.candidate.id, None)  # the latest is last
        known[item.candidate.id] = sorted(map(str, item.candidate.accesses))
    with suppress(StateError):
        write_whole(_path(settings), json.dumps(dict(list(known.items())[-MAX_KEPT:])).encode())


def require_shown(settings: Settings, item: Assessed) -> None:
    """Check that the user has seen the candidate in its present form.

    :raises RefusedError: the candidate was never shown to this user, or requests more than it did then
    """
    candidate = item.candidate
    look = f"run: sepolicyd show {candidate.id}; or name the revision that you have reviewed: {candidate.id}@REVISION"
    shown = _read(settings).get(candidate.id)
    if shown is None:
        raise RefusedError(f"candidate {candidate.id} has not been shown to {caller()} yet", look)
    new = [str(access) for access in candidate.accesses if str(access) not in shown]
    if new:
        raise RefusedError(f"candidate {candidate.id} has changed since it was shown: it now also requests {_named(new)}", look)


def _named(accesses: list[str]) -> str:
    more = f" and {len(accesses) - 5} more" if len(accesses) > 5 else ""
    return ", ".join(accesses[:5]) + more


def _path(settings: Settings) -> Path:
    """Return the path of the record: one file per calling user, next to the decisions in root's private directory."""
    return settings.decisions_db.parent / f"shown.{re.sub(r'[^A-Za-z0-9_.-]', '_', caller())[:64]}.json"


def _read(settings: Settings) -> Mapping[str, list[str]]:
    """Read the record; an unreadable or damaged file counts as empty."""
    with suppress(OSError, ValueError):
        values = json.loads(_path(settings).read_text(encoding="utf-8"))
        if isinstance(values, dict):
            return {str(key): [str(one) for one in value] for key, value in values.items() if isinstance(value, list)}
    return {}
