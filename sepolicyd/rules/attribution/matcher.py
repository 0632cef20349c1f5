"""Denials in the order of the log in, out: is it the service's, in which role, and why."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Optional

from sepolicyd.audit.model import Denial, Kind
from sepolicyd.profiles import Profile, Role

COMM_BYTES = 15  # TASK_COMM_LEN is 16 with its NUL
TAIL_CHARS = 8  # systemd names a child before its exec "(" + the last 8 characters of the program + ")"
MAX_PROCESSES = 8192
KEPT_PROCESSES = 512  # written with every save of the evidence
FORGET_SECONDS = 24 * 3600.0
REBOOT_SERIALS = 1000  # records of one boot may come out of order by some; serials start again at a boot
FIRST_USER_ID = 1000
NOBODY = 65534
_THREAD = re.compile(r"[\w.-]+/[\w./-]+\Z")  # libzmq's ZMQbg/IO/0 and the like: a thread's name, not the program's


@dataclass(frozen=True)
class Match:
    """Why a denial is the service's: ``role`` of the profile; ``reason`` is for a person, has text of the log: NOT escaped."""

    role: str
    reason: str


@dataclass
class _Process:
    role: str
    ppid: Optional[int]
    comm: str
    exe: str
    time: float


class Matcher:
    """Matches denials to the service; remembers the service's processes (at most MAX_PROCESSES) to follow descent.

    Feed it in the order of the log. All memory is of pids alone: what is remembered is forgotten when the pid shows up with
    another parent, after a day without a denial, and at a reboot (serials that start again).
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._domains = frozenset(profile.domains)
        self._noise = frozenset(profile.noise)
        self._unpoliced = frozenset(profile.unpoliced)
        self._answering = {part.domain: part for part in profile.answering}
        self._clients = frozenset(profile.clients)
        self._ports = {(port.protocol, port.number) for port in profile.ports}
        self._port_types = {port.type for port in profile.ports}
        self._processes: OrderedDict[int, _Process] = OrderedDict()
        self._last_serial = 0
        self._last_time = 0.0

    def match(self, denial: Denial) -> Optional[Match]:
        """The role and the reason, or None where the denial is not the service's."""
        self._notice_reboot(denial)
        source = denial.scontext.type
        if source in self._noise:
            return None
        pid, ppid = _pid(denial), denial.ppid
        known = self._known(pid, ppid, denial.time)
        if source in self._domains:
            role, why = self._role(denial, known)
            self._remember(pid, denial, role)
            return Match(role.name, f"source domain {source}; {why}")
        if denial.tcontext.type in self._domains:
            return self._as_target(denial)
        return (
            self._by_unit(denial)
            or self._by_descent(denial, known)
            or self._before_exec(denial)
            or self._as_client(denial)
            or self._by_claim(denial)
        )

    # the five ways, strongest first

    def _as_target(self, denial: Denial) -> Match:
        domain, source = denial.tcontext.type, denial.scontext.type
        target = _integer(dict(denial.extra).get("tpid", ""))
        process = self._processes.get(target) if target is not None else None
        role = process.role if process is not None else self.profile.owner(domain).name
        answering = self._answering.get(source)
        why = f"{source} acts on the service"
        if answering is not None:
            why = f"{source} answers the service: {answering.why}".rstrip(": ")
        return Match(role, f"target domain {domain}; {why}")

    def _by_unit(self, denial: Denial) -> Optional[Match]:
        unit = self._unit(denial)
        if not unit:
            return None
        role, why = self._role(denial, self._known(_pid(denial), denial.ppid, denial.time), unit=unit)
        self._remember(_pid(denial), denial, role)
        return Match(role.name, f"unit {unit}; {why}")

    def _by_descent(self, denial: Denial, known: Optional[_Process]) -> Optional[Match]:
        parent = self._parent(denial)
        if known is None and parent is None:
            return None
        role, why = self._role(denial, known)
        self._remember(_pid(denial), denial, role)
        source = denial.scontext.type
        what = "has no policy of its own" if source in self._unpoliced else "is another's"
        return Match(role.name, f"source domain {source} {what}; {why}")

    def _before_exec(self, denial: Denial) -> Optional[Match]:
        """systemd's child before its exec is still init_t: 203/EXEC and the like happen here."""
        comm = denial.comm
        if denial.scontext.type != "init_t":
            return None
        if comm.startswith("(") and comm.endswith(")"):
            for role in self.profile.roles:
                for program in role.programs:
                    if _names_before_exec(comm[1:-1], program):
                        return Match(role.name, f"systemd's child {comm} before it becomes {program}")
        return self._systemd_works_on(denial)

    def _systemd_works_on(self, denial: Denial) -> Optional[Match]:
        for unit in self._units():
            stem = unit[: -len(".service")] if unit.endswith(".service") else unit
            for part in (denial.name, *denial.path.split("/")):
                if part and (fnmatchcase(part, unit) or (len(stem) > 4 and fnmatchcase(part, stem))):
                    return Match(self._unit_role(unit), f"systemd works on {part}, which the unit {unit} names")
        for owned in self.profile.paths:
            if denial.path and owned.matches(denial.path):
                return Match(self.profile.roles[0].name, f"systemd works on the service's own {denial.path}")
        return None

    def _as_client(self, denial: Denial) -> Optional[Match]:
        if denial.scontext.type not in self._clients or "name_connect" not in denial.permissions:
            return None
        protocol = denial.tclass[: -len("_socket")]
        for key, number in denial.ports:
            if key in ("dest", "src") and (protocol, number) in self._ports:
                return Match(self._front(), f"{denial.scontext.type} connects to the service's port {number}")
        if denial.tcontext.type in self._port_types:
            return Match(self._front(), f"{denial.scontext.type} connects to the service's {denial.tcontext.type}")
        return None

    def _by_claim(self, denial: Denial) -> Optional[Match]:
        """comm and exe are the process's own words: they count only where no policy says what the process is."""
        if denial.scontext.type not in self._unpoliced or denial.kind is Kind.USER_AVC:
            return None
        for role in self.profile.roles:
            hint = _hint(role, denial, claims=True)
            if hint:
                self._remember(_pid(denial), denial, role)
                return Match(role.name, f"{denial.scontext.type} has no policy of its own, and {hint} (a weak hint)")
        return None

    # roles inside the service

    def _role(self, denial: Denial, known: Optional[_Process], unit: str = "") -> tuple[Role, str]:
        """The role of a process that is the service's, and why."""
        profile = self.profile
        domain = denial.scontext.type
        allowed = [role for role in profile.roles if domain in role.domains] or list(profile.roles)
        parent = self._parent(denial)
        line = f"child of {denial.ppid}" if parent is not None else ""
        inherited = known or parent
        if unit:
            role = profile.role(self._unit_role(unit))
            allowed = [part for part in allowed if part.user_code or not role.user_code]
        if inherited is not None and profile.role(inherited.role).user_code:
            # What user code starts is user code, whatever it calls itself.
            allowed = [role for role in allowed if role.user_code] or [profile.role(inherited.role)]
        same = known is not None and (not denial.comm or (denial.comm, denial.exe) == (known.comm, known.exe))
        if known is not None and same and profile.role(known.role) in allowed:
            return profile.role(known.role), _join(f"comm {denial.comm}" if denial.comm else "", f"process {_pid(denial)}")
        hinted, hint = self._hinted(allowed, denial, inherited)
        if hinted is not None and inherited is None and self._user_id(denial) and not hinted.user_code:
            hinted = None  # a user's process of unknown descent that calls itself the hub
        if hinted is not None:
            return hinted, _join(hint, line)
        return self._unhinted(allowed, denial, known, parent, line, unit)

    def _unhinted(
        self,
        allowed: list[Role],
        denial: Denial,
        known: Optional[_Process],
        parent: Optional[_Process],
        line: str,
        unit: str,
    ) -> tuple[Role, str]:
        profile = self.profile
        comm = f"comm {denial.comm}" if denial.comm else ""
        if known is not None and (_THREAD.match(denial.comm) or denial.exe == known.exe):
            what = "thread of process" if _THREAD.match(denial.comm) else "process"
            return profile.role(known.role), _join(comm, f"{what} {_pid(denial)}")
        inherited = parent or known
        if inherited is not None:
            role = profile.role(inherited.role)
            runner = next((part for part in allowed if part.user_ids), None)
            # What a single-user server starts and nothing recognises is a terminal or a kernel's child.
            chosen = runner if role.user_code and runner is not None else role
            return chosen, _join(comm, line or f"process {_pid(denial)} before its exec was {role.name}")
        for role in allowed:
            if role.user_ids and self._user_id(denial):
                return role, _join(comm, f"runs as the user {denial.uid}")
        if unit:
            return profile.role(self._unit_role(unit)), _join(comm, "the unit's role")
        owner = profile.owner(denial.scontext.type) if denial.scontext.type in self._domains else allowed[0]
        return owner, _join(comm, f"the domain is the {owner.name}'s")

    def _hinted(self, roles: list[Role], denial: Denial, inherited: Optional[_Process]) -> tuple[Optional[Role], str]:
        for role in roles:
            hint = _hint(role, denial, claims=False)
            if not hint:
                continue
            own = inherited is not None and not self.profile.role(inherited.role).user_code and not self._user_id(denial)
            if role.user_code and own and not _hint(role, denial, claims=True):
                continue  # a shell that the hub itself runs as root is not a student's
            return role, hint
        return None, ""

    @staticmethod
    def _user_id(denial: Denial) -> bool:
        uid = _integer(denial.uid)
        return uid is not None and uid >= FIRST_USER_ID and uid != NOBODY and uid < 2**32 - 1

    def _front(self) -> str:
        return next((role.name for role in self.profile.roles if role.name == "proxy"), self.profile.roles[0].name)

    def _units(self) -> list[str]:
        return list(dict.fromkeys([*(unit for role in self.profile.roles for unit in role.units), *self.profile.units]))

    def _unit(self, denial: Denial) -> str:
        parts = denial.cgroup.split("/") if denial.cgroup else []
        named = dict(denial.extra).get("unit", "")
        for glob in self._units():
            for part in (*parts, named):
                if part and fnmatchcase(part, glob):
                    return glob
        return ""

    def _unit_role(self, unit: str) -> str:
        return next((role.name for role in self.profile.roles if unit in role.units), self.profile.roles[0].name)

    # memory of processes

    def _known(self, pid: Optional[int], ppid: Optional[int], now: float) -> Optional[_Process]:
        if pid is None or pid <= 1:
            return None
        process = self._processes.get(pid)
        if process is None:
            return None
        # ppid 1: its parent ended and init took it over
        reused = ppid is not None and process.ppid is not None and ppid not in (process.ppid, 1)
        if reused or now - process.time > FORGET_SECONDS:
            del self._processes[pid]
            return None
        return process

    def _parent(self, denial: Denial) -> Optional[_Process]:
        if denial.ppid is None or denial.ppid <= 1:
            return None
        parent = self._processes.get(denial.ppid)
        if parent is None or denial.time - parent.time > FORGET_SECONDS:
            return None
        return parent

    def _remember(self, pid: Optional[int], denial: Denial, role: Role) -> None:
        if pid is None or pid <= 1:
            return
        old = self._processes.pop(pid, None)
        ppid = denial.ppid if denial.ppid is not None else (old.ppid if old else None)
        comm, exe = (denial.comm, denial.exe) if denial.comm or old is None else (old.comm, old.exe)
        self._processes[pid] = _Process(role.name, ppid, comm, exe, denial.time)
        parent = self._parent(denial)
        if parent is not None and denial.ppid is not None:  # a parent is alive as long as it has children
            parent.time = max(parent.time, denial.time)
            self._processes.move_to_end(denial.ppid)
        while len(self._processes) > MAX_PROCESSES:
            self._processes.popitem(last=False)

    def memory(self) -> list[Any]:
        """What a restarted daemon must know to match as if it had gone on: the newest processes, as JSON."""
        newest = list(self._processes.items())[-KEPT_PROCESSES:]
        known = [[pid, part.role, part.ppid, part.comm, part.exe, part.time] for pid, part in newest]
        return [self._last_serial, self._last_time, known]

    def recall(self, memory: list[Any]) -> None:
        """Take up what :meth:`memory` gave; roles that the profile no longer has are left out."""
        self._last_serial, self._last_time, known = memory
        names = {role.name for role in self.profile.roles}
        for pid, role, ppid, comm, exe, time in known:
            if role in names:
                self._processes[pid] = _Process(role, ppid, comm, exe, time)

    def _notice_reboot(self, denial: Denial) -> None:
        serial, time = denial.event.serial, denial.time
        if serial + REBOOT_SERIALS < self._last_serial and time > self._last_time:
            self._processes.clear()
            self._last_serial = serial
        self._last_serial = max(self._last_serial, serial)
        self._last_time = max(self._last_time, time)


def _hint(role: Role, denial: Denial, *, claims: bool) -> str:
    """What of comm, exe and command line speaks for a role; ``claims``: only what claims a process for the service."""
    if denial.kind is Kind.USER_AVC:
        words = denial.proctitle.split()
        comm = words[0].rsplit("/", 1)[-1] if words else ""
    else:
        comm = denial.comm
    if any(denial.exe and fnmatchcase(denial.exe, glob) for glob in role.exes):
        return f"exe {denial.exe}"
    if not claims:
        for glob in role.cmdlines:
            if denial.proctitle and fnmatchcase(denial.proctitle + " ", glob):
                return f"command line {denial.proctitle[:60]}"
    names = role.programs if claims else (*role.programs, *role.helpers)
    for name in names:
        if comm and comm == _cut(name):
            return f"comm {comm}"
    return ""


def _cut(name: str) -> str:
    return name.encode()[:COMM_BYTES].decode(errors="ignore")


def _names_before_exec(inner: str, program: str) -> bool:
    if len(inner) < 4:
        return inner == program
    # systemd up to 254 keeps the last 8 characters, later the first 13 that fit into comm
    return program[-TAIL_CHARS:] == inner or (len(inner) > TAIL_CHARS and program[: len(inner)] == inner)


def _pid(denial: Denial) -> Optional[int]:
    if denial.kind is Kind.USER_AVC:
        return _integer(dict(denial.extra).get("spid", "")) or denial.pid
    return denial.pid


def _integer(text: str) -> Optional[int]:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 else None


def _join(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
