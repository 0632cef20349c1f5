"""Seconds and memory of ``list`` where one process was denied very many different accesses, as one ``find /`` does."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from benchmarks.figures import Figure, Timed, timed
from sepolicyd.module.store import Store
from sepolicyd.policy.index import PolicyIndex

ROWS = (1_000, 5_000, 20_000)
LIMIT_S, LIMIT_MIB = 10.0, 300.0
SOURCE = "sshd_t"
PERMISSIONS = ("getattr", "open", "read", "lock", "write", "append", "unlink")
PROFILE = f"name: rows\ndescription: one domain\nunits: []\nroles:\n  - name: service\n    domains: [{SOURCE}]\n"
LINE = (
    'type=AVC msg=audit(1795377192.%03d:%d): avc:  denied  { %s } for  pid=465 comm="find" name="f%d" dev="vda" ino=%d '
    "scontext=system_u:system_r:" + SOURCE + ":s0 tcontext=system_u:object_r:%s:s0 tclass=%s permissive=1\n"
)


def write_log(path: Path, rows: int) -> None:
    """Write a log with this number of different accesses, on the file types of this machine's policy."""
    policy = PolicyIndex.load(Store().policy())
    types = sorted(policy.types_of("file_type"))
    accesses = itertools.product(("file", "lnk_file"), PERMISSIONS, types)
    with path.open("w", encoding="ascii") as log:
        for number, (tclass, permission, target) in enumerate(itertools.islice(accesses, rows)):
            log.write(LINE % (number % 1000, number, permission, number, number, target, tclass))


def measure(work: Path, rows: int) -> tuple[Timed, Timed]:
    """Measure the reading of the log, and ``list``."""
    sepolicyd = str(Path(sys.executable).parent / "sepolicyd")
    place = work / str(rows)
    (place / "profile").mkdir(parents=True)
    profile, log, state = place / "profile/profile.yaml", place / "audit.log", place / "state"
    profile.write_text(PROFILE, encoding="ascii")
    write_log(log, rows)
    where = ["--profile", str(profile), "--state", str(state)]
    read = timed([sepolicyd, "run", "--once", "--log", str(log), *where])
    listed = timed([sepolicyd, "list", *where])
    if read.returncode != 0 or listed.returncode not in (0, 1):
        raise RuntimeError(f"{rows} rows: run ended with {read.returncode}, list with {listed.returncode}")
    return read, listed


def figures(work: Path) -> list[Figure]:
    found = []
    for rows in ROWS:
        read, listed = measure(work, rows)
        goal = f"within {LIMIT_S:.0f} s and {LIMIT_MIB:.0f} MiB" if rows == max(ROWS) else ""
        what = f"{rows:,} different accesses of one process"
        found.append(Figure(f"{what}: read", "sepolicyd run --once", f"{read.seconds:.1f} s"))
        ours = f"{listed.seconds:.1f} s, {listed.rss_mib:.0f} MiB"
        found.append(Figure(what, "sepolicyd list", ours, goal=goal))
    return found
