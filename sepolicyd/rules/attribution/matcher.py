"""Attribute each denial to the service, or reject it. Denials must come in log order, to follow process ancestry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Optional

from sepolicyd.audit.model import Denial, Kind
from sepolicyd.profiles import Profile, Role
from sepolicyd.rules.attribution.choose_role import RoleChooser, hint_of, integer
from sepolicyd.rules.attribution.matcher_interface import Match
from sepolicyd.rules.attribution.processes import Process, ProcessTable, pid_of

TAIL_CHARS = 8  # before exec, systemd names a child "(" + the last 8 characters of the program + ")"


class Matcher:
    """Matches denials to one profile. The first applicable criterion decides:

    1. The source type is a domain of the service. The role is one of those in that domain.
    2. The target type is a domain of the service, and another domain acts on it.
    3. The record names a unit of the service.
    4. The process descends from a known process of the service (:class:`ProcessTable`).
    5. systemd is about to execute a program of the service, or accesses a file named in one of its units.
    6. A client connects to a port of the service.
    7. comm or exe name a program of the service; used only in domains shared by programs without a policy of their own.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.processes = ProcessTable()
        self._roles = RoleChooser(profile)
        self._domains = frozenset(profile.domains)
        self._noise = frozenset(profile.noise)
        self._unpoliced = frozenset(profile.unpoliced)
        self._answering = {part.domain: part for part in profile.answering}
        self._clients = frozenset(profile.clients)
        self._ports = {(port.protocol, port.number) for port in profile.ports}
        self._port_types = {port.type for port in profile.ports}
        self._units = tuple(dict.fromkeys([*(unit for role in profile.roles for unit in role.units), *profile.units]))

    def match(self, denial: Denial) -> Optional[Match]:
        """Return the role and the reason, None if the denial does not belong to the service."""
        self.processes.notice_time(denial)
        source = denial.scontext.type
        if source in self._noise:
            return None
        known = self.processes.known(pid_of(denial), source, denial.ppid, denial.time)
        parent = self.processes.parent(denial)
        if source in self._domains:
            return self._taken(denial, known, parent, f"source domain {source}", self._unit(denial))
        if denial.tcontext.type in self._domains:
            return self._as_target(denial)
        unit = self._unit(denial)
        if unit:
            return self._taken(denial, known, parent, f"unit {unit}", unit)
        if known is not None or parent is not None:
            what = "has no policy of its own" if source in self._unpoliced else "belongs to another service"
            return self._taken(denial, known, parent, f"source domain {source} {what}")
        return self._before_exec(denial) or self._as_client(denial) or self._by_claim(denial)

    def match_comm(self, example: Denial, comm: str) -> Optional[Match]:
        """Return the match of a process known by name only, whose denial otherwise equals ``example``."""
        nobody = replace(example, comm=comm, exe="", pid=None, ppid=None, uid="", proctitle="", cgroup="")
        return self.match(nobody)

    def memory(self) -> list[Any]:
        """Return the state to restore after a restart of the daemon, as JSON."""
        return self.processes.memory()

    def recall(self, memory: list[Any]) -> None:
        """Restore the state that :meth:`memory` returned."""
        self.processes.recall(memory, frozenset(role.name for role in self.profile.roles))

    def _taken(self, denial: Denial, known: Optional[Process], parent: Optional[Process], why: str, unit: str = "") -> Match:
        """Remember a process of the service, and return its match."""
        role, hint = self._roles.choose(denial, known, parent, self._unit_role(unit) if unit else None)
        self.processes.remember(pid_of(denial), denial, role.name)
        return Match(role.name, f"{why}; {hint}")

    def _as_target(self, denial: Denial) -> Match:
        domain, source = denial.tcontext.type, denial.scontext.type
        target = integer(dict(denial.extra).get("tpid", ""))
        process = self.processes.known(target, domain, None, denial.time)
        role = process.role if process is not None else self.profile.owner(domain).name
        answering = self._answering.get(source)
        why = f"{source} acts on the service"
        if answering is not None:
            why = f"{source} answers the service: {answering.why}".rstrip(": ")
        return Match(role, f"target domain {domain}; {why}")

    def _before_exec(self, denial: Denial) -> Optional[Match]:
        """Match systemd's child before exec, which still runs as init_t (failures such as 203/EXEC occur here)."""
        comm = denial.comm
        if denial.scontext.type != "init_t":
            return None
        if comm.startswith("(") and comm.endswith(")"):
            for role in self.profile.roles:
                for program in role.programs:
                    if _names_before_exec(comm[1:-1], program):
                        return Match(role.name, f"systemd's child {comm} before it executes {program}")
        return self._systemd_works_on(denial)

    def _systemd_works_on(self, denial: Denial) -> Optional[Match]:
        for unit in self._units:
            stem = unit[: -len(".service")] if unit.endswith(".service") else unit
            for part in (denial.name, *denial.path.split("/")):
                if part and (fnmatchcase(part, unit) or (len(stem) > 4 and fnmatchcase(part, stem))):
                    return Match(self._unit_role(unit).name, f"systemd accesses {part}, which the unit {unit} names")
        for owned in self.profile.paths:
            if denial.path and owned.matches(denial.path):
                return Match(self.profile.roles[0].name, f"systemd accesses the service's own {denial.path}")
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
        """Match by comm and exe. The process chooses them, so they count only in domains without a policy of their own."""
        if denial.scontext.type not in self._unpoliced or denial.kind is Kind.USER_AVC:
            return None
        for role in self.profile.roles:
            hint = hint_of(role, denial, claims=True)
            if hint:
                self.processes.remember(pid_of(denial), denial, role.name)
                return Match(role.name, f"{denial.scontext.type} has no policy of its own, and {hint} (a weak hint)")
        return None

    def _front(self) -> str:
        return next((role.name for role in self.profile.roles if role.name == "proxy"), self.profile.roles[0].name)

    def _unit(self, denial: Denial) -> str:
        """Return the profile's unit glob that matches the record, "" if none does."""
        parts: Sequence[str] = denial.cgroup.split("/") if denial.cgroup else ()
        named = dict(denial.extra).get("unit", "")
        for glob in self._units:
            for part in (*parts, named):
                if part and fnmatchcase(part, glob):
                    return glob
        return ""

    def _unit_role(self, unit: str) -> Role:
        return next((role for role in self.profile.roles if unit in role.units), self.profile.roles[0])


def _names_before_exec(inner: str, program: str) -> bool:
    if len(inner) < 4:
        return inner == program
    # systemd up to 254 keeps the last 8 characters, later versions the first 13, the length of comm
    return program[-TAIL_CHARS:] == inner or (len(inner) > TAIL_CHARS and program[: len(inner)] == inner)
