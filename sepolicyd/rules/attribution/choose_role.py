"""Choose the role of a process of the service.

The source type limits the choice: a process in a user-code domain has a user-code role regardless of its pid, parent, name or
unit. Within that limit, the criteria are, in this order: unit, known process, ancestry, and name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Optional

from sepolicyd.audit.model import Denial, Kind
from sepolicyd.profiles import Profile, Role
from sepolicyd.rules.attribution.processes import Process, pid_of

COMM_BYTES = 15  # TASK_COMM_LEN is 16 with its NUL
FIRST_USER_ID = 1000
NOBODY = 65534
_THREAD = re.compile(r"[\w.-]+/[\w./-]+\Z")  # the name of a thread rather than of a program, such as libzmq's ZMQbg/IO/0


class RoleChooser:
    """Chooses among the roles of one profile."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._of_domain = {
            domain: tuple(role for role in profile.roles if domain in role.domains) for domain in profile.domains
        }

    def choose(
        self, denial: Denial, known: Optional[Process], parent: Optional[Process], unit: Optional[Role] = None
    ) -> tuple[Role, str]:
        """Return the role and the reason in words.

        :param known: the remembered entry of the same process
        :param unit: the role of the process's unit
        """
        allowed = self._allowed(denial, known or parent, unit)
        line = f"child of {denial.ppid}" if parent is not None else ""
        comm = f"comm {denial.comm}" if denial.comm else ""
        was = None if known is None else self._one_of(allowed, known.role)
        if known is not None and was is not None and (not comm or (denial.comm, denial.exe) == (known.comm, known.exe)):
            return was, _join(comm, f"process {pid_of(denial)}")
        hinted, hint = self._hinted(allowed, denial, known or parent)
        if hinted is not None:
            return hinted, _join(hint, line)
        if known is not None and was is not None and (_THREAD.match(denial.comm) or denial.exe == known.exe):
            what = "thread of process" if _THREAD.match(denial.comm) else "process"
            return was, _join(comm, f"{what} {pid_of(denial)}")
        return self._by_descent(allowed, denial, known, parent, unit, comm, line)

    def _allowed(self, denial: Denial, inherited: Optional[Process], unit: Optional[Role]) -> Sequence[Role]:
        """Return the roles that the source type permits; only user-code roles if the process descends from user code."""
        allowed = self._of_domain.get(denial.scontext.type, self._profile.roles)
        of_users = [role for role in allowed if role.user_code]
        if unit is not None and unit.user_code and of_users:
            return of_users
        if inherited is not None and self._profile.role(inherited.role).user_code and of_users:
            return of_users  # a descendant of user code is user code, regardless of its name
        return allowed

    def _by_descent(
        self,
        allowed: Sequence[Role],
        denial: Denial,
        known: Optional[Process],
        parent: Optional[Process],
        unit: Optional[Role],
        comm: str,
        line: str,
    ) -> tuple[Role, str]:
        inherited = parent or known
        role = None if inherited is None else self._one_of(allowed, inherited.role)
        if role is not None:
            # an unrecognised child of a single-user server belongs to a terminal or a notebook kernel
            runner = next((one for one in allowed if one.user_ids), None)
            chosen = runner if role.user_code and runner is not None else role
            return chosen, _join(comm, line or f"process {pid_of(denial)} before its exec was {role.name}")
        if is_user_id(denial):
            for one in allowed:
                if one.user_ids:
                    return one, _join(comm, f"runs as the user {denial.uid}")
        if unit is not None and unit in allowed:
            return unit, _join(comm, "the unit's role")
        owner = self._owner(denial.scontext.type, allowed)
        return owner, _join(comm, f"the domain is the {owner.name}'s")

    def _owner(self, domain: str, allowed: Sequence[Role]) -> Role:
        owner = self._profile.owner(domain) if domain in self._of_domain else allowed[0]
        return owner if owner in allowed else allowed[0]

    def _hinted(self, allowed: Sequence[Role], denial: Denial, inherited: Optional[Process]) -> tuple[Optional[Role], str]:
        for role in allowed:
            hint = hint_of(role, denial, claims=False)
            if not hint:
                continue
            own = inherited is not None and not self._profile.role(inherited.role).user_code and not is_user_id(denial)
            if role.user_code and own and not hint_of(role, denial, claims=True):
                continue  # a shell run by the hub as root is not user code
            if inherited is None and is_user_id(denial) and not role.user_code:
                return None, ""  # a user's process of unknown ancestry with the hub's name
            return role, hint
        return None, ""

    @staticmethod
    def _one_of(allowed: Sequence[Role], name: str) -> Optional[Role]:
        return next((role for role in allowed if role.name == name), None)


def hint_of(role: Role, denial: Denial, *, claims: bool) -> str:
    """Return the part of comm, exe or command line that matches a role.

    :param claims: match only names that attribute a process to the service, not helpers
    """
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


def is_user_id(denial: Denial) -> bool:
    """Tell whether the process runs under a user's account."""
    uid = integer(denial.uid)
    return uid is not None and uid >= FIRST_USER_ID and uid != NOBODY and uid < 2**32 - 1


def integer(text: str) -> Optional[int]:
    """Return a decimal number of limited length, None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 else None


def _cut(name: str) -> str:
    return name.encode()[:COMM_BYTES].decode(errors="ignore")


def _join(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
