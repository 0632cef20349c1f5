"""Grammar of the header of an audit record, and sets of record types.

A header is written by auditd (``node=N type=T msg=audit(SECONDS.MS:SERIAL): ``, see name_format in auditd.conf(5)) or, without
auditd, by the kernel (``audit: type=1400 audit(...): ``, kernel/audit.c). It counts only at the beginning of a line: the same
text further to the right is part of a value, which a process may have chosen.
"""

from __future__ import annotations

import re

# linux/audit.h: numbers as in the kernel's ring buffer, and UNKNOWN[n] from a user space older than the kernel.
NUMBERED = {
    "1107": "USER_AVC",
    "1108": "USER_SELINUX_ERR",
    "1300": "SYSCALL",
    "1302": "PATH",
    "1306": "SOCKADDR",
    "1307": "CWD",
    "1309": "EXECVE",
    "1320": "EOE",
    "1327": "PROCTITLE",
    "1400": "AVC",
    "1401": "SELINUX_ERR",
    "1403": "MAC_POLICY_LOAD",
    "1404": "MAC_STATUS",
    "1405": "MAC_CONFIG_CHANGE",
}
SPEAKING = frozenset({"AVC", "USER_AVC", "SELINUX_ERR", "USER_SELINUX_ERR"})
"""Types that may report a denial."""
NOTICES = frozenset({"MAC_STATUS", "MAC_POLICY_LOAD", "MAC_CONFIG_CHANGE", "USER_MAC_STATUS", "USER_MAC_POLICY_LOAD",
                     "USER_MAC_CONFIG_CHANGE"})  # fmt: skip

STAMP = r"audit\((?P<time>[0-9]{1,12}\.[0-9]{1,9}):(?P<serial>[0-9]{1,20})\)"
TYPE = r"type=(?P<type>[A-Z][A-Z0-9_]*|[0-9]{4}|UNKNOWN\[[0-9]{1,6}\])"
AUDITD = rf"(?:(?:node|host)=(?P<node>[^ \n]+) )?{TYPE} {{1,2}}msg={STAMP}: ?"
_SYSLOG = (
    r"(?:(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}(?:\.[0-9]+)?|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.,+Z-]+) "
    r"(?:[A-Za-z0-9_.-]+ )?)?"
)
_PRINTK = r"(?:\[[^]\"={}\n]{1,40}\](?:\[ *[A-Z][0-9]+\])? )?"
KERNEL = rf"(?:<[0-9]{{1,3}}>)?(?:{_SYSLOG}kernel: )?{_PRINTK}(?:audit: )?{TYPE} {STAMP}: ?"

EXACT = rb"(?:node=([^ \n]+) )?type=%s msg=audit\(([0-9]{10}\.[0-9]{3}:[0-9]{1,20})\): "
"""AUDITD in the one form that auditd writes, for records of type ``%s``: groups node and "time:serial", whose texts compare as
their times do. The fast scan (audit.scan.avc_patterns) begins with it."""
EVENT_ID = re.compile(STAMP.encode())
"""The id of an event anywhere in a line. Groups: time, serial."""

_AUDITD = re.compile(AUDITD)
_KERNEL = re.compile(KERNEL)
_AUDITD_BYTES = re.compile(AUDITD.encode())
_KERNEL_BYTES = re.compile(KERNEL.encode())


def match_header(text: str) -> re.Match[str] | None:
    """Match the header at the beginning of the line (groups node, type, time, serial); None if there is no header."""
    return _AUDITD.match(text) or _KERNEL.match(text)


def match_header_bytes(line: bytes) -> re.Match[bytes] | None:
    """Match the header like :func:`match_header`, in a line that is not decoded."""
    return _AUDITD_BYTES.match(line) or _KERNEL_BYTES.match(line)


def node_of(match: re.Match[str]) -> str:
    """Return the node of a header, "" if auditd did not write it and for the kernel's own form."""
    return match.groupdict().get("node") or ""


def type_name(text: str) -> str:
    """Return "AVC" for "1400" and "UNKNOWN[1400]", and likewise for other numbers; names are returned unchanged."""
    number = text[8:-1] if text.startswith("UNKNOWN[") else text
    return NUMBERED.get(number, text)
