"""Generate an audit log of a hub in which nearly every line differs, in auditd's log_format=ENRICHED.

usage: python -m benchmarks.varied OUT EVENTS SHARE [SEED]

Events have one to three AVC records and the usual companion records. File names are quoted, or hexadecimal if they contain a
blank, a quote or a byte above ASCII. Permissions are in the order of the class. Some denials are from dbus-daemon. Processes
live for a while, so that pids repeat, and users have categories of their own. SHARE (0 to 1) is the share of events with
denials.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

CLASSES = {
    "file": "ioctl read write create getattr setattr lock append map unlink link rename execute execute_no_trans open watch",
    "dir": "ioctl read write getattr setattr add_name remove_name search rmdir open watch",
    "lnk_file": "read create getattr unlink",
    "sock_file": "write create getattr unlink",
    "chr_file": "ioctl read write getattr open map",
    "process": "fork signal sigkill ptrace getsched setsched setrlimit getpgid execmem",
    "capability": "chown dac_override dac_read_search kill setgid setuid net_bind_service sys_admin sys_resource",
    "tcp_socket": "name_bind node_bind name_connect",
    "udp_socket": "create ioctl read write getattr setopt connect",
    "unix_stream_socket": "connectto read write getattr",
    "netlink_route_socket": "create bind getattr nlmsg_read read write",
    "dbus": "send_msg",
}
DOMAINS = ("jupyterhub_t", "jupyterhub_user_t", "jupyterhub_proxy_t", "container_t", "sshd_t", "systemd_logind_t", "cupsd_t")
FILE_TYPES = (
    *("etc_t", "usr_t", "lib_t", "bin_t", "tmp_t", "tmpfs_t", "var_lib_t", "var_log_t", "var_run_t", "proc_t", "sysfs_t"),
    *("user_home_t", "user_home_dir_t", "nfs_t", "cert_t", "shadow_t", "devpts_t", "device_t", "default_t", "locale_t"),
)
PROGRAMS = ("python3.11", "node", "bash", "git", "jupyterhub", "jupyterhub-singleuser", "R", "conda", "ld.so", "systemctl")
WORDS = ("data", "model", "notes", "week 3", "größe", 'a"b', "cache", "index.html", "run.log", "lib.so.6", "плот", "x(deleted)")
CALLS = {"openat": 257, "connect": 42, "bind": 49, "execve": 59, "newfstatat": 262, "ioctl": 16, "mmap": 9}


def encoded(text: str) -> str:
    """Return the text as audit_log_untrustedstring writes it."""
    data = text.encode()
    if any(byte < 0x21 or byte > 0x7E or byte == 0x22 for byte in data):
        return data.hex().upper()
    return f'"{text}"'


class Log:
    """Writes events, one after the other."""

    def __init__(self, seed: int = 5) -> None:
        self._chance = random.Random(seed)
        self._now, self._serial = 1795373000.0, 900
        self._processes = [self._process() for _ in range(400)]

    def _process(self) -> tuple[int, int, str, str, int, str]:
        """(pid, ppid, program, domain, uid, range)"""
        chance = self._chance
        student = chance.randint(1, 900)
        first, second = sorted((student % 500, 500 + student % 499))
        domain = chance.choice(DOMAINS)
        mcs = f"s0:c{first},c{second}" if domain in ("jupyterhub_user_t", "container_t") else "s0"
        pid = chance.randint(300, 4194303)
        return pid, chance.randint(1, pid), chance.choice(PROGRAMS), domain, chance.choice((0, 998, 1000 + student)), mcs

    def event(self, *, denied: bool) -> Iterator[str]:
        """Yield the records of the next event."""
        chance = self._chance
        self._now += chance.expovariate(60)
        self._serial += 1 if chance.random() < 0.97 else chance.randint(2, 40)
        stamp = f"msg=audit({self._now:.3f}:{self._serial})"
        at = chance.randrange(len(self._processes))
        if chance.random() < 0.05:
            self._processes[at] = self._process()
        process = self._processes[at]
        path = "/" + "/".join(chance.choice(WORDS) + str(chance.randint(0, 9999)) for _ in range(chance.randint(1, 6)))
        if denied:
            for _ in range(1 if chance.random() < 0.8 else chance.randint(2, 3)):
                line, is_kernel = self._denial(stamp, process, path)
                yield line
                if not is_kernel:
                    return
        yield from self._companions(stamp, process, path)

    def _denial(self, stamp: str, process: tuple[int, int, str, str, int, str], path: str) -> tuple[str, bool]:
        chance = self._chance
        pid, _, program, domain, _, mcs = process
        tclass = chance.choice(tuple(CLASSES))
        known = CLASSES[tclass].split()
        asked = set(chance.sample(known, min(len(known), 1 + int(chance.expovariate(1.2)))))
        brace = " ".join(permission for permission in known if permission in asked)
        source = f"system_u:system_r:{domain}:{mcs}"
        if tclass == "dbus":
            target = f"system_u:system_r:{chance.choice(DOMAINS)}:s0"
            return (
                f"type=USER_AVC {stamp}: pid=612 uid=81 auid=4294967295 ses=4294967295 "
                f"subj=system_u:system_r:system_dbusd_t:s0 msg='avc:  denied  {{ {brace} }} for msgtype=method_call "
                "interface=org.freedesktop.DBus.Properties "
                f"member=Get dest=:1.{chance.randint(2, 900)} spid={pid} tpid={chance.randint(2, 9999)} scontext={source} "
                f'tcontext={target} tclass=dbus permissive={chance.randint(0, 1)}  exe="/usr/bin/dbus-daemon" sauid=81 '
                'hostname=? addr=? terminal=?\'\x1dUID="dbus" AUID="unset" SAUID="dbus"',
                False,
            )
        inode = chance.randint(2, 2**31)
        target = f"system_u:object_r:{chance.choice(FILE_TYPES)}:s0"
        if tclass in ("process", "capability") or tclass.startswith(("netlink", "udp")):
            target, about = source, f" capability={chance.randint(0, 40)} " if tclass == "capability" else ""
        elif tclass == "tcp_socket":
            key = "dest" if "name_connect" in asked else "src"
            target, about = "system_u:object_r:unreserved_port_t:s0", f" {key}={chance.randint(1024, 65535)}"
        elif tclass == "unix_stream_socket":
            target, about = f"system_u:system_r:{chance.choice(DOMAINS)}:s0", f" path={encoded(path)}"
        else:
            name = f"name={encoded(path.rpartition('/')[2])}" if chance.random() < 0.6 else f"path={encoded(path)}"
            about = f' {name} dev="{chance.choice(("sda3", "dm-1", "tmpfs", "0:47"))}" ino={inode}'
            if "ioctl" in asked:
                about += f" ioctlcmd={chance.choice((0x5401, 0x5413, 0x541B, 0x8912)):#x}"
        return (
            f"type=AVC {stamp}: avc:  denied  {{ {brace} }} for  pid={pid} comm={encoded(program[:15])}{about} "
            f"scontext={source} tcontext={target} tclass={tclass} permissive={chance.randint(0, 1)}",
            True,
        )

    def _companions(self, stamp: str, process: tuple[int, int, str, str, int, str], path: str) -> Iterator[str]:
        chance = self._chance
        pid, ppid, program, domain, uid, mcs = process
        call, number = chance.choice(tuple(CALLS.items()))
        yield (
            f"type=SYSCALL {stamp}: arch=c000003e syscall={number} success={chance.choice(('yes', 'no'))} exit=-13 "
            f"a0=ffffff9c a1={chance.getrandbits(47):x} a2={chance.getrandbits(20):x} a3=0 items=1 ppid={ppid} pid={pid} "
            f"auid={uid} uid={uid} gid={uid} euid={uid} suid={uid} fsuid={uid} egid={uid} sgid={uid} fsgid={uid} tty=(none) "
            f"ses={chance.randint(1, 400)} comm={encoded(program[:15])} exe={encoded('/opt/hub/bin/' + program)} "
            f'subj=system_u:system_r:{domain}:{mcs} key=(null)\x1dARCH=x86_64 SYSCALL={call} AUID="u{uid}" UID="u{uid}"'
        )
        yield f"type=CWD {stamp}: cwd={encoded('/home/u' + str(uid))}"
        yield (
            f"type=PATH {stamp}: item=0 name={encoded(path)} inode={chance.randint(2, 2**31)} dev=fd:01 mode=0100600 "
            f"ouid={uid} ogid={uid} rdev=00:00 obj=system_u:object_r:{chance.choice(FILE_TYPES)}:s0 nametype=NORMAL "
            f'cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0\x1dOUID="u{uid}" OGID="u{uid}"'
        )
        title = f"/opt/hub/bin/{program}\0--port={chance.randint(1024, 65535)}\0{path}"
        yield f"type=PROCTITLE {stamp}: proctitle={title.encode().hex().upper()}"


def lines(events: int, share: float, seed: int = 5) -> Iterator[bytes]:
    """Yield the lines of a number of events. The output is deterministic."""
    log, chance = Log(seed), random.Random(seed + 1)
    for _ in range(events):
        for record in log.event(denied=chance.random() < share):
            yield record.encode() + b"\n"


def write(out: Path, events: int, share: float, seed: int = 5) -> None:
    with out.open("wb") as file:
        file.writelines(lines(events, share, seed))


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 5)
