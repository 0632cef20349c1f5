"""The context of a scenario: guest, figures, assertions with a message, and denials."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from tests.paths import ROOT
from tests.vm.errors import Failed
from tests.vm.hub import WAIT_S, ClassError, Report, wait_for_hub, whole_class
from tests.vm.machine import Machine, Result

PAYLOAD = Path(__file__).resolve().parent / "payload"
AUDIT_LOG = "/var/log/audit/audit.log"
HUB_S = 300.0
# The bench's own parser, on purpose not the project's: a judge does not borrow the eyes of the judged.
AVC = re.compile(
    r"avc:\s+denied\s+\{ ([^}]*) \}.*?scontext=\S*?:\S*?:(\w+)\S* tcontext=\S*?:\S*?:(\w+)\S* tclass=(\w+)(?: permissive=(\d))?"
)

Access = tuple[str, str, str, str]  # source type, target type, class, permission


@dataclass
class Figures:
    """The columns of the table; None where a scenario does not measure it."""

    denials: Optional[int] = None
    questions: Optional[int] = None
    rounds: Optional[int] = None
    rules: Optional[int] = None
    new_denials: Optional[int] = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Context:
    """A scenario's hands."""

    machine: Machine
    logs: Path
    figures: Figures = field(default_factory=Figures)

    def say(self, text: str) -> None:
        print(f"  {time.strftime('%H:%M:%S')} {self.logs.name}: {text}", flush=True)
        with (self.logs / "scenario.log").open("a") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    def note(self, text: str) -> None:
        """A figure that has no column."""
        self.figures.notes.append(text)
        self.say(text)

    def run(self, script: str, *, timeout: float = 300, check: bool = True, stdin: str = "") -> Result:
        return self.machine.run(script, timeout=timeout, check=check, stdin=stdin)

    def expect(self, holds: bool, what: str) -> None:
        """An assertion. :raises Failed:"""
        if not holds:
            raise Failed(what)

    def mode(self, wanted: str) -> None:
        """The first assertion of every scenario: SELinux is in the mode that it needs."""
        found = self.run("getenforce").out.strip()
        self.expect(found == wanted, f"SELinux is {found}, this scenario needs {wanted}")

    # -- the hub ------------------------------------------------------------------------------------------------------

    def hub_up(self) -> float:
        """Until the hub answers from outside. :raises Failed:"""
        try:
            return wait_for_hub(self.machine.hub_port, HUB_S, self.machine.check_alive)
        except ClassError as error:
            journal = self.run(
                "journalctl -u jupyterhub -n 8 --no-pager -o cat; tail -n 8 /var/log/jupyterhub.log", check=False
            ).text
            raise Failed(f"{error}; its journal ends: {journal[-1500:]}") from None

    def start_service(self) -> float:
        self.run("systemctl restart jupyterhub")
        return self.hub_up()

    def lesson(self, *names: str, stop: bool = True, must: bool = True, patience: float = WAIT_S) -> list[Report]:
        """These users work at the same time, from outside. :raises Failed: with must, when one of them cannot"""
        began = time.monotonic()
        reports = whole_class(names or ("alice", "bob"), self.machine.hub_port, stop, patience)
        self.machine.check_alive()
        for report in reports:
            steps = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in report.seconds.items())
            self.say(f"{report.user}: {steps}{'; FAILED ' + report.failure if report.failure else ''}")
        self.say(f"the class took {time.monotonic() - began:.0f} s")
        broken = [report.failure for report in reports if not report.ok]
        if must and broken:
            raise Failed(f"the class does not work: {broken[0]}")
        return reports

    def teacher_hands_out(self, name: str = "Übung 2.txt") -> None:
        """An instructor copies a file into the students' homes and hands it over with chown."""
        self.run(
            f"""set -e
            echo 'read this' > '/srv/course/{name}'
            for student in alice bob; do
                cp '/srv/course/{name}' "/home/$student/"
                chown "$student:$student" "/home/$student/{name}"
            done"""
        )

    def log_so_far(self) -> str:
        """Shell words for the whole log, rotated files first."""
        return f"cat $(ls -tr {AUDIT_LOG}.* 2>/dev/null) {AUDIT_LOG}"

    # -- denials ------------------------------------------------------------------------------------------------------

    def mark(self) -> int:
        """A place in the audit log; auditd writes at once, so what happened before is before it."""
        return int(self.run(f"sync; {self.log_so_far()} | wc -l").out)

    def denied(self, since: int = 0, permissive: Optional[bool] = None) -> list[Access]:
        """Every denied access after a mark, repetitions included; permissive: only with that flag."""
        text = self.run(f"{self.log_so_far()} | tail -n +{since + 1} | grep 'avc: *denied' || true").out
        found: list[Access] = []
        for line in text.splitlines():
            match = AVC.search(line)
            if match is None:
                continue
            if permissive is not None and match.group(5) is not None and (match.group(5) == "1") != permissive:
                continue
            found += [(match.group(2), match.group(3), match.group(4), permission) for permission in match.group(1).split()]
        return found


def install(machine: Machine, checkout: bytes) -> float:
    """This checkout, the way its README tells a user to; the seconds that took in the guest."""
    machine.put("/root/sepolicyd.tar.gz", checkout)
    done = machine.run(
        "set -e; rm -rf /usr/src/sepolicyd; mkdir -p /usr/src/sepolicyd; cd /usr/src/sepolicyd; "
        "tar -xzf /root/sepolicyd.tar.gz --no-same-owner; "
        # no network in the guest: its own setuptools builds
        "make install PIP_FLAGS='--no-index --no-build-isolation'",
        timeout=900,
    )
    return done.seconds


def checkout() -> bytes:
    """This working tree without history, caches and tests, as a gzipped tar; the same bytes for the same files."""
    left_out = {".git", ".venv", "tests", "build", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}

    def plain(info: tarfile.TarInfo) -> Optional[tarfile.TarInfo]:
        info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
        return None if "__pycache__" in info.name else info

    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for entry in sorted(ROOT.iterdir()):
            if entry.name not in left_out and not entry.name.endswith(".egg-info"):
                tar.add(entry, entry.name, filter=plain)
    return buffer.getvalue()


def unique(accesses: Iterable[Access]) -> set[Access]:
    return set(accesses)


def listed(accesses: Iterable[Access], limit: int = 12) -> str:
    """Accesses grouped to rules, for a person."""
    rules: dict[tuple[str, str, str], set[str]] = {}
    for source, target, tclass, permission in accesses:
        rules.setdefault((source, target, tclass), set()).add(permission)
    lines = [f"{s} {t}:{c} {{ {' '.join(sorted(p))} }}" for (s, t, c), p in sorted(rules.items())]
    more = f" and {len(lines) - limit} more" if len(lines) > limit else ""
    return "; ".join(lines[:limit]) + more


@dataclass(frozen=True)
class Scenario:
    """A name, the policy it runs on ("slim" or "full"), what it shows, the doing of it, and how the guest is at its beginning.

    begins: "booted", "installed" (make install has run) or "initialised" (and sepolicyd init jupyterhub).
    """

    name: str
    policy: str
    shows: str
    play: Callable[[Context], None]
    begins: str = "initialised"
