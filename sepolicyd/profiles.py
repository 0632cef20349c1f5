"""Load profile.yaml, the description of one service. Reports all mistakes of the file at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sepolicyd.access import is_identifier
from sepolicyd.document import Section, read, type_name
from sepolicyd.errors import InputError, UsageError

FILE = "profile.yaml"
# Domains of the policy tools. Their denials come from the caller's redirected output; no service needs these accesses.
TOOL_NOISE = ("load_policy_t", "setfiles_t", "semanage_t")
# Domains of programs without a policy of their own; only in these is a process attributed by its comm or exe.
UNPOLICED = ("init_t", "initrc_t", "unconfined_t", "unconfined_service_t", "kernel_t", "unlabeled_t")


@dataclass(frozen=True)
class Role:
    """One part of the service, such as a proxy or the notebooks of users."""

    name: str
    description: str = ""
    domains: tuple[str, ...] = ()
    """Its own domains first, then shared ones in which it may run until it has a policy."""
    units: tuple[str, ...] = ()
    """Globs of systemd unit names."""
    programs: tuple[str, ...] = ()
    """Process names that attribute a process to the service if its domain does not."""
    helpers: tuple[str, ...] = ()
    """Process names that only distinguish the roles of the service."""
    exes: tuple[str, ...] = ()
    """Globs of executable paths."""
    cmdlines: tuple[str, ...] = ()
    """Globs of whole command lines."""
    user_code: bool = False
    """The role and all its descendants run code that users wrote."""
    user_ids: bool = False
    """A process of the service that matches no other role and has a user's uid belongs to this role."""


@dataclass(frozen=True)
class Answering:
    """A domain of another service that responds to this one. The service needs the accesses of these classes that are
    denied to that domain with a domain of the service as target."""

    domain: str
    classes: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Port:
    """A port of the service and its intended type."""

    name: str
    protocol: str
    number: int
    type: str
    take: tuple[str, ...] = ()
    """Types of other services whose number may be taken where this service is configured to listen on it."""


@dataclass(frozen=True)
class OwnedPath:
    """A tree of the service's files: a regular expression as in file_contexts(5), and the intended type."""

    pattern: str
    type: str
    description: str = ""

    def matches(self, path: str) -> bool:
        return re.fullmatch(self.pattern, path) is not None


@dataclass(frozen=True)
class Exercise:
    """A named use of the service during a lease."""

    name: str
    description: str = ""


@dataclass(frozen=True)
class Profile:
    """The description of one service. Type names are checked for syntax, not for existence in a policy."""

    name: str
    description: str
    directory: Path
    units: tuple[str, ...]
    roles: tuple[Role, ...]
    answering: tuple[Answering, ...] = ()
    clients: tuple[str, ...] = ()
    noise: tuple[str, ...] = TOOL_NOISE
    unpoliced: tuple[str, ...] = UNPOLICED
    ports: tuple[Port, ...] = ()
    paths: tuple[OwnedPath, ...] = ()
    secrets: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    exercises: tuple[Exercise, ...] = ()
    modules: tuple[str, ...] = ()
    own_types: frozenset[str] = frozenset()
    """Types that the base module defines; they count as known even before the module is loaded."""

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """All domains of the service, in the order of the roles, each once."""
        return tuple(dict.fromkeys(domain for role in self.roles for domain in role.domains))

    @property
    def own_domains(self) -> tuple[str, ...]:
        """The domains without the shared ones in which a service without a policy runs."""
        return tuple(domain for domain in self.domains if domain not in self.unpoliced)

    @property
    def targets(self) -> tuple[str, ...]:
        """Foreign domains that answer the service."""
        return tuple(answering.domain for answering in self.answering)

    @property
    def user_domains(self) -> frozenset[str]:
        """Domains that belong to user code (a domain belongs to the role that names it first)."""
        return frozenset(domain for domain in self.domains if self.owner(domain).user_code)

    @property
    def service_domains(self) -> frozenset[str]:
        """Domains in which no user code should run."""
        return frozenset(self.domains) - self.user_domains

    def is_user_code(self, roles: Sequence[str]) -> bool:
        """Tell whether all of these roles run user code; False if there are none."""
        known = {role.name: role.user_code for role in self.roles}
        return bool(roles) and all(known.get(role, False) for role in roles)

    def owner(self, domain: str) -> Role:
        """Return the role of a domain: the role whose list begins with it, otherwise the first that lists it."""
        for role in self.roles:
            if role.domains[:1] == (domain,):
                return role
        return next(role for role in self.roles if domain in role.domains)

    def role(self, name: str) -> Role:
        """:raises KeyError: no such role"""
        for role in self.roles:
            if role.name == name:
                return role
        raise KeyError(name)

    def file(self, suffix: str) -> Path:
        """Return the path of the base module's file with this suffix (".te", ".fc", ".if"); it need not exist."""
        return self.directory / f"{self.name}{suffix}"


def load(name_or_path: str, dirs: Sequence[Path]) -> Profile:
    """Load a profile by its name, searched for in ``dirs`` in order, or by the path of its file or directory.

    :raises UsageError: there is no such profile; the message lists those that exist
    :raises InputError: the file cannot be read, or has mistakes; the message lists each with file, line and key path
    """
    return parse(find(name_or_path, dirs))


def find(name_or_path: str, dirs: Sequence[Path]) -> Path:
    """Return the path of a profile's profile.yaml.

    :raises UsageError: there is no such profile
    """
    if "/" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if path.is_dir():
            path = path / FILE
        if not path.is_file():
            raise UsageError(f"there is no profile at {name_or_path}", "give a directory with a profile.yaml, or that file")
        return path
    for directory in dirs:
        path = directory / name_or_path / FILE
        if name_or_path not in ("", ".", "..") and path.is_file():
            return path
    names = ", ".join(available(dirs)) or "none"
    raise UsageError(f"there is no profile {name_or_path!r}", f"available: {names}; or give the path of a profile.yaml")


def available(dirs: Sequence[Path]) -> tuple[str, ...]:
    """Return the sorted names of the existing profiles."""
    return tuple(sorted({path.parent.name for directory in dirs for path in directory.glob(f"*/{FILE}")}))


def parse(path: Path) -> Profile:
    """:raises InputError: as :func:`load`"""
    top = read(path)
    profile = Profile(
        name=top.text("name", path.parent.name),
        description=top.text("description", required=True),
        directory=path.parent,
        units=top.texts("units"),
        roles=top.each("roles", _role, required=True),
        answering=top.each("answering", _answering),
        clients=top.texts("clients", check=type_name),
        noise=top.texts("noise", check=type_name) if top.has("noise") else _asked(top, "noise", TOOL_NOISE),
        unpoliced=top.texts("unpoliced", check=type_name) if top.has("unpoliced") else _asked(top, "unpoliced", UNPOLICED),
        ports=top.each("ports", _port),
        paths=top.each("paths", _path),
        secrets=top.texts("secrets", check=type_name),
        code=top.texts("code", check=type_name),
        exercises=top.each("exercises", lambda part: Exercise(part.text("name", required=True), part.text("description"))),
        modules=top.texts("modules"),
        own_types=_own_types(path.parent),
    )
    top.done()
    _check(top, profile)
    top.mistakes.raise_if_any(f"profile {path}")
    return profile


def _asked(top: Section, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    top.get(name)
    return default


def _role(part: Section) -> Role:
    return Role(
        name=part.text("name", required=True),
        description=part.text("description"),
        domains=part.texts("domains", check=type_name),
        units=part.texts("units"),
        programs=part.texts("programs", check=_program),
        helpers=part.texts("helpers", check=_program),
        exes=part.texts("exes", check=lambda text: "" if text.startswith("/") else f"{text!r} must begin with /"),
        cmdlines=part.texts("cmdlines"),
        user_code=part.flag("user_code"),
        user_ids=part.flag("user_ids"),
    )


def _answering(part: Section) -> Answering:
    answering = Answering(
        part.text("domain", required=True), part.texts("classes", check=type_name, required=True), part.text("why")
    )
    if answering.domain and not is_identifier(answering.domain):
        part.wrong("domain", type_name(answering.domain))
    return answering


def _program(text: str) -> str:
    return f"{text!r} contains a slash: give only the program's name, or put it under exes" if "/" in text else ""


def _port(part: Section) -> Port:
    port = Port(
        name=part.text("name", required=True),
        protocol=part.text("protocol", "tcp", oneof=("tcp", "udp", "sctp", "dccp")),
        number=part.number("number", low=1, high=65535, required=True),
        type=part.text("type", required=True),
        take=part.texts("take", check=type_name),
    )
    if port.type and not is_identifier(port.type):
        part.wrong("type", type_name(port.type))
    return port


def _path(part: Section) -> OwnedPath:
    owned = OwnedPath(part.text("pattern", required=True), part.text("type", required=True), part.text("description"))
    if owned.pattern and not owned.pattern.startswith("/"):
        part.wrong("pattern", f"{owned.pattern!r} must begin with /")
    try:
        re.compile(owned.pattern)
    except re.error as error:
        part.wrong("pattern", f"{owned.pattern!r} is not a regular expression: {error}")
    if owned.type and not is_identifier(owned.type):
        part.wrong("type", type_name(owned.type))
    return owned


def _check(top: Section, profile: Profile) -> None:
    if not is_identifier(profile.name):
        top.wrong("name", f"{profile.name!r} is not a valid module name")
    names = [role.name for role in profile.roles]
    for name in sorted({name for name in names if names.count(name) > 1}):
        top.wrong("roles", f"the role {name!r} is defined twice")
    if profile.roles and not profile.domains:
        top.wrong("roles", "no role has a domain")
    for domain in profile.domains:
        if domain in profile.noise:
            top.wrong("noise", f"{domain} is a domain of the service")
    for module in profile.modules:
        if not (profile.directory / module).is_file():
            top.wrong("modules", f"{profile.directory} contains no file {module}")


DECLARED = re.compile(r"^type\s+([A-Za-z]\w*)\s*(?:alias\s+[^;,]+)?[;,]", re.MULTILINE)


def _own_types(directory: Path) -> frozenset[str]:
    types: set[str] = set()
    for te in sorted(directory.glob("*.te")):
        try:
            types.update(DECLARED.findall(te.read_text(encoding="utf-8", errors="replace")))
        except OSError as error:
            raise InputError(f"{te} cannot be read: {error.strerror}", "check its permissions") from None
    return frozenset(types)
