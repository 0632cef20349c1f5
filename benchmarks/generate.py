"""Generate large logs from captured JupyterHub events: ``mixed`` (5 % denials, six records per event) and ``dense``.

Every event is a captured one with new times, serials, process numbers, inodes, ports, users and numbers in names. Users'
processes run in containers with a pair of categories each, as with DockerSpawner or PodmanSpawner. Types are renamed to types
of Debian's policy, because audit2allow drops unknown types. The output is deterministic. Run as ``python -m benchmarks.generate
mixed|dense OUT [MEGABYTES]``.
"""

from __future__ import annotations

import gzip
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.paths import DATA as DATA_ROOT

DATA = DATA_ROOT / "jupyterhub"
MEGABYTES = {"mixed": 160, "dense": 100}
DENIAL_SHARE = 0.05
RECORDS = 6
START = 1795373000.0
STUDENTS = 300

_STAMP = re.compile(rb"audit\((\d+\.\d+:\d+)\)")
# What varies, in the order of the alternatives: stamp, process numbers, inodes, ephemeral ports, users, numbers in names.
_VARIES = re.compile(
    rb"(?P<stamp>(?<=audit\()[\d.]+:\d+)|(?P<pid>(?<=[ p]pid=)\d{2,})|(?P<ino>(?<= ino=)\d{3,}|(?<=inode=)\d{3,})"
    rb"|(?P<port>(?<=dest=)[3-6]\d{4}|(?<=src=)[3-6]\d{4})|(?P<user>(?<=/home/)(?:alice|bob)|(?<=AUID=\")(?:alice|bob))"
    rb"|(?P<mcs>(?<=:s0:)cMCS)|(?P<uuid>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4})|(?P<digits>(?<=/proc/)\d+|(?<=name=\")\d{2,}(?=\"))"
)
_STUDENT = re.compile(rb" uid=1000 ")
_KNOWN_TYPES = (
    (b"jupyterhub_user_t:s0", b"svirt_t:s0:cMCS"),
    (b"jupyterhub_proxy_t", b"httpd_t"),
    (b"jupyterhub_etc_t", b"httpd_config_t"),
    (b"jupyterhub_exec_t", b"httpd_exec_t"),
    (b"jupyterhub_log_t", b"httpd_log_t"),
    (b"jupyterhub_var_lib_t", b"httpd_var_lib_t"),
    (b"jupyterhub_t", b"httpd_t"),
)
_PADDING = (
    b'type=PATH msg=audit(0.0:0): item=%d name="/home/alice/.local/share/jupyter/runtime/" inode=4711 dev=fe:00 '
    b"mode=040700 ouid=1000 ogid=1000 rdev=00:00 obj=unconfined_u:object_r:xdg_data_t:s0 nametype=PARENT cap_fp=0 "
    b'cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0\x1dOUID="alice" OGID="alice"\n'
)


class Template:
    """One captured event, cut where it varies."""

    def __init__(self, text: bytes) -> None:
        self.parts: list[bytes] = []
        self.kinds: list[tuple[str, int]] = []
        end = 0
        for match in _VARIES.finditer(text):
            self.parts.append(text[end : match.start()])
            value = match[0]
            self.kinds.append((str(match.lastgroup), int(value) if value.isdigit() else 0))
            end = match.end()
        self.parts.append(text[end:])

    def render(self, stamp: bytes, turn: int) -> bytes:
        out = []
        for part, (kind, number) in zip(self.parts, self.kinds):
            out.append(part)
            out.append(_vary(kind, number, stamp, turn))
        out.append(self.parts[-1])
        return b"".join(out)


def _vary(kind: str, number: int, stamp: bytes, turn: int) -> bytes:
    if kind == "stamp":
        return stamp
    if kind in ("pid", "digits"):
        return b"%d" % (300 + (number + turn * 61) % 32000)
    if kind == "ino":
        return b"%d" % (number + turn * 13)
    if kind == "port":
        return b"%d" % (32768 + (number + turn * 7) % 28000)
    if kind == "uuid":
        return b"%08x-%04x-%04x" % (turn * 2654435761 % 2**32, turn % 65536, turn * 7 % 65536)
    if kind == "mcs":
        return b"c%d,c%d" % (turn % 512, 512 + turn * 7 % 512)
    return b"student%d" % (turn % STUDENTS)


def known_types(text: bytes) -> bytes:
    """Return the event with types of Debian's policy; a student's process confined as svirt_t with categories of its own."""
    if _STUDENT.search(text):
        text = text.replace(b"scontext=system_u:system_r:jupyterhub_t:s0", b"scontext=system_u:system_r:jupyterhub_user_t:s0")
    for old, new in _KNOWN_TYPES:
        text = text.replace(old, new)
    return text


def captured_events() -> list[list[bytes]]:
    """Return the events of the captured logs as lists of lines, in order."""
    events: dict[tuple[str, bytes], list[bytes]] = {}
    for path in sorted(DATA.glob("0*.log.gz")):
        for line in gzip.decompress(path.read_bytes()).splitlines(keepends=True):
            stamp = _STAMP.search(line)
            if stamp is not None:
                events.setdefault((path.name, stamp[1]), []).append(line)
    return list(events.values())


def padded(lines: list[bytes]) -> bytes:
    """Return the event with PATH records added before its PROCTITLE until it has RECORDS lines."""
    lines = list(lines)
    while len(lines) < RECORDS:
        lines.insert(-1, _PADDING % len(lines))
    return b"".join(lines[:RECORDS])


def templates() -> tuple[list[bytes], list[bytes], list[bytes]]:
    """(denial events, audited system calls of RECORDS lines, single records) as text."""
    denials, calls, single = [], [], []
    for lines in captured_events():
        text = known_types(b"".join(lines))
        if b"denied  {" in text:
            denials.append(text)
            rest = [line for line in text.splitlines(keepends=True) if b"avc:" not in line]
            if len(rest) >= 3:
                calls.append(padded(rest).replace(b"key=(null)", b'key="jupyterhub-files"'))
        elif len(lines) == 1 and b"avc:" not in text and b"USER_" in text:
            single.append(text)
    return denials, calls, single


def generate(kind: str, size: int, seed: int = 11) -> Iterator[bytes]:
    """Events of a log of about ``size`` bytes, oldest first."""
    chance = random.Random(seed)
    denials, calls, single = (list(map(Template, texts)) for texts in templates())
    written, serial, now, number = 0, 1000, START, 0
    while written < size:
        now += chance.choice((0.0, 0.004, 0.004, 0.012, 0.06, 0.4))
        serial += 1 if chance.random() < 0.98 else chance.randrange(2, 9)
        if kind == "dense" or chance.random() < DENIAL_SHARE:
            chosen = chance.choice(denials)
        else:
            chosen = chance.choice(single) if chance.random() < 0.01 else chance.choice(calls)
        event = chosen.render(b"%.3f:%d" % (now, serial), number // len(denials))
        number += 1
        written += len(event)
        yield event


def write(kind: str, out: Path, megabytes: int) -> None:
    with out.open("wb") as file:
        file.writelines(generate(kind, megabytes * 1_000_000))


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else MEGABYTES[sys.argv[1]])
