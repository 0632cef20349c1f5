"""Access to the running kernel's SELinux through /sys/fs/selinux: enforcing mode, policy load counter, loaded policy."""

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
    """Implementation of ``KernelControl`` on a mounted selinuxfs."""

    def __init__(self, mount: Path = MOUNT) -> None:
        self.mount = mount
        self._head: Optional[tuple[int, PolicyHead]] = None

    def enabled(self) -> bool:
        """Tell whether the kernel runs SELinux.

        An unmounted selinuxfs is mounted again, since no lease could be ended without it. The kernel registers that file system
        only while it runs SELinux.
        """
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
        """Switch enforcing mode, and read it back."""
        self._write("enforce", b"1" if on else b"0")
        if self.enforcing() != on:
            raise ToolError(f"the kernel did not switch enforcing {'on' if on else 'off'}", "see: sestatus")

    def loads(self) -> int:
        """Return how many times a policy has been loaded since boot."""
        return self.status()[3]

    def status(self) -> tuple[int, ...]:
        """Return (version, sequence, enforcing, policyload, deny_unknown) of the status page.

        The page is read with read(), because Python's mmap refuses a file of size 0, which selinuxfs reports. The sequence is
        odd while the kernel writes (security/selinux/status.c), so two equal reads with an even sequence are consistent.
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
        raise ToolError(f"{self.mount}/status changed on every read", "try again")

    def head(self) -> PolicyHead:
        """Return types and permissive types of the loaded policy, cached until the next policy load."""
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
                if error.errno != errno.EBUSY:  # sel_open_policy admits one process at a time
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
        """Reload the loaded policy with these types enforcing, and read it back."""
        for _ in range(LOAD_TRIES):
            loads = self.loads()
            try:
                policy = self.policy()
                closed = without_permissive(policy, types)
            except PolicyFormatError as error:
                raise _not_understood(error) from None
            if closed is policy:
                break
            if self.loads() == loads:  # otherwise semodule has loaded a newer policy, which this load would revert
                self._write("load", closed)
                break
        still = self.permissive_types() & frozenset(types)
        if still:
            raise ToolError(f"{', '.join(sorted(still))} is still permissive in the kernel", "run: setenforce 1; semodule -R")

    @contextmanager
    def keep_closed(self, types: tuple[str, ...]) -> Iterator[None]:
        """Close the types again after each policy load while the context is held."""
        stop = threading.Event()
        # a separate reader, because the cached head is not thread-safe
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
        """Tell whether secure_mode_policyload is on or pending; the file holds the current and the pending value."""
        return b"1" in self._read(SECURE_MODE).split() if (self.mount / SECURE_MODE).exists() else False

    def _read(self, name: str) -> bytes:
        path = self.mount / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise ToolError(f"{path} cannot be read: {error.strerror}", "mount selinuxfs, and run this as root") from error

    def _write(self, name: str, data: bytes) -> None:
        """Write with a single write() call, because the kernel accepts a policy only as a whole (sel_write_load)."""
        path = self.mount / name
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                written = os.write(fd, data)
            finally:
                os.close(fd)
        except OSError as error:
            # for root, the write was denied by the policy itself, usually because of this boolean
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
    return ToolError(f"the loaded policy has an unknown format: {error}", "report this with the kernel's version (uname -r)")
