"""Differential fuzzer of the log readers: python -m tools.fuzz [--seconds N] [--seed N].

Logs are made of records as the kernel and its senders encode them, from bytes that a process may choose, and of mutations
of captured records. Each log must give the same accesses read as a whole, in the daemon's pieces, and record by record. In
logs without mutations no access may appear that the writer did not put there. A log that differs is written to a file.
"""

from __future__ import annotations

import argparse
import gzip
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Optional

from tests.audit.parse import kernel
from tests.audit.parse.kernel import record
from tests.audit.parse.test_attacks import CONTEXTS, FORGED, NAMES
from tests.audit.parse.three_ways import Row, in_pieces, rows, rows_by_records, whole
from tests.paths import DATA

OWN = ("jupyterhub_user_t", "user_home_t", "file", "read")
STATUS = ("jupyterhub_user_t", "init_t", "system", "status")
SEND = ("jupyterhub_user_t", "systemd_logind_t", "dbus", "send_msg")
OF_THE_WRITER = {OWN, STATUS, SEND}
TOKENS = (
    *NAMES.values(),
    *(b'"', b"'", b" ", b"=", b"{", b"}", b"\r", b"\x1d", b"\xff", b"avc:", b"type=AVC ", b"msg=audit(1.2:3): ", b"&quot;"),
    *(b"scontext=", b"tcontext=", b"tclass=", b" exe=", b"msg='", b"node=", b"\\xff", b"#012", CONTEXTS, FORGED),
)

# An SELINUX_ERR is looked for where a line begins: in the middle of another record only a mutation can put it.
GLUED = tuple(token for token in TOKENS if b"SELINUX_ERR" not in token and b"MAC_" not in token)

SHAPES = (
    (b"AVC", b"SYSCALL", b"CWD", b"PATH", b"PROCTITLE"),
    (b"SYSCALL", b"EXECVE", b"CWD"),
    (b"USER_AVC",),
    (b"USER_CMD",),
    (b"AVC",),
)


def hostile(chance: random.Random) -> bytes:
    """Bytes that a process may choose; NUL and newline cannot stand in an argument or end a record."""
    parts = [
        chance.choice(TOKENS) if chance.random() < 0.7 else chance.randbytes(chance.randrange(20))
        for _ in range(chance.randrange(1, 6))
    ]
    return b"".join(parts).replace(b"\0", b"")[: chance.choice((20, 200, 1200))]


def event(chance: random.Random, serial: int) -> bytes:
    """Return one event with user-chosen bytes in every place that the kernel permits."""
    stamp = b"1795377%03d.%03d:%d" % (serial // 1000 % 1000, serial % 1000, serial)
    argv = [b"ls", *(hostile(chance) for _ in range(chance.randrange(3)))]
    kinds = {
        b"AVC": lambda: kernel.avc(comm=hostile(chance), path=b"/" + hostile(chance), name=b"x" + hostile(chance)),
        b"SYSCALL": lambda: kernel.syscall(comm=hostile(chance), exe=b"/" + hostile(chance), key=hostile(chance)),
        b"EXECVE": lambda: kernel.execve(argv),
        b"PROCTITLE": lambda: kernel.proctitle(argv),
        b"CWD": lambda: b"cwd=" + kernel.untrusted(b"/" + hostile(chance)),
        b"PATH": lambda: b"item=0 name=" + kernel.untrusted(b"/" + hostile(chance)) + b" inode=77 dev=fe:01 nametype=NORMAL",
        b"USER_AVC": lambda: kernel.systemd(argv, function=b"f" * chance.randrange(2), enriched=chance.random() < 0.5),
        b"USER_CMD": lambda: b"pid=9 uid=1 subj=u:r:s:s0 msg='cmd=" + kernel.untrusted(hostile(chance)) + b" res=failed'",
    }  # fmt: skip
    chosen = chance.choice(SHAPES)
    node = b"h1" if chance.random() < 0.1 else b""
    return b"".join(record(kind, kinds[kind](), stamp=stamp, node=node) for kind in chosen)


def mutated(chance: random.Random, lines: list[bytes]) -> bytes:
    """Captured records with bytes cut, doubled, or put in."""
    found = []
    for _ in range(chance.randrange(1, 30)):
        line = chance.choice(lines)
        at, end = sorted((chance.randrange(len(line)), chance.randrange(len(line))))
        kind = chance.randrange(5)
        if kind == 0:
            line = line[:at] + line[end:]
        elif kind == 1:
            line = line[:at] + chance.choice(GLUED).replace(b"\n", b" ") + line[at:]
        elif kind == 2:
            line = line[:end] + line[at:]
        elif kind == 3:
            line = line[:at]
        found.append(line if line.endswith(b"\n") else line + b"\n")
    return b"".join(found)


def differs(log: bytes, *, is_genuine: bool, pieces: int) -> str:
    """Return what is wrong with the accesses of the log, "" if nothing."""
    expected: Counter[Row] = rows_by_records(log)
    if is_genuine and not set(expected) <= OF_THE_WRITER:
        return f"forged: {sorted(set(expected) - OF_THE_WRITER)[:3]}"
    for name, found in (("whole", rows(whole(log))), (f"pieces of {pieces} lines", rows(in_pieces(log, pieces)))):
        # a record that stands twice is counted once where it is recognised: which accesses there are must agree
        if set(found) != set(expected):
            return f"{name}: {sorted(set(found) ^ set(expected))[:3]}"
    return ""


def captured() -> list[bytes]:
    lines: list[bytes] = []
    for path in sorted((DATA / "jupyterhub").glob("0*.log.gz")):
        lines += gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    return lines


def run(seconds: float, seed: int, *, most: Optional[int] = None) -> tuple[int, str, bytes]:
    """(logs that were read, what differs, the log that does)."""
    chance, lines = random.Random(seed), captured()
    end, logs = time.monotonic() + seconds, 0
    while time.monotonic() < end and (most is None or logs < most):
        is_genuine = logs % 2 == 0
        log = b"".join(event(chance, n + 1) for n in range(chance.randrange(1, 12))) if is_genuine else mutated(chance, lines)
        wrong = differs(log, is_genuine=is_genuine, pieces=chance.randrange(1, 5))
        logs += 1
        if wrong:
            return logs, wrong, log
    return logs, "", b""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--to", type=Path, default=Path("fuzz-failure.log"), help="where a log that differs is written")
    given = parser.parse_args()
    logs, wrong, log = run(given.seconds, given.seed)
    print(f"seed {given.seed}: {logs} logs, {wrong or 'no difference'}")
    if wrong:
        given.to.write_bytes(log)
        print(f"the log is {given.to}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
