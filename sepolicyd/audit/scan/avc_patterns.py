"""Regular expressions for the two forms of AVC record that make up nearly all of an audit log.

Both are anchored at the beginning of a line that auditd wrote. A quoted value is consumed as one value: the kernel writes a
string with a blank, a quote, a control or a non-ASCII byte as hex (audit_log_n_untrustedstring, kernel/audit.c), so a
quoted value holds no blank. Lines of any other form go to the parser (audit.parse).
"""

from __future__ import annotations

import re

from sepolicyd.audit.parse.header import EXACT

# Groups of both expressions. STAMP is "seconds.milliseconds:serial", BRACE the permissions as written, DETAILS the fields
# that distinguish two denials of one process, SOURCE and TARGET contexts without their range.
NODE, STAMP, VERDICT, BRACE, PID, COMM, DETAILS, IOCTL, SOURCE, TARGET, CLASS, PERMISSIVE = range(1, 13)
MANAGER = 13
"""Executable of the object manager, set for USER_AVC only, whose PID, COMM and IOCTL are empty (DETAILS has the sender)."""
KEY = (NODE, VERDICT, SOURCE, TARGET, CLASS)
"""Groups that are equal in all records of one place."""
LIKE_KERNEL = (BRACE, COMM, DETAILS, IOCTL, PERMISSIVE, PID)
"""Groups that are equal in all records of one slot, among them the process, which decides the owner of the denial."""
LIKE_USER = (BRACE, COMM, DETAILS, MANAGER, PERMISSIVE, PID)

_DECISION = rb"avc:  (denied|granted)  \{ ([a-z][a-z0-9_]{0,63}(?: [a-z][a-z0-9_]{0,63})*) \} for "
_PART = rb"[A-Za-z][A-Za-z0-9_.-]{0,63}"
_CONTEXT = rb"(" + _PART + rb":" + _PART + rb":[A-Za-z][A-Za-z0-9_]{0,127})(?::[a-z0-9.,:-]+)?"
_OBJECT = rb" {1,2}scontext=" + _CONTEXT + rb" tcontext=" + _CONTEXT + rb" tclass=([a-z][a-z0-9_]{0,63})(?: permissive=([01]))?"

# The kernel writes it in security/selinux/avc.c (avc_audit_pre_callback, ...) and security/lsm_audit.c.
KERNEL_AVC = re.compile(
    EXACT % rb"AVC"
    + _DECISION
    + rb' pid=([0-9]{1,10}) comm=("[^" \n]*"|[0-9A-F]+)'
    + rb'((?:  ?(?!ino=|ioctl|sc|tc|permissive)[a-z_-]+=(?:"[^" \n]*"|[^ "\'\n]+))*)'
    + rb"(?: ino=[0-9]+)?((?: ioctlcmd=0x[0-9a-f]+)?)"
    + _OBJECT
    + rb"\n"
)
# libselinux' avc_log through audit_log_user_avc_message as dbus-daemon and dbus-broker call it: no value is quoted
USER_AVC = re.compile(
    EXACT % rb"USER_AVC"
    + rb"pid=[0-9]+ uid=[0-9]+ auid=[0-9]+ ses=[0-9]+ subj=[^ '\"\n]+ msg='"
    + _DECISION.rstrip()
    + rb"()()((?: (?!sc|tc|permissive)[a-z_]+=[^ \"'=\n\x1d]+)*)()"
    + _OBJECT
    + rb' {1,2}(exe="[^"\' \n\x1d]*") sauid=[0-9]+ hostname=[^ \'\n]+ addr=[^ \'\n]+ terminal=[^ \'\n]+\'(?:\x1d[^\n]*)?\n'
)
PORTS = re.compile(rb" (src|dest|lport|fport)=([0-9]{1,5})\b")
