"""The ports of world.py on the real machine: semodule, systemd, the clocks and the journal; standard library and `process`."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import syslog
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Optional

from sepolicyd import process
from sepolicyd.errors import RefusedError, SepolicydError, ToolError
from sepolicyd.rollout.kernelpolicy import PolicyFormatError, parse_head
from sepolicyd.rollout.selinuxfs import SelinuxFs
from sepolicyd.rollout.undo import DEFAULT_DIR, MODULE_PREFIX, Lease, LeaseBook, Moment
from sepolicyd.rollout.world import World

ETC_SELINUX = Path("/etc/selinux")
DEFAULT_STORE_ROOT = "/var/lib/selinux"
FREE_FACTOR = 4  # libsemanage builds the new store in a sandbox beside the active one, and the check makes a copy
SEMODULE_TIMEOUT_S = 900.0  # 38 s in an emulated guest; a hung one must not outlive the next tries
ORPHAN_WAIT_S = 300.0
STATIC_UNITS = ("sepolicyd-boot.service", "sepolicyd-lease.timer")
ONE_SHOT = "sepolicyd.rollout.endlease"
MODULE_LINE = re.compile(r"^\s*(\d+)\s+(\S+)")


def setting(path: Path, key: str, default: str) -> str:
    """One ``KEY=value`` of /etc/selinux/config or semanage.conf (blanks around, quotes and comments as there)."""
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name, equals, value = line.partition("=")
            if equals and name.strip() == key:
                return value.split("#")[0].strip().strip('"')
    return default


def store_path(etc: Path = ETC_SELINUX) -> Path:
    """The directory of the active policy's store, such as /var/lib/selinux/targeted."""
    kind = setting(etc / "config", "SELINUXTYPE", "targeted")
    return Path(setting(etc / "semanage.conf", "store-root", DEFAULT_STORE_ROOT)) / kind


def argv_open(priority: int, cil: Optional[Path], *, hidden: bool) -> list[str]:
    """One transaction that opens. ``-D -i`` may stand together, ``-D -B -i`` may not (semodule 3.4: "build or reload
    should not be used with other commands"); that is also why a lease's end takes two: first closed, then dontaudit back."""
    if cil is None:
        return ["semodule", "-D", "-B"] if hidden else []
    return ["semodule", "-X", str(priority), *(["-D"] if hidden else []), "-i", str(cil)]


def argv_remove(module: str, priority: int) -> list[str]:
    return ["semodule", "-X", str(priority), "-r", module]


def parse_modules(listing: str) -> dict[str, int]:
    """``semodule -lfull`` in, our lease modules and their priority out."""
    found = {}
    for line in listing.splitlines():
        match = MODULE_LINE.match(line)
        if match and match.group(2).startswith(MODULE_PREFIX):
            found[match.group(2)] = int(match.group(1))
    return found


class SemoduleStore:
    """The port ``ModuleStore``."""

    def __init__(self, path: Optional[Path] = None) -> None:
        self.path = path or store_path()

    def check(self, module: str, text: str) -> None:
        if not (self.path / "active").is_dir():
            raise RefusedError(f"there is no policy store at {self.path}", "install the distribution's policy package")
        size = sum(file.lstat().st_size for file in (self.path / "active").rglob("*"))
        for place in (self.path, Path(tempfile.gettempdir())):
            free = shutil.disk_usage(place).free
            if free < FREE_FACTOR * size:
                raise RefusedError(
                    f"{place} has {free >> 20} MiB free, ending a lease needs {FREE_FACTOR * size >> 20}",
                    "free space on that disk",
                )
        if not os.access(self.path, os.W_OK):
            raise RefusedError(f"the policy store {self.path} is not writable", "run this as root, on a writable file system")
        self._check_lock()
        self._check_rebuild(module, text)

    def _check_lock(self) -> None:
        lock = self.path / "semanage.trans.LOCK"
        try:
            fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RefusedError(f"{lock} cannot be opened: {error.strerror}", "run this as root") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(
                f"the policy store {self.path} is locked by another semodule or semanage", "wait for it to end, then try again"
            ) from None
        finally:
            os.close(fd)

    def _check_rebuild(self, module: str, text: str) -> None:
        """Link a copy with the lease in it: the same work that ending the lease will ask of the store."""
        with tempfile.TemporaryDirectory(prefix="sepolicyd-check-") as name:
            root = Path(name)
            copy = root / str(self.path).lstrip("/")
            shutil.copytree(self.path, copy, symlinks=True)
            etc = root / "etc/selinux"
            shutil.copytree(ETC_SELINUX, etc, symlinks=True)
            cil = root / f"{module}.cil"
            cil.write_text(text or "; nothing\n", encoding="utf-8")
            try:
                process.run(["semodule", "-p", name, "-n", "-X", "100", "-i", str(cil)], timeout=SEMODULE_TIMEOUT_S)
                built = parse_head((copy / "active/policy.kern").read_bytes())
            except (SepolicydError, PolicyFormatError, OSError) as error:
                raise RefusedError(
                    f"the present policy store does not rebuild, so that a lease could not be ended: {error}",
                    "mend the store first; see: semodule -B",
                ) from error
            missing = [line for line in text.split() if line.endswith(")") and line[:-1] not in built.permissive]
            if missing:
                raise RefusedError("the lease module has no effect in a copy of the store", "report this: " + " ".join(missing))

    def open(self, lease: Lease, text: str) -> None:
        # semanage_t maps module files only from /tmp, /root and /usr when a root shell calls (no map on var_lib_t, etc_t)
        with tempfile.TemporaryDirectory(prefix="sepolicyd-lease-") as name:
            cil = Path(name) / f"{lease.module}.cil"
            if text:
                cil.write_text(text, encoding="utf-8")
            argv = argv_open(lease.priority, cil if text else None, hidden=lease.hidden)
            if argv:
                process.run(argv, timeout=SEMODULE_TIMEOUT_S)

    def remove(self, module: str, priority: int) -> None:
        """A semodule of ours that outlived its killed parent could install after we removed, so it is waited for."""
        _wait_for_orphans(module)
        present = self.lease_modules()
        if module not in present:
            return
        process.run(argv_remove(module, present.get(module, priority)), timeout=SEMODULE_TIMEOUT_S)
        if module in self.lease_modules():
            raise ToolError(f"semodule says it removed {module}, but the store has it still", "see: semodule -lfull")

    def lease_modules(self) -> dict[str, int]:
        return parse_modules(process.run(["semodule", "-lfull"], timeout=SEMODULE_TIMEOUT_S).stdout)

    def dontaudit_off(self) -> bool:
        return (self.path / "active" / "disable_dontaudit").exists()

    def restore_dontaudit(self) -> None:
        process.run(["semodule", "-B"], timeout=SEMODULE_TIMEOUT_S)
        if self.dontaudit_off():
            raise ToolError("semodule -B did not bring the dontaudit rules back", "run: semodule -B")

    def reload(self) -> None:
        process.run(["load_policy"], timeout=SEMODULE_TIMEOUT_S)


def _wait_for_orphans(module: str) -> None:
    give_up = time.monotonic() + ORPHAN_WAIT_S
    while _orphans(module):
        if time.monotonic() >= give_up:
            raise ToolError(f"a semodule that installs {module} runs still", "see: pgrep -a semodule")
        time.sleep(0.5)


def _orphans(module: str) -> list[int]:
    """Processes called semodule whose arguments name the file of this lease."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"semodule") and any(word.endswith(f"/{module}.cil".encode()) for word in words):
                    found.append(int(entry.name))
    return found


def one_shot(directory: Path, *arguments: str, isolated: bool = True) -> list[str]:
    """The command that ends leases: this interpreter, this package, no configuration.

    :param isolated: -I, so that neither the working directory nor the environment adds modules (not from a source tree)
    """
    return [sys.executable, *(["-I"] if isolated else []), "-m", ONE_SHOT, "--dir", str(directory), *arguments]


def argv_arm(lease: Lease, seconds: float, command: list[str], python_path: str = "") -> list[str]:
    """Both clocks in one timer: OnActiveSec= counts CLOCK_MONOTONIC, OnCalendar= follows the wall clock when it is set.

    The service is started again by systemd if it fails or is killed (Restart= on a oneshot: systemd 244 and later).
    """
    properties = ("Type=oneshot", "Restart=on-failure", "RestartSec=20s", "TimeoutStartSec=30min")
    argv = ["systemd-run", f"--unit={lease.unit}", f"--description=End of sepolicyd's lease for {lease.profile}", "--quiet"]
    argv += [f"--on-active={max(1, round(seconds))}s", f"--on-calendar=@{int(lease.deadline_wall)}"]
    argv += ["--timer-property=AccuracySec=1s", *(f"--property={text}" for text in properties)]
    argv += [f"--setenv=PYTHONPATH={python_path}"] if python_path else []
    return [*argv, "--", *command]


class SystemdTimers:
    """The port ``Timers``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        parent = Path(__file__).resolve().parents[2]
        # from a source tree the package is found only by its place; an installed one needs (and gets) nothing
        self.python_path = str(parent) if (parent / "pyproject.toml").exists() else ""

    def problem(self) -> Optional[str]:
        if not Path("/run/systemd/system").is_dir():
            return "this machine is not run by systemd"
        for unit in STATIC_UNITS:
            state = process.run(["systemctl", "is-enabled", unit], ok=range(256)).stdout.strip()
            if state not in {"enabled", "static", "enabled-runtime"}:
                return f"the unit {unit} is {state or 'not installed'}"
        if not self._is_active("sepolicyd-lease.timer"):
            return "the unit sepolicyd-lease.timer is not active"
        return self._one_shot_problem()

    def _one_shot_problem(self) -> Optional[str]:
        env = {"PYTHONPATH": self.python_path} if self.python_path else {}
        try:
            process.run(self._one_shot("--check"), cwd=Path("/"), env=env, timeout=120)
        except ToolError as error:
            return f"the one-shot that ends leases does not start: {error.what}"
        return None

    def arm(self, lease: Lease, seconds: float) -> None:
        process.run(argv_arm(lease, seconds, self._one_shot(), self.python_path), timeout=60)

    def armed(self, lease: Lease) -> bool:
        return self._is_active(f"{lease.unit}.timer")

    def disarm(self, lease: Lease) -> None:
        process.run(["systemctl", "stop", f"{lease.unit}.timer"], ok=(0, 5), timeout=60)  # 5: not loaded

    def stop_services(self, units: tuple[str, ...]) -> None:
        process.run(["systemctl", "stop", *units], ok=(0, 5), timeout=300)

    def _one_shot(self, *arguments: str) -> list[str]:
        return one_shot(self.directory, *arguments, isolated=not self.python_path)

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
