"""A log writer with rotations on real files, in which every line is unique: the reference for the follower."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

TYPES = ("AVC", "SYSCALL", "CWD", "PATH", "PROCTITLE")


def event(serial: int, *, first: int = 1795373145, records: int = 5) -> list[bytes]:
    """An event of several records as the kernel writes it, the time moving 10 ms with each serial."""
    stamp = f"{first + serial // 100}.{serial % 100 * 10:03d}:{serial}"
    bodies = {
        "AVC": f'avc:  denied  {{ read }} for  pid={serial} comm="python3" name="f" dev="vda" ino=1 '
        "scontext=system_u:system_r:jupyterhub_t:s0 tcontext=system_u:object_r:etc_t:s0 tclass=file permissive=1",
        "SYSCALL": f'arch=c000003e syscall=257 success=yes ppid=1 pid={serial} uid=0 comm="python3" exe="/usr/bin/python3" '
        "subj=system_u:system_r:jupyterhub_t:s0 key=(null)",
        "CWD": 'cwd="/"',
        "PATH": 'item=0 name="/etc/f" inode=1 nametype=NORMAL',
        "PROCTITLE": 'proctitle="python3"',
    }
    return [f"type={kind} msg=audit({stamp}): {bodies[kind]}\n".encode() for kind in TYPES[:records]]


class Writer:
    """Appends as auditd does and rotates as auditd and logrotate do. ``written`` is every byte, in order."""

    def __init__(self, log: Path, *, keep: int = 1000) -> None:
        self.log = log
        self.keep = keep
        self.written = bytearray()
        self.rotations = 0
        self._file = log.open("ab", buffering=0)

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.written += data

    @property
    def in_a_line(self) -> bool:
        return bool(self.written) and not self.written.endswith(b"\n")

    def rename(self) -> None:
        """Rename and create; the writer keeps writing to the renamed file until :meth:`reopen`."""
        self._shift()
        self.log.rename(self._numbered(1))
        self.log.touch()

    def reopen(self) -> None:
        self._file.close()
        self._file = self.log.open("ab", buffering=0)

    def copytruncate(self) -> None:
        self._shift()
        shutil.copyfile(self.log, self._numbered(1))
        os.truncate(self.log, 0)

    def compress(self, number: int) -> None:
        """gzip as it works: the .gz is complete before the plain file goes."""
        plain = self._numbered(number)
        if plain.exists():
            packed = plain.with_name(plain.name + ".gz")
            packed.write_bytes(gzip.compress(plain.read_bytes()))
            plain.unlink()

    def vanish(self) -> None:
        self.log.rename(self.log.with_name("away"))

    def return_(self) -> None:
        self.log.with_name("away").rename(self.log)

    def close(self) -> None:
        self._file.close()

    def _numbered(self, number: int) -> Path:
        return self.log.with_name(f"{self.log.name}.{number}")

    def _shift(self) -> None:
        self.rotations += 1
        for number in range(min(self.keep, self.rotations), 0, -1):
            for suffix in ("", ".gz"):
                path = self.log.with_name(f"{self.log.name}.{number}{suffix}")
                if path.exists():
                    if number == self.keep:
                        path.unlink()
                    else:
                        path.rename(self.log.with_name(f"{self.log.name}.{number + 1}{suffix}"))
