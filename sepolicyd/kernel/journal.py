"""Structured messages to the systemd journal: stable MESSAGE_IDs, explained by systemd/sepolicyd.catalog.

Uses the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) over its datagram socket, or syslog(3) without one.
"""

from __future__ import annotations

import socket
import struct
import syslog
from enum import Enum
from typing import Optional

SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "sepolicyd"
MAX_FIELD_BYTES = 48 << 10  # longer datagrams need a file descriptor; sepolicyd's messages are single sentences


class MessageId(str, Enum):
    """MESSAGE_ID of a message. The values are documented in systemd/sepolicyd.catalog and never change their meaning."""

    LEASE_OPENED = "4325c8c2cb16409bbf64503ec98ae72f"
    LEASE_ENDED = "84ce5f0823614c9fb1f600483dd6afb7"
    LEASE_NOT_ENDED = "8988ad3ad05a4654a49dad865fa97277"
    LEASE_LEFT_OVER = "74061df2e97545538ae9c28f2a2f4e93"
    LEASE_RECORD_DAMAGED = "a28d667f73f545d8be9860b555d97875"
    LEASE_FOREIGN = "5d841592260c48c486d55d3bba4410fa"
    LEASE_NOT_PUBLISHED = "e21e335462034e7c906673606a9f112e"
    LEASE_FAULT = "28b2f3ed46b64d6c90aa31caf586d13e"
    ALERT_COMMAND_FAILED = "51e083135e4a44bfa8d48f796b3e9721"
    POLICY_APPLIED = "7f694bbae39e48edb600a0fb9a7fc916"
    POLICY_ROLLED_BACK = "b4af01d9302b4353b5b73e9647105d77"
    POLICY_CHANGE_UNDONE = "5e3a1e19a0e1445fb9c292f771b53801"
    TRIAL_STARTED = "e5ac5ec847ad45199783dcb47b48d2ca"
    TRIAL_CONFIRMED = "68589a8cfd614c2f9aee36c112d80489"
    TRIAL_RETURNED = "aed7327190c44a54937b4c358f482da8"
    TRIAL_NOT_RETURNED = "f5db34dfa7334338b409e6bafb187444"
    EVENTS_LOST = "62deebb4bbf8440084df1e62b2a16c6e"
    LOG_GAP = "413d4ca0151046ec946d063916151446"


class Priority(int, Enum):
    """The syslog(3) levels in use."""

    CRITICAL = syslog.LOG_CRIT
    ERROR = syslog.LOG_ERR
    WARNING = syslog.LOG_WARNING
    NOTICE = syslog.LOG_NOTICE


def send(text: str, priority: Priority, message: MessageId, *, profile: str = "", path: Optional[str] = None) -> None:
    """Write one message. Raises nothing, because a full or missing journal must not prevent the end of a lease.

    :param profile: value of the field SEPOLICYD_PROFILE
    :param path: the journal's socket
    """
    fields = {
        "MESSAGE": text,
        "PRIORITY": str(int(priority)),
        "MESSAGE_ID": message.value,
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        **({"SEPOLICYD_PROFILE": profile} if profile else {}),
    }
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(b"".join(_field(name, value) for name, value in fields.items()), path or SOCKET)
    except OSError:
        syslog.openlog(IDENTIFIER, syslog.LOG_PID, syslog.LOG_DAEMON)
        syslog.syslog(int(priority), text.replace("\0", "?"))


def _field(name: str, value: str) -> bytes:
    """Return one field in the protocol's binary form, in which a line break in the value cannot start another field."""
    data = value.encode("utf-8", "replace")[:MAX_FIELD_BYTES]
    return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
