"""The public record of open leases, /run/sepolicyd/lease.json, for monitoring and for unprivileged users.

The file exists from before a lease opens until it has ended; its schema is policies/schema/lease.schema.json.
Ending a lease does not depend on this copy, only on the lease records.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sepolicyd.rollout.lease.lease import CorruptLease, Lease
from sepolicyd.storage.files import cannot_write, write_public

PUBLIC_RECORD = Path("/run/sepolicyd/lease.json")
SCHEMA_VERSION = 1


def public_document(items: Sequence[Lease | CorruptLease]) -> dict[str, Any]:
    """Return the content of the file. Times are epoch seconds."""
    leases = [
        {
            "id": item.id,
            "profile": item.profile,
            "domains": list(item.domains),
            "whole_system": item.whole_system,
            "hidden": item.hidden,
            "phase": item.phase.value,
            "opened": round(item.opened.wall, 3),
            "deadline": round(item.deadline_wall, 3),
            "by": item.by,
            "why": item.why,
            "failed_attempts": item.attempts,
        }
        for item in items
        if isinstance(item, Lease)
    ]
    damaged = [str(item.path) for item in items if isinstance(item, CorruptLease)]
    return {"schema": SCHEMA_VERSION, "leases": leases, "damaged_records": damaged}


def publish(path: Path, items: Sequence[Lease | CorruptLease]) -> None:
    """Write the file from the lease records, or remove it if there are none.

    :raises StateError: it could not be written or removed
    """
    text = _text(items)
    try:
        if not items:
            path.unlink(missing_ok=True)
        elif _content(path) != text:
            write_public(path, text.encode())
    except OSError as error:
        raise cannot_write(path, error, "removed") from error


def disagreement(path: Path, items: Sequence[Lease | CorruptLease]) -> str:
    """Return one sentence on how the file differs from the lease records, "" if it does not."""
    content = _content(path)
    if not items:
        return f"{path} still names a lease that has ended" if content else ""
    return "" if content == _text(items) else f"{path} does not match the lease records: monitoring sees a wrong state"


def _text(items: Sequence[Lease | CorruptLease]) -> str:
    return json.dumps(public_document(items), sort_keys=True, indent=1) + "\n"


def _content(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    return ""
