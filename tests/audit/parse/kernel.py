"""Encode records like the kernel, libselinux, systemd and dbus-daemon, from arbitrary bytes.

Written from their sources and not from the parser: kernel/audit.c (audit_log_n_untrustedstring, audit_log_n_hex),
kernel/auditsc.c (audit_log_execve_info, audit_log_proctitle), security/lsm_audit.c, security/selinux/avc.c, libselinux' avc.c
(avc_audit, a buffer of 1,024 bytes), systemd's selinux-access.c and libaudit (audit_log_user_avc_message). auditd puts a
blank for each newline of a user-space message (auditd-event.c).
"""

from __future__ import annotations

from collections.abc import Sequence

STAMP = b"1795377193.100:300"
STUDENT = b"system_u:system_r:jupyterhub_user_t:s0"
HOME = b"system_u:object_r:user_home_t:s0"
BUFFER = 1024
MAX_EXECVE = 7500


def untrusted(value: bytes) -> bytes:
    """A string that a process controls."""
    if any(byte == 0x22 or byte < 0x21 or byte > 0x7E for byte in value):
        return value.hex().upper().encode()
    return b'"' + value + b'"'


def record(kind: bytes, body: bytes, *, stamp: bytes = STAMP, node: bytes = b"") -> bytes:
    return (b"node=" + node + b" " if node else b"") + b"type=" + kind + b" msg=audit(" + stamp + b"): " + body + b"\n"


def avc(
    *, comm: bytes = b"python3", path: bytes = b"", name: bytes = b"", scontext: bytes = STUDENT, tcontext: bytes = HOME
) -> bytes:
    about = b""
    if path:
        about += b" path=" + untrusted(path)
    if name:
        about += b" name=" + untrusted(name)
    about += b' dev="vda1" ino=77'
    return (
        b"avc:  denied  { read } for  pid=7001 comm=" + untrusted(comm[:15]) + about + b" scontext=" + scontext
        + b" tcontext=" + tcontext + b" tclass=file permissive=1"
    )  # fmt: skip


def syscall(*, comm: bytes = b"ls", exe: bytes = b"/usr/bin/ls", key: bytes = b"") -> bytes:
    return (
        b"arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=2 ppid=7000 pid=7001 auid=1001 uid=1001 "
        b"gid=1001 euid=1001 suid=1001 fsuid=1001 egid=1001 sgid=1001 fsgid=1001 tty=pts0 ses=4294967295 comm="
        + untrusted(comm[:15]) + b" exe=" + untrusted(exe) + b" subj=" + STUDENT
        + b" key=" + (untrusted(key) if key else b"(null)")
    )  # fmt: skip


def execve(argv: Sequence[bytes]) -> bytes:
    """One record; an argument that is too long for it is written in parts, as bytes and not as characters."""
    body = b"argc=%d" % len(argv)
    for number, argument in enumerate(argv):
        if len(argument) <= MAX_EXECVE // 8:
            body += b" a%d=" % number + untrusted(argument)
            continue
        encoded = untrusted(argument)[:1] != b'"'
        step = MAX_EXECVE // 16
        body += b" a%d_len=%d" % (number, len(argument) * (2 if encoded else 1))
        for part, at in enumerate(range(0, len(argument), step)):
            piece = argument[at : at + step]
            body += b" a%d[%d]=" % (number, part) + (piece.hex().upper().encode() if encoded else b'"' + piece + b'"')
    return body


def proctitle(argv: Sequence[bytes]) -> bytes:
    return b"proctitle=" + untrusted(b"\0".join(argv)[:128])


def libselinux(permission: bytes, about: bytes, scontext: bytes, tcontext: bytes, tclass: bytes) -> bytes:
    """avc_audit: what does not fit is cut, and nothing says so."""
    message = (
        b"avc:  denied  { " + permission + b" } for " + about + b" scontext=" + scontext + b" tcontext=" + tcontext
        + b" tclass=" + tclass + b" permissive=0\n"
    )  # fmt: skip
    return message[: BUFFER - 1]


def user_avc(message: bytes, *, exe: bytes = b"/usr/lib/systemd/systemd", enriched: bool = False) -> bytes:
    """The record with what libaudit and the kernel add; auditd writes blanks for newlines."""
    text = message + b" exe=" + untrusted(exe) + b" sauid=0 hostname=? addr=? terminal=?"
    body = (
        b"pid=1 uid=0 auid=4294967295 ses=4294967295 subj=system_u:system_r:init_t:s0 msg='"
        + text.replace(b"\0", b"").replace(b"\n", b" ") + b"'"
    )  # fmt: skip
    return body + (b'\x1dUID="root" AUID="unset" SAUID="root"' if enriched else b"")


def systemd(
    argv: Sequence[bytes], *, scontext: bytes = STUDENT, path: bytes = b"", function: bytes = b"", enriched: bool = False
) -> bytes:
    about = b"auid=n/a uid=1001 gid=1001"
    if path:
        about += b' path="' + path + b'"'
    about += b' cmdline="' + b" ".join(argv) + b'"'
    if function:
        about += b' function="' + function + b'"'
    tcontext = b"system_u:system_r:init_t:s0"
    return user_avc(libselinux(b"status", about, scontext, tcontext, b"system"), enriched=enriched)


def dbus(member: bytes, *, dest: bytes = b"org.freedesktop.login1") -> bytes:
    about = b"msgtype=method_call interface=org.x.Y member=" + member + b" dest=" + dest + b" spid=7001 tpid=12"
    message = libselinux(b"send_msg", about, STUDENT, b"system_u:system_r:systemd_logind_t:s0", b"dbus")
    return user_avc(message, exe=b"/usr/bin/dbus-daemon")
