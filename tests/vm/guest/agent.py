"""Agent in the guest: executes commands received as JSON lines from the virtio port, each in a thread.

Started by bench-agent.service as unconfined_u:unconfined_r:unconfined_t, which is what an administrator's root shell is
on this distribution. A heartbeat every few seconds is how the host tells a slow guest from a dead one.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import threading
import time

PORT = "/dev/virtio-ports/bench"
BEAT_S = 3.0
OUTPUT_LIMIT = 4 * 1024 * 1024


class Port:
    """One line of JSON out, one line of JSON in; survives a host that is not (or no longer) connected."""

    def __init__(self) -> None:
        while not os.path.exists(PORT):
            time.sleep(0.1)
        self.fd = os.open(PORT, os.O_RDWR)
        self.lock = threading.Lock()
        self.rest = b""

    def send(self, message: dict) -> None:
        data = json.dumps(message).encode() + b"\n"
        with self.lock:
            while data:
                try:
                    data = data[os.write(self.fd, data[:32768]) :]
                except OSError:
                    time.sleep(0.2)

    def receive(self) -> dict:
        while b"\n" not in self.rest:
            piece = os.read(self.fd, 65536)
            if not piece:  # the host end is closed: read returns at once, with nothing
                time.sleep(0.1)
            self.rest += piece
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)


def run(message: dict) -> dict:
    """Run one shell script to its end or its timeout; the whole process group ends with it."""
    began = time.monotonic()
    process = subprocess.Popen(
        ["/bin/bash", "-c", message["script"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        cwd="/root",
        env={**os.environ, "HOME": "/root", "LC_ALL": "C.UTF-8", "USER": "root", "LOGNAME": "root"},
    )
    timed_out = False
    try:
        out, err = process.communicate(message.get("stdin", "").encode(), timeout=message["timeout"])
    except subprocess.TimeoutExpired:
        timed_out = True
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    return {
        "rc": process.returncode,
        "out": out[-OUTPUT_LIMIT:].decode(errors="replace"),
        "err": err[-OUTPUT_LIMIT:].decode(errors="replace"),
        "seconds": time.monotonic() - began,
        "timed_out": timed_out,
    }


def put(message: dict) -> dict:
    mode = "ab" if message.get("append") else "wb"
    with open(message["path"], mode) as file:
        file.write(base64.b64decode(message["data"]))
    os.chmod(message["path"], message.get("mode", 0o644))
    return {"rc": 0}


def get(message: dict) -> dict:
    try:
        with open(message["path"], "rb") as file:
            file.seek(message.get("offset", 0))
            data = file.read(message.get("limit", 262144))
    except OSError as error:
        return {"rc": error.errno, "err": str(error)}
    return {"rc": 0, "data": base64.b64encode(data).decode()}


def answer(port: Port, message: dict) -> None:
    try:
        reply = {"run": run, "put": put, "get": get}[message["do"]](message)
    except Exception as error:  # noqa: BLE001 - the host has to hear of whatever went wrong here
        reply = {"rc": -1, "err": f"agent: {error!r}"}
    port.send({"id": message["id"], **reply})


def network() -> None:
    """The host forwards one port to 10.0.2.15; nothing goes out (QEMU's restrict=on)."""
    for words in (
        ["ip", "link", "set", "lo", "up"],
        ["ip", "addr", "add", "10.0.2.15/24", "dev", "eth0"],
        ["ip", "link", "set", "eth0", "up"],
    ):
        subprocess.run(words, check=False, capture_output=True)


def main() -> None:
    network()
    port = Port()
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()

    def beat() -> None:
        while True:
            with open("/proc/uptime") as file:
                uptime = float(file.read().split()[0])
            port.send({"beat": boot, "uptime": uptime})
            time.sleep(BEAT_S)

    threading.Thread(target=beat, daemon=True).start()
    while True:
        message = port.receive()
        threading.Thread(target=answer, args=(port, message), daemon=True).start()


main()
