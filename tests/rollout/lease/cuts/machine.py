"""A simulated machine in a mount namespace: a lease, an interrupted command, and the following boot."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from sepolicyd.kernel.boot_policy import BootPolicy
from sepolicyd.kernel.policy_image import parse_head
from sepolicyd.kernel.selinuxfs import STATUS
from sepolicyd.module.store import Store
from sepolicyd.rollout.clock import Moment, SystemClock
from sepolicyd.rollout.lease.lease import Lease, LeasePhase, module_text
from sepolicyd.rollout.lease.lease_records import LeaseBook, LeaseEvent
from tests.paths import ROOT

CUT = 77
STATE, FS, BOOT_ID = Path("/var/lib/sepolicyd"), Path("/sys/fs/selinux"), Path("/proc/sys/kernel/random/boot_id")
MODULE, DOMAIN = "sepolicyd_lease_hub", "svc_t"
SOURCE = Path(__file__).with_name("cut.c")

SYSTEMD = """#!/bin/sh
case "$1" in is-enabled) echo enabled;; is-active) echo active;; esac
"""
# the kernel takes the policy that a boot would take
LOAD_POLICY = f"""#!{sys.executable}
import struct
from pathlib import Path
fs = Path("{FS}")
policy = max(Path("/etc/selinux").glob("*/policy/policy.[0-9]*"), key=lambda path: int(path.suffix[1:]))
(fs / "policy").write_bytes(policy.read_bytes())
page = list(struct.unpack("=5I", (fs / "status").read_bytes()[:20]))
(fs / "status").write_bytes(struct.pack("=5I", page[0], page[1] + 2, page[2], page[3] + 1, page[4]) + bytes(4076))
"""


def build_tracer(directory: Path) -> Path:
    """Compile cut.c."""
    program = directory / "cut"
    subprocess.run(["gcc", "-O2", "-o", str(program), str(SOURCE)], check=True)
    return program


def make_tools(directory: Path) -> Path:
    """Stand-ins for the tools that need a running systemd or an SELinux kernel; everything else is the real one."""
    place = directory / "tools"
    place.mkdir()
    for name, text in (("systemctl", SYSTEMD), ("systemd-run", SYSTEMD), ("load_policy", LOAD_POLICY)):
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    return place


@dataclass
class CutMachine:
    """``place`` holds root/ (store and /etc/selinux), state/, fs/ (the kernel) and boot_id."""

    place: Path
    tracer: Path
    tools: Path
    domain: str = DOMAIN

    @property
    def store(self) -> Store:
        return Store(self.place / "root", "default")

    @property
    def book(self) -> LeaseBook:
        return LeaseBook(self.place / "state/rollout")

    @property
    def boot_policy(self) -> BootPolicy:
        return BootPolicy(self.place / "root/etc/selinux/default/policy")

    def copy(self, place: Path) -> CutMachine:
        shutil.copytree(self.place, place, symlinks=True)
        return CutMachine(place, self.tracer, self.tools, self.domain)

    def power_on(self) -> None:
        """A boot: the kernel loads the policy file and enforces, and has a new boot id."""
        (self.place / "fs").mkdir(exist_ok=True)
        (self.place / "state").mkdir(exist_ok=True)
        (self.place / "fs/enforce").write_bytes(b"1")
        (self.place / "fs/policy").write_bytes(self.boot_policy.newest().read_bytes())
        (self.place / "fs/status").write_bytes(STATUS.pack(1, 4, 1, 1, 0) + bytes(4076))
        (self.place / "boot_id").write_text(f"{uuid.uuid4()}\n")

    def open_lease(self, *, due: bool, hidden: bool) -> Lease:
        """Put a lease there as `learn start` leaves it: module in the store, record, history, permissive kernel."""
        cil = self.place / f"{MODULE}.cil"
        cil.write_text(module_text((self.domain,)))
        words = ["-X", "360", *(["-D"] if hidden else []), "-i", str(cil)]
        subprocess.run(["/usr/sbin/semodule", *self.store.argv(*words)[1:]], check=True, capture_output=True)
        self.power_on()
        now = Moment(SystemClock().now().wall, SystemClock().now().boottime, (self.place / "boot_id").read_text().strip())
        left = -1.0 if due else 3600.0
        lease = Lease(
            profile="hub", id="ab12", domains=(self.domain,), whole_system=False, hidden=hidden, module=MODULE, priority=360,
            opened=now, deadline_wall=now.wall + left, deadline_boottime=now.boottime + left, phase=LeasePhase.OPEN,
        )  # fmt: skip
        self.book.write(lease)
        self.book.record(LeaseEvent.OPENED, now, id="ab12", profile="hub", domains=[self.domain], hidden=hidden)
        return lease

    def run(self, *words: str, cut: int = 0, torn: bool = False) -> tuple[int, str]:
        """Run ``python -m WORDS`` under the tracer; the exit code is CUT if change number ``cut`` was the last one."""
        binds = {
            "root/etc/selinux": Path("/etc/selinux"), "root/var/lib/selinux": Path("/var/lib/selinux"), "state": STATE,
            "boot_id": BOOT_ID,
        }  # fmt: skip
        here = shlex.quote(str(self.place))
        mounts = [f"mount --bind {here}/{name} {target}" for name, target in binds.items()]
        setup = [
            f"mkdir -p {STATE}", "mount -t tmpfs none /sys/fs", f"mkdir {FS}", f"mount --bind {here}/fs {FS}",
            "mount -t tmpfs none /run", "mkdir -p /run/systemd/system", *mounts,
        ]  # fmt: skip
        command = [str(self.tracer), str(self.place / "log"), str(cut), str(int(torn)), sys.executable, "-m", *words]
        path = f"{self.tools}:/usr/sbin:/usr/bin:/sbin:/bin"
        env = {"PATH": path, "SEPOLICYD_PATH": path, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        script = " && ".join([*setup, f"exec {shlex.join(command)}"])
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script], env=env, cwd="/", capture_output=True, text=True, timeout=300, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def changes(self) -> list[str]:
        """The changes of the last run, one ``NUMBER CALL PATH`` each."""
        return (self.place / "log").read_text().splitlines()

    @property
    def opened_by_boot(self) -> bool:
        """Whether the policy that the next boot loads makes the domain permissive."""
        return self.domain in self.boot_policy.permissive_types()

    @property
    def kernel_open(self) -> bool:
        enforcing = (self.place / "fs/enforce").read_bytes().strip() == b"1"
        return not enforcing or self.domain in parse_head((self.place / "fs/policy").read_bytes()).permissive

    def starts(self, unit: str) -> bool:
        """Whether systemd would start a unit: one of its triggering conditions (``|``) holds, or it has none."""
        text = (ROOT / "systemd" / unit).read_text()
        triggers = re.findall(r"(?m)^Condition(\w+)=\|(.+)$", text)
        return not triggers or any(self._holds(kind, value) for kind, value in triggers)

    def _holds(self, kind: str, value: str) -> bool:
        places = {"/var/lib/sepolicyd": "state", "/var/lib/selinux": "root/var/lib/selinux", "/etc/selinux": "root/etc/selinux"}
        prefix = next(prefix for prefix in places if value.startswith(prefix))
        pattern = f"{places[prefix]}{value[len(prefix) :]}"
        found = list(self.place.glob(pattern))
        if kind == "DirectoryNotEmpty":
            return any(path.is_dir() and any(path.iterdir()) for path in found)
        assert kind in {"PathExists", "PathExistsGlob"}, kind
        return bool(found)

    def left(self) -> list[str]:
        """Everything of a lease that is still somewhere."""
        found = ["kernel"] * self.kernel_open + ["boot policy"] * self.opened_by_boot
        found += self.store.files.priorities("sepolicyd_lease_")
        found += [path.name for path in self.book.undo_dir.glob("*")]
        found += ["dontaudit rules are off"] * self.store.files.dontaudit_off
        found += [] if self.boot_policy.holds(self.store.policy().read_bytes()) else ["the boot policy is not the store's"]
        return found


def can_trace() -> bool:
    """Whether this machine can run all this."""
    tools = all(shutil.which(name) for name in ("gcc", "unshare", "mount")) and Path("/usr/sbin/semodule").exists()
    words = ["unshare", "-m", "sh", "-c", f"mount -t tmpfs none /mnt && mount --bind /dev/null {BOOT_ID}"]
    return tools and os.geteuid() == 0 and not FS.exists() and subprocess.run(words, check=False).returncode == 0
