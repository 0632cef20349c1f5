"""One virtual machine: run commands in it, fetch files, and raise Lost if it hangs or dies.

The guest's agent answers on a virtio port, the serial console goes to a file, QEMU's monitor speaks QMP on a socket.
KVM only when the stock kernel really boots under it (a KVM device that accepts CREATE_VM may still crawl or stop with an
emulation failure: nested "pagetable VM"), else software emulation.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import queue
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from tests.vm.errors import CannotRun, Failed, Lost
from tests.vm.image import Image

MEMORY_MIB = 2560
# The agent beats every 3 s; a guest under load on a shared host was seen to pause for tens of seconds.
SILENCE_S = 180.0
BOOT_S = 400.0
CHUNK = 192 * 1024


@dataclass(frozen=True)
class Result:
    """How a command in the guest ended. seconds is the guest's own clock."""

    script: str
    rc: int
    out: str
    err: str
    seconds: float
    timed_out: bool = False

    @property
    def text(self) -> str:
        return (self.out + self.err).strip()


@dataclass(frozen=True)
class Accelerator:
    """What runs the guest's instructions: "kvm" or "tcg", and how many processors each guest is given."""

    kind: str = "tcg"
    processors: int = 2

    @property
    def name(self) -> str:
        """Part of a saved state's name: it can be resumed on the same machine only."""
        return f"{self.kind}{self.processors}"

    def argv(self) -> list[str]:
        """QEMU's options."""
        processors = ["-smp", str(self.processors)]
        if self.kind == "kvm":
            return ["-accel", "kvm", "-cpu", "host", *processors]
        # with one processor QEMU need not make the guest's atomic instructions atomic
        thread = "multi" if self.processors > 1 else "single"
        return ["-accel", f"tcg,thread={thread},tb-size=512", "-cpu", "max", *processors]


class Machine:
    """A running guest. Everything it leaves behind is in `logs`."""

    def __init__(self, image: Image, logs: Path, accel: Accelerator, overlay: Optional[Path] = None) -> None:
        self.image = image
        # another machine's policy may be twice the size of the distribution's: commands that link it take as much longer
        self.patience = 4.0 if image.base else 1.0
        self.logs = logs
        self.accel = accel
        logs.mkdir(parents=True, exist_ok=True)
        self.run_directory = Path(tempfile.mkdtemp(prefix="sepolicyd-vm-", dir="/tmp"))  # socket paths: 107 bytes at most
        self.disk = logs / "disk.qcow2"
        self.base = overlay
        self.hub_port = free_port()
        self.boot_id = ""
        self.last_sign = time.monotonic()
        self.answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self.numbers = itertools.count(1)
        self.boots: queue.Queue[str] = queue.Queue()
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.agent: Optional[socket.socket] = None
        self.write_lock = threading.Lock()

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self, incoming: Optional[Path] = None, wait: bool = True) -> None:
        """Boot, or resume a saved state (then `overlay` is the disk as it was saved). :raises Lost:"""
        backing, kind = (self.base, "qcow2") if self.base else (self.image.disk, "raw")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(backing), "-F", kind, str(self.disk)], check=True)
        argv = self.argv()
        if incoming:
            argv += ["-incoming", f"exec:cat {shlex.quote(str(incoming))}"]
        (self.logs / "qemu.cmd").write_text(shlex.join(argv) + "\n")
        errors = (self.logs / "qemu.err").open("ab")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        self.agent = self.connect("agent")
        threading.Thread(target=self.listen, args=(self.agent,), daemon=True).start()
        if incoming:
            self.wait_migrated("inmigrate")
            self.qmp("cont")
        if wait:
            self.wait_boot()

    def argv(self) -> list[str]:
        run = self.run_directory
        return [
            # JupyterHub gives its proxy 10 s; a guest that shares its cores with compilers misses that
            "nice", "-n", "-10", "qemu-system-x86_64", *self.accel.argv(), "-m", str(MEMORY_MIB),
            "-display", "none", "-nodefaults", "-no-user-config",
            "-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd),
            "-append", "root=/dev/vda rw console=ttyS0 security=selinux net.ifnames=0 quiet systemd.show_status=true",
            "-serial", f"file:{self.logs / 'console.log'}",
            "-chardev", f"socket,id=qmp,path={run / 'qmp'},server=on,wait=off", "-mon", "chardev=qmp,mode=control",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,path={run / 'agent'},server=on,wait=off",
            "-device", "virtserialport,chardev=agent,name=bench",
            "-drive", f"file={self.disk},if=virtio,format=qcow2,cache=unsafe",
            "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.hub_port}-10.0.2.15:8000",
            "-device", "virtio-net-pci,netdev=net",
            "-device", "virtio-rng-pci",
        ]  # fmt: skip

    def connect(self, name: str) -> socket.socket:
        until = time.monotonic() + 30
        while True:
            link = socket.socket(socket.AF_UNIX)
            try:
                link.connect(str(self.run_directory / name))
            except OSError:
                link.close()
                self.check_alive()
                if time.monotonic() > until:
                    raise Lost(f"QEMU did not open its {name} socket in 30 s") from None
                time.sleep(0.1)
            else:
                return link

    def stop(self) -> None:
        """End QEMU; quick, for a guest whose disk nobody needs any more."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.agent:
            self.agent.close()
        self.disk.unlink(missing_ok=True)
        shutil.rmtree(self.run_directory, ignore_errors=True)

    def check_alive(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            said = (self.logs / "qemu.err").read_text(errors="replace").strip()[-300:]
            raise Lost(f"QEMU ended with {self.process.returncode}: {said or 'it said nothing'}")
        silent = time.monotonic() - self.last_sign
        if silent > SILENCE_S:
            raise Lost(f"no heartbeat from the guest for {silent:.0f} s")

    # -- the agent ----------------------------------------------------------------------------------------------------

    def listen(self, link: socket.socket) -> None:
        rest = b""
        while True:
            try:
                piece = link.recv(1 << 20)
            except OSError:
                return
            if not piece:
                return
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self.heard(line)

    def heard(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:  # what was left of a line when the guest went down
            return
        self.last_sign = time.monotonic()
        if "beat" in message:
            if message["beat"] != self.boot_id:
                self.boot_id = message["beat"]
                self.boots.put(self.boot_id)
        elif message.get("id") in self.answers:
            self.answers[message["id"]].put(message)

    def ask(self, message: dict[str, Any], timeout: float) -> dict[str, Any]:
        number = next(self.numbers)
        box: queue.Queue[dict[str, Any]] = queue.Queue()
        self.answers[number] = box
        assert self.agent is not None
        with self.write_lock:
            self.agent.sendall(json.dumps({"id": number, **message}).encode() + b"\n")
        until = time.monotonic() + timeout
        try:
            while True:
                try:
                    return box.get(timeout=1.0)
                except queue.Empty:
                    self.check_alive()
                    if time.monotonic() > until:
                        raise Lost(f"the guest's agent did not answer in {timeout:.0f} s") from None
        finally:
            del self.answers[number]

    def run(self, script: str, *, timeout: float = 300, check: bool = True, stdin: str = "") -> Result:
        """Run a bash script as root (unconfined_t). :raises Failed: with check, when it ends with anything but 0"""
        timeout *= self.patience
        reply = self.ask({"do": "run", "script": script, "timeout": timeout, "stdin": stdin}, timeout + 120)
        result = Result(script, reply["rc"], reply.get("out", ""), reply.get("err", ""), reply.get("seconds", 0.0),
                        reply.get("timed_out", False))  # fmt: skip
        with (self.logs / "commands.log").open("a") as log:
            log.write(f"[{time.strftime('%H:%M:%S')}] $ {script}\n")
            log.write(f"{result.out}{result.err}-> {result.rc} in {result.seconds:.1f} s\n")
        if check and result.rc != 0:
            ended = "had not finished in time" if result.timed_out else f"ended with {result.rc}"
            raise Failed(f"in the guest, `{script.strip()[:200]}` {ended}: {result.text[-1500:]}")
        return result

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        pieces = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)] or [b""]
        for index, piece in enumerate(pieces):
            text = base64.b64encode(piece).decode()
            reply = self.ask({"do": "put", "path": path, "data": text, "append": index > 0, "mode": mode}, 120)
            if reply["rc"] != 0:
                raise Failed(f"{path} could not be written in the guest: {reply.get('err')}")

    def get(self, path: str) -> bytes:
        data = b""
        while True:
            reply = self.ask({"do": "get", "path": path, "offset": len(data), "limit": CHUNK}, 120)
            if reply["rc"] != 0:
                raise Failed(f"{path} could not be read in the guest: {reply.get('err')}")
            piece = base64.b64decode(reply["data"])
            if not piece:
                return data
            data += piece

    # -- boots --------------------------------------------------------------------------------------------------------

    def wait_boot(self) -> None:
        """Until the agent of a new boot speaks. :raises Lost: after BOOT_S, or when QEMU ends"""
        until = time.monotonic() + BOOT_S
        while True:
            self.last_sign = time.monotonic()
            try:
                self.boots.get(timeout=1.0)
            except queue.Empty:
                self.check_alive()
                if time.monotonic() > until:
                    raise Lost(f"the guest had not booted after {BOOT_S:.0f} s: see {self.logs / 'console.log'}") from None
            else:
                return

    def reboot(self) -> None:
        """An orderly reboot."""
        self.run("systemd-run --on-active=1 systemctl reboot", check=False)
        self.wait_boot()

    def reset(self) -> None:
        """The power fails: what was not on the disk is gone."""
        self.qmp("system_reset")
        self.wait_boot()

    # -- QEMU's monitor -----------------------------------------------------------------------------------------------

    def qmp(self, command: str, **arguments: Any) -> Any:
        link = self.connect("qmp")
        with link, link.makefile("rw", encoding="utf-8") as file:

            def reply() -> Any:
                for line in file:
                    message = json.loads(line)
                    if "error" in message:
                        raise Lost(f"QEMU refused {command}: {message['error'].get('desc')}")
                    if "return" in message:
                        return message["return"]
                raise Lost(f"QEMU closed its monitor during {command}")

            answer: Any = None
            file.readline()  # greeting
            for step in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                file.write(json.dumps(step) + "\n")
                file.flush()
                answer = reply()
            return answer  # of the command, which is the second step

    def wait_migrated(self, leaving: str, timeout: float = 300) -> None:
        until = time.monotonic() + timeout
        while True:
            self.check_alive()
            state = self.qmp("query-status")["status"] if leaving == "inmigrate" else self.qmp("query-migrate").get("status")
            if state == "failed":
                raise Lost("QEMU could not save the machine's state")
            if state != leaving:
                return
            if time.monotonic() > until:
                raise Lost(f"QEMU was still in {leaving} after {timeout:.0f} s")
            time.sleep(0.3)

    def save(self, directory: Path) -> None:
        """Freeze the running guest into `directory` (state and disk); this machine is over afterwards."""
        self.qmp("stop")
        self.qmp("migrate-set-parameters", **{"max-bandwidth": 10 * 1024**3})
        self.qmp("migrate", uri=f"exec:cat > {shlex.quote(str(directory / 'state'))}")
        time.sleep(0.5)
        self.wait_migrated("setup")
        self.wait_migrated("active")
        if self.process:
            self.qmp_quit()
        shutil.move(self.disk, directory / "disk.qcow2")

    def qmp_quit(self) -> None:
        assert self.process is not None
        with suppress(Lost, OSError):  # it may close the socket before it answers
            self.qmp("quit")
        self.process.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kvm_works(image: Image, directory: Path) -> bool:
    """Boot the real kernel under KVM until it mounts its root or 25 s are over; the answer is kept beside the image."""
    note = image.directory / "accelerator"
    if note.exists():
        return note.read_text().strip() == "kvm"
    works = False
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        machine = Machine(image, directory, Accelerator("kvm"))
        try:
            machine.start(wait=False)
            works = reaches(machine, re.compile(r"systemd\[1\]|Welcome to|Reached target"), 25)
        except Lost:
            works = False
        finally:
            machine.stop()
    note.write_text("kvm\n" if works else "tcg\n")
    return works


def reaches(machine: Machine, pattern: re.Pattern[str], seconds: float) -> bool:
    until = time.monotonic() + seconds
    console = machine.logs / "console.log"
    while time.monotonic() < until:
        if console.exists() and pattern.search(console.read_text(errors="replace")):
            return True
        machine.check_alive()
        time.sleep(0.5)
    return False


@contextmanager
def running(image: Image, logs: Path, accel: Accelerator, state: Optional[Path]) -> Iterator[Machine]:
    """A guest resumed from a saved state in seconds, or freshly booted; its clock is right."""
    machine = Machine(image, logs, accel, overlay=state / "disk.qcow2" if state else None)
    try:
        machine.start(incoming=state / "state" if state else None)
        machine.run(f"date -s @{int(time.time())} >/dev/null")
        kernel_has_selinux(machine)
        yield machine
    finally:
        machine.stop()


def saved(
    image: Image, logs: Path, accel: Accelerator, name: str, make: Callable[[Machine], None], start: Optional[Path]
) -> Path:
    """The saved state of this name: made once, by resuming `start` (or booting) and doing `make`; older ones of the kind go."""
    kind = f"state-{image.name}-{accel.name}"
    state = image.directory / f"{kind}-{name}"
    if state.exists():
        return state
    for old in image.directory.glob(f"{kind}-{name.split('-')[0]}*"):
        shutil.rmtree(old)
    unfinished = image.directory / f"{kind}-{name}.unfinished"
    unfinished.mkdir()
    with running(image, logs, accel, start) as machine:
        make(machine)
        machine.run("systemctl is-system-running --wait; sync", check=False, timeout=120)
        machine.save(unfinished)
    unfinished.rename(state)
    return state


def kernel_has_selinux(machine: Machine) -> None:
    if machine.run("test -e /sys/fs/selinux/enforce", check=False).rc != 0:
        raise CannotRun("the guest's kernel came up without SELinux: see console.log")
