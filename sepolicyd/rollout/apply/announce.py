"""Journal messages of changes to this machine's policy. Changes below another root are announced nowhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from sepolicyd.kernel.journal import MessageId, Priority, send
from sepolicyd.rollout.history import HistoryEvent
from sepolicyd.settings import MODULE_PREFIX, Settings

MESSAGES = {
    HistoryEvent.APPLY: MessageId.POLICY_APPLIED,
    HistoryEvent.ROLLBACK: MessageId.POLICY_ROLLED_BACK,
    HistoryEvent.RETURN: MessageId.TRIAL_RETURNED,
}


def announce(
    settings: Settings, text: str, message: MessageId, priority: Priority = Priority.NOTICE, profile: str = ""
) -> None:
    """Write to the journal. Raises nothing."""
    if settings.live:
        send(text, priority, message, profile=profile)


def say_in_unit(settings: Settings, text: str, priority: Priority) -> None:
    """Write to stderr, in a unit with the level as sd-daemon(3) defines it. In a unit of this machine nothing is written:
    :func:`announce` has put the same into the journal."""
    in_unit = "INVOCATION_ID" in os.environ
    if not (in_unit and settings.live):
        sys.stderr.write(f"{f'<{int(priority)}>' if in_unit else ''}sepolicyd: {text}\n")


def announce_change(settings: Settings, details: Mapping[str, Any]) -> None:
    """Announce a finished operation, whose details are those of the apply journal."""
    kind = HistoryEvent.of(str(details["kind"]))
    message = MESSAGES.get(kind)
    if message is None or not settings.live:
        return
    history = details.get("history", {})
    profile = str(details["module"])[len(MODULE_PREFIX) :]
    announce(settings, change_text(kind, details), message, profile=profile)
    within = history.get("confirm_within") or 0
    if kind is HistoryEvent.APPLY and within:
        until = datetime.fromtimestamp(float(details["at"]) + float(within), timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        text = f"version {details['to']} of {details['module']} is on trial until {until}; {details['by']} asked for it"
        announce(settings, text, MessageId.TRIAL_STARTED, profile=profile)


def change_text(kind: HistoryEvent, details: Mapping[str, Any]) -> str:
    """Return one sentence about a finished operation."""
    history = details.get("history", {})
    old, new = details["from"] or "none", details["to"] or "none"
    text = f"{details['module']} went from version {old} to {new} by {details['by']}"
    if kind is HistoryEvent.APPLY:
        return f"{text}: {len(history.get('gained', ()))} accesses gained, {len(history.get('lost', ()))} lost"
    reason = f" ({history['reason']})" if history.get("reason") else ""
    return f"{text}{reason}: {len(history.get('added_rules', ()))} rules added, {len(history.get('dropped_rules', ()))} removed"
