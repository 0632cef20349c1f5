"""The running kernel's SELinux through /sys/fs/selinux: enforcing switch, policy-load counter, loaded policy."""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Optional

from sepolicyd import process
from sepolicyd.errors import ToolError
from sepolicyd.kernel.policy_image import PolicyFormatError, PolicyHead, parse_head, without_permissive

MOUNT = Path("/sys/fs/selinux")
FILESYSTEMS = Path("/proc/filesystems")
MOUNT_TIMEOUT_S = 30.0
STATUS = struct.Struct("=5I")  # struct selinux_kernel_status: version, sequence, enforcing, policyload, deny_unknown
STATUS_TRIES = 1000
BUSY_TRIES, BUSY_PAUSE_S = 50, 0.1
LOAD_TRIES = 5
WATCH_PAUSE_S, WATCH_JOIN_S = 0.5, 10.0
SECURE_MODE = "booleans/secure_mode_policyload"  # refpolicy, kernel/selinux.te: forbids load_policy, setenforce, setbool


class SelinuxFs:
    """The port ``Kernel`` on a mounted selinuxfs."""

    def __init__(self, mount: Path = MOUNT) -> None:
        self.mount = mount
        self._head: Optional[tuple[int, PolicyHead]] = None

    def enabled(self) -> bool:
        """Tell whether the kernel runs SELinux. An unmounted selinuxfs is mounted again, since no lease could be ended without
        it; the kernel knows that file system only while it runs SELinux."""
        if not (self.mount / "enforce").exists() and self._unmounted():
            with suppress(ToolError):
                process.run(["mount", "-t", "selinuxfs", "selinuxfs", str(self.mount)], timeout=MOUNT_TIMEOUT_S)
        return (self.mount / "enforce").exists()

    def _unmounted(self) -> bool:
        try:
            return os.geteuid() == 0 and "selinuxfs" in FILESYSTEMS.read_text(encoding="ascii").split()
        except OSError:
            return False

    def enforcing(self) -> bool:
        """Tell whether the kernel enforces."""
        return self._read("enforce").strip() == b"1"

    def set_enforcing(self, on: bool) -> None:
        """Switch enforcing, and read it back."""
        self._write("enforce", b"1" if on else b"0")
        if self.enforcing() != on:
            raise ToolError(f"the kernel did not switch enforcing {'on' if on else 'off'}", "see: sestatus")

    def loads(self) -> int:
        """Return how many times a policy has been loaded since boot."""
        return self.status()[3]

    def status(self) -> tuple[int, ...]:
        """Return (version, sequence, enforcing, policyload, deny_unknown) of the status page.

        Read with read(), not mmap(): Python refuses to map a file whose size is 0, which selinuxfs reports. The sequence is
        odd while the kernel writes (security/selinux/status.c), so two equal reads with an even one are a whole page.
        """
        last: tuple[int, ...] = ()
        for _ in range(STATUS_TRIES):
            page = self._read("status")
            if len(page) < STATUS.size:
                break
            values = STATUS.unpack_from(page)
            if values == last and values[1] % 2 == 0:
                return values
            last = values
        raise ToolError(f"{self.mount}/status never came to rest", "try again")

    def head(self) -> PolicyHead:
        """Return types and permissive types of the loaded policy; it is read again only after another load."""
        loads = self.loads()
        if self._head is None or self._head[0] != loads:
            self._head = (loads, _parsed(self.policy()))
        return self._head[1]

    def policy(self) -> bytes:
        """Return the loaded policy as the kernel writes it out."""
        for _ in range(BUSY_TRIES):
            try:
                return (self.mount / "policy").read_bytes()
            except OSError as error:
                if error.errno != errno.EBUSY:  # sel_open_policy lets one process in at a time
                    break
                time.sleep(BUSY_PAUSE_S)
        return self._read("policy")

    def permissive_types(self) -> frozenset[str]:
        """Return the permissive types of the loaded policy."""
        return self.head().permissive

    def known_types(self) -> frozenset[str]:
        """Return all types of the loaded policy."""
        return frozenset(self.head().types)

    def close_types(self, types: tuple[str, ...]) -> None:
        """Load the loaded policy again without these permissive types, and read it back."""
        for _ in range(LOAD_TRIES):
            loads = self.loads()
            try:
                policy = self.policy()
                closed = without_permissive(policy, types)
            except PolicyFormatError as error:
                raise _not_understood(error) from None
            if closed is policy:
                break
            if self.loads() == loads:  # else semodule has loaded another policy meanwhile, which this would take back
                self._write("load", closed)
                break
        still = self.permissive_types() & frozenset(types)
        if still:
            raise ToolError(f"{', '.join(sorted(still))} is permissive in the kernel still", "run: setenforce 1; semodule -R")

    @contextmanager
    def keep_closed(self, types: tuple[str, ...]) -> Iterator[None]:
        """While the context is held, close the types again after each load of another policy."""
        stop = threading.Event()
        # a reader of its own: the cached head is not made for two threads
        watcher = threading.Thread(target=SelinuxFs(self.mount)._watch, args=(types, stop), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join(WATCH_JOIN_S)

    def _watch(self, types: tuple[str, ...], stop: threading.Event) -> None:
        seen = -1
        while types and not stop.wait(WATCH_PAUSE_S):
            with suppress(ToolError, OSError):
                loads = self.loads()
                if loads != seen:
                    self.close_types(types)
                    seen = loads

    def refuses_loads(self) -> bool:
        """Tell whether secure_mode_policyload is on or about to be: the file holds the present and the pending value."""
        return b"1" in self._read(SECURE_MODE).split() if (self.mount / SECURE_MODE).exists() else False

    def _read(self, name: str) -> bytes:
        path = self.mount / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise ToolError(f"{path} cannot be read: {error.strerror}", "mount selinuxfs, and run this as root") from error

    def _write(self, name: str, data: bytes) -> None:
        """One write() call: the kernel takes a policy only whole (sel_write_load)."""
        path = self.mount / name
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                written = os.write(fd, data)
            finally:
                os.close(fd)
        except OSError as error:
            # to root the policy itself says no, and this boolean is what makes it
            hint = "run this as root" if os.geteuid() else "see: getsebool secure_mode_policyload; ausearch -m avc -ts recent"
            raise ToolError(f"{path} cannot be written: {error.strerror}", hint) from error
        if written != len(data):
            raise ToolError(f"{path} took {written} of {len(data)} bytes", "try again")


def _parsed(policy: bytes) -> PolicyHead:
    try:
        return parse_head(policy)
    except PolicyFormatError as error:
        raise _not_understood(error) from None


def _not_understood(error: PolicyFormatError) -> ToolError:
    return ToolError(f"the loaded policy cannot be understood: {error}", "report this with the kernel's version (uname -r)")
