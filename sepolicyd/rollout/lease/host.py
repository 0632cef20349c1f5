"""The ports of world.py on the real machine: semodule, systemd, the clocks and the journal; standard library and `process`."""

from __future__ import annotations

import bz2
import fcntl
import math
import re
import syslog
import time
from pathlib import Path
from typing import Optional

from sepolicyd import process
from sepolicyd.errors import RefusedError, SepolicydError, ToolError
from sepolicyd.kernel.policy_image import PolicyFormatError, parse_head
from sepolicyd.kernel.selinuxfs import SelinuxFs
from sepolicyd.module import inflight
from sepolicyd.policy.selinux_config import store_directory
from sepolicyd.rollout.lease.environment import World
from sepolicyd.rollout.lease.lease import DEFAULT_DIR, MODULE_PREFIX, Lease, LeaseBook, Moment, carry_lease

SCRATCH_PRIORITY = 100  # in the copy only
SEMODULE_TIMEOUT_S = 900.0  # 38 s in an emulated guest; a hung one must not outlive the next tries
PERMISSIVE = re.compile(r"\(typepermissive ([^\s()]+)\)")
STATIC_UNITS = ("sepolicyd-boot.service", "sepolicyd-lease.timer")
ONE_SHOT = "sepolicyd.rollout.lease.end"
SYSTEMD = Path("/run/systemd/system")  # sd_booted(3)


def argv_open(priority: int, cil: Optional[Path], *, hidden: bool) -> list[str]:
    """One transaction that opens. ``-D -i`` may stand together, ``-D -B -i`` may not (semodule 3.4: "build or reload
    should not be used with other commands"); that is also why a lease's end takes two: first closed, then dontaudit back."""
    if cil is None:
        return ["semodule", "-D", "-B"] if hidden else []
    return ["semodule", "-X", str(priority), *(["-D"] if hidden else []), "-i", str(cil)]


def argv_remove(module: str, priority: int, *more: str) -> list[str]:
    """:param more: -n leaves the kernel's policy as it is"""
    return ["semodule", *more, "-X", str(priority), "-r", module]


def parse_lease_modules(listing: str) -> dict[str, int]:
    """``semodule -lfull`` in (priority, name, language a line), our lease modules and their priority out."""
    rows = [line.split() for line in listing.splitlines()]
    return {row[1]: int(row[0]) for row in rows if len(row) > 1 and row[0].isdigit() and row[1].startswith(MODULE_PREFIX)}


def types_in(text: str) -> list[str]:
    """The types of a lease module's text."""
    return [str(name) for name in PERMISSIVE.findall(text)]


def _written(path: Path, text: str) -> Path:
    path.write_text(text or "; a lease without domains\n", encoding="utf-8")
    return path


class SemoduleStore:
    """The port ``ModuleStore``."""

    def __init__(self, path: Optional[Path] = None) -> None:
        self.path = path or store_directory(Path("/"))

    def check(self, module: str, text: str) -> None:
        """Link a copy with the lease in it: the same work that ending the lease will ask of the store."""
        # here and in open() alone: what ends a lease must not need the other rooms
        from sepolicyd.module.build import workdir
        from sepolicyd.module.store import Store

        store = Store()
        store.check()
        store.wait_for_lock(0)
        try:
            with workdir("check") as directory:
                copy = store.copy(directory / "root")
                copy.install([_written(directory / f"{module}.cil", text)], priority=SCRATCH_PRIORITY)
                permissive = parse_head(copy.policy().read_bytes()).permissive
        except (SepolicydError, PolicyFormatError, OSError) as error:
            raise RefusedError(
                f"the present policy store does not rebuild, so that a lease could not be ended: {error}",
                "mend the store first; see: semodule -B",
            ) from error
        without_effect = sorted(set(types_in(text)) - permissive)
        if without_effect:
            raise RefusedError(
                f"in a copy of the store the lease does not make {', '.join(without_effect)} permissive", "see: semodule -lfull"
            )

    def open(self, lease: Lease, text: str) -> None:
        from sepolicyd.module.build import workdir  # on an enforcing machine semodule may map a file only where this makes it

        with workdir("lease") as directory:
            cil = _written(directory / f"{lease.module}.cil", text) if text else None
            argv = argv_open(lease.priority, cil, hidden=lease.hidden)
            if argv:
                process.run(argv, timeout=SEMODULE_TIMEOUT_S)

    def remove(self, module: str, priority: int) -> None:
        """A semodule of ours that outlived its killed parent could install after we removed, so it is waited for."""
        self._remove(module, priority)

    def remove_for_next_boot(self, module: str, priority: int) -> None:
        self._remove(module, priority, "-n")

    def _remove(self, module: str, priority: int, *more: str) -> None:
        inflight.wait_for(lambda words: any(word.endswith(f"/{module}.cil".encode()) for word in words), module)
        self._mend()
        present = self.lease_modules()
        if module not in present:
            return
        process.run(argv_remove(module, present.get(module, priority), *more), timeout=SEMODULE_TIMEOUT_S)
        if module in self.lease_modules():
            raise ToolError(f"semodule says it removed {module}, but the store has it still", "see: semodule -lfull")

    def lease_modules(self) -> dict[str, int]:
        """Out of the store's directories (active/modules/PRIORITY/NAME, semodule(8)), as the units' conditions do: a listing by
        semodule takes seconds on a slow machine. While a transaction swaps ``active``, semodule is asked, which waits."""
        modules = self.path / "active" / "modules"
        if not modules.is_dir():
            return parse_lease_modules(process.run(["semodule", "-lfull"], timeout=SEMODULE_TIMEOUT_S).stdout)
        found = sorted(modules.glob(f"*/{MODULE_PREFIX}*"))
        return {path.name: int(path.parent.name) for path in found if path.parent.name.isdigit()}

    def module_types(self, module: str) -> frozenset[str]:
        """libsemanage keeps a module's text in active/modules/PRIORITY/NAME/cil, compressed unless semanage.conf says else."""
        found: set[str] = set()
        for path in (self.path / "active" / "modules").glob(f"*/{module}/cil"):
            try:
                data = path.read_bytes()
                found.update(types_in((bz2.decompress(data) if data.startswith(b"BZh") else data).decode()))
            except (OSError, ValueError) as error:
                raise ToolError(f"{path} cannot be read: {error}", f"run: semodule -r {module}") from error
        return frozenset(found)

    def _mend(self) -> None:
        """A semodule that was killed between its two renames has left no active store, only the previous one (and nothing
        can be removed from none). Whoever holds the lock is no corpse."""
        active, previous = self.path / "active", self.path / "previous"
        if active.exists() or not (previous / "modules").is_dir():
            return
        with (self.path / "semanage.trans.LOCK").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                previous.rename(active)
            except OSError as error:
                raise ToolError(f"{previous} cannot be put back as {active}: {error.strerror}", "do that by hand") from error

    def dontaudit_off(self) -> bool:
        return (self.path / "active" / "disable_dontaudit").exists()

    def restore_dontaudit(self) -> None:
        process.run(["semodule", "-B"], timeout=SEMODULE_TIMEOUT_S)
        if self.dontaudit_off():
            raise ToolError("semodule -B did not bring the dontaudit rules back", "run: semodule -B")

    def reload(self) -> None:
        process.run(["load_policy"], timeout=SEMODULE_TIMEOUT_S)


def one_shot(directory: Path, *arguments: str) -> list[str]:
    """The command that ends leases: this interpreter, this package, no configuration."""
    return [*process.module_argv(ONE_SHOT), "--dir", str(directory), *arguments]


def argv_arm(lease: Lease, seconds: float, command: list[str]) -> list[str]:
    """Both clocks in one timer: OnActiveSec= counts CLOCK_MONOTONIC, OnCalendar= follows the wall clock when it is set.

    The service is started again by systemd if it fails or is killed (Restart= on a oneshot: systemd 244 and later).
    """
    properties = ("Type=oneshot", "Restart=on-failure", "RestartSec=20s", "TimeoutStartSec=30min")
    argv = ["systemd-run", f"--unit={lease.unit}", f"--description=End of sepolicyd's lease for {lease.profile}", "--quiet"]
    # not before the deadline: a timer that fires a part of a second early finds nothing due, and does not fire again
    argv += [f"--on-active={max(1, math.ceil(seconds))}s", f"--on-calendar=@{math.ceil(lease.deadline_wall)}"]
    argv += ["--timer-property=AccuracySec=1s", *(f"--property={text}" for text in properties)]
    argv += [f"--setenv={key}={value}" for key, value in process.module_environment().items()]
    # the undo itself goes along: the timer lives in systemd, and so ends the lease even when our state directory is gone
    return [*argv, "--", *command, "--undo", carry_lease(lease)]


class SystemdTimers:
    """The port ``Timers``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def problem(self) -> Optional[str]:
        if not SYSTEMD.is_dir():
            return "this machine is not run by systemd"
        for unit in STATIC_UNITS:
            state = process.run(["systemctl", "is-enabled", unit], ok=range(256)).stdout.strip()
            if state not in {"enabled", "static", "enabled-runtime"}:
                return f"the unit {unit} is {state or 'not installed'}"
        if not self._is_active("sepolicyd-lease.timer"):
            return "the unit sepolicyd-lease.timer is not active"
        return self._one_shot_problem()

    def _one_shot_problem(self) -> Optional[str]:
        try:
            argv = one_shot(self.directory, "--check")
            process.run(argv, cwd=Path("/"), env=process.module_environment(), timeout=120)
        except ToolError as error:
            return f"the one-shot that ends leases does not start: {error.what}"
        return None

    def arm(self, lease: Lease, seconds: float) -> None:
        process.run(argv_arm(lease, seconds, one_shot(self.directory)), timeout=60)

    def armed(self, lease: Lease) -> bool:
        return self._is_active(f"{lease.unit}.timer")

    def disarm(self, lease: Lease) -> None:
        process.run(["systemctl", "stop", f"{lease.unit}.timer"], ok=(0, 5), timeout=60)  # 5: not loaded

    def stop_services(self, units: tuple[str, ...]) -> None:
        process.run(["systemctl", "stop", *units], ok=(0, 5), timeout=300)

    def _is_active(self, unit: str) -> bool:
        return process.run(["systemctl", "is-active", unit], ok=range(256), timeout=60).stdout.strip() == "active"


class SystemClock:
    """The port ``Clock``."""

    def now(self) -> Moment:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), boot_id)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class JournalVoice:
    """The port ``Voice``: syslog(3) reaches the journal from a terminal as well as from a unit."""

    def shout(self, text: str, command: tuple[str, ...] = ()) -> None:
        self._log(syslog.LOG_CRIT, text)
        if command:
            try:
                process.run([*command, text], timeout=30)
            except SepolicydError as error:
                self._log(syslog.LOG_ERR, f"alert_command failed: {error}")

    def say(self, text: str) -> None:
        self._log(syslog.LOG_NOTICE, text)

    def _log(self, level: int, text: str) -> None:
        syslog.openlog("sepolicyd", syslog.LOG_PID, syslog.LOG_DAEMON)
        syslog.syslog(level, text)


def machine(directory: Path = DEFAULT_DIR) -> World:
    """This machine."""
    return World(SelinuxFs(), SemoduleStore(), SystemdTimers(directory), SystemClock(), JournalVoice(), LeaseBook(directory))
