"""Write a first profile and base module for a service from its unit and installed files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sepolicyd import profiles
from sepolicyd.access import is_identifier
from sepolicyd.errors import RefusedError, ToolError, UsageError
from sepolicyd.module.store import Store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.problems import Problem, Severity
from sepolicyd.rollout.setup import labels as init_labels
from sepolicyd.rollout.setup import new_profile_text
from sepolicyd.rollout.setup.unit_facts import Service
from sepolicyd.services import rootfs
from sepolicyd.services.discovery import Label
from sepolicyd.services.paths import SHARED
from sepolicyd.services.programs import CONTAINERS, is_shared
from sepolicyd.services.rootfs import inside
from sepolicyd.services.unit_file import Unit, read_unit
from sepolicyd.services.unit_labels import unit_labels
from sepolicyd.settings import Settings, policy_dirs

NAME = re.compile(r"[a-z][a-z0-9_]{0,30}\Z")
# host:port, :port, [::1]:port, as in --bind, -b, --listen, --http-address
ADDRESS = re.compile(r"(?:^|=|//)(?:\[[0-9A-Fa-f:]*\]|[A-Za-z0-9_.*-]*):(\d{2,5})(?:/|\Z)")
PORT_WORDS = frozenset(("-p", "--port", "--listen-port", "--http-port"))
PORT_VARIABLES = ("PORT", "LISTEN_PORT", "HTTP_PORT")
SOCKET = re.compile(r"unix:(/\S+)")
BIND = re.compile(r"""^\s*(?:bind|port)\s*=\s*["']?([^"'#\s]+)""", re.MULTILINE)
MAX_CONFIG_BYTES = 1 << 20
SHARED_PROGRAMS = ("/usr/bin/", "/usr/sbin/", "/usr/local/bin/", "/bin/", "/sbin/")


@dataclass(frozen=True)
class NewProfile:
    """The written files, and points to check in them."""

    name: str
    directory: Path
    files: tuple[Path, ...]
    findings: tuple[Problem, ...] = field(default=())


def new_profile(settings: Settings, name: str, unit: str, out: Path) -> NewProfile:
    """Write ``out``/NAME/{profile.yaml,NAME.te,NAME.fc}. The machine is only read.

    :raises UsageError: the name is not valid for a module, or there is no such unit
    :raises RefusedError: the profile or a type already exists, or the unit's program does not identify the service
    :raises ToolError: the files cannot be written
    """
    if not NAME.match(name) or not is_identifier(name):
        raise UsageError(f"{name!r} is not a valid profile name", "use up to 31 lower-case letters, digits and _")
    directory = out / name
    if directory.exists():
        raise RefusedError(f"{directory} already exists", "remove it, or use another name")
    _check_types(settings, name)
    service = read_service(settings.root, name, unit)
    template = new_profile_text.read_template(settings.policy_dirs or policy_dirs())
    texts = {
        "profile.yaml": new_profile_text.render_profile(service),
        f"{name}.te": new_profile_text.render_te(service, template),
        f"{name}.fc": new_profile_text.render_fc(service, init_labels.read_subs(_contexts(settings))),
    }
    files = tuple(_write(directory / file, text) for file, text in texts.items())
    profiles.load(str(directory), ())  # check that the written profile can be loaded
    return NewProfile(name, directory, files, service.findings)


def _contexts(settings: Settings) -> Path:
    store = Store(settings.root)
    return store.etc / store.kind / "contexts/files/file_contexts"


def _check_types(settings: Settings, name: str) -> None:
    present = PolicyIndex.load(Store(settings.root).policy()).types
    taken = sorted(each for each in present if each in (f"{name}_t", f"{name}_exec_t"))
    if taken:
        raise RefusedError(f"the policy already defines {taken[0]}, so this service has a policy", "use another name")


def read_service(root: Path, name: str, unit_name: str) -> Service:
    """Read programs, files and ports of a service from its unit.

    :raises RefusedError: there is no program through which a domain could be entered
    """
    unit = read_unit(unit_name, root)
    program, findings = _program(root, unit)
    labels = [Label(program, f"{name}_exec_t", what="the program that the unit starts"), *_labels(root, unit, name)]
    seen: dict[str, Label] = {}
    for label in labels:
        if label.path not in SHARED:
            seen.setdefault(label.path, label)
    ports = _ports(root, unit)
    if not ports:
        what = f"no port was found in {unit_name}: {name}_port_t is declared, but has no number yet"
        findings.append(Problem(Severity.NOTE, "I-noport", what, f"add it under ports: in {profiles.FILE}"))
    ordered = tuple(sorted(seen.values(), key=lambda label: label.path))
    return Service(name, unit, program, ordered, ports, tuple(findings))


def _program(root: Path, unit: Unit) -> tuple[str, list[Problem]]:
    """Return the program file whose label causes the domain transition, with links resolved."""
    argv = unit.argv
    if not argv or not argv[0].startswith("/"):
        raise RefusedError(f"{unit.name} has no ExecStart with an absolute path", "set ExecStart to an absolute path")
    name = Path(argv[0]).name
    if name in CONTAINERS:
        raise RefusedError(f"{unit.name} starts a container ({name})", "the container runtime already confines it")
    if is_shared(name):
        what = f"{unit.name} starts {name}, which is shared by other services, so its label does not identify this service"
        raise RefusedError(what, "let ExecStart name a script of the service's own with a #! line")
    program = rootfs.resolve(root, argv[0])
    if not inside(root, program).is_file():
        raise RefusedError(f"{unit.name} starts {argv[0]}, which does not exist", "install the service first")
    if not program.startswith(SHARED_PROGRAMS):
        return program, []
    what = f"other services may also start {program}, and would then enter this domain if they have the transition"
    return program, [Problem(Severity.WARN, "I-shared", what, "give the service its own copy or environment")]


def _labels(root: Path, unit: Unit, name: str) -> list[Label]:
    """Return labels for the directories that systemd creates for the unit, and for files named in the unit."""
    labels = list(unit_labels(unit, name))
    own = {f"/etc/{name}": "etc", f"/var/lib/{name}": "var_lib", f"/var/log/{name}": "log", f"/run/{name}": "runtime"}
    for path, kind in own.items():
        if inside(root, path).is_dir():
            labels.append(Label(path, f"{name}_{kind}_t", tree=True, what="the directory named after the service"))
    for word in (*unit.argv[1:], *(path.lstrip("-") for path in unit.words("EnvironmentFile"))):
        path = word.partition("=")[2] if word.startswith("-") else word
        if path.startswith("/etc/") and inside(root, path).is_file() and not _covered(path, labels):
            labels.append(Label(path, f"{name}_etc_t", what="named in the unit"))
    for word in unit.argv[1:]:
        socket = SOCKET.search(word)
        if socket and not _covered(socket.group(1), labels):
            folder = os.path.dirname(socket.group(1))  # noqa: PTH120 a text
            labels.append(Label(socket.group(1) if folder in SHARED else folder, f"{name}_runtime_t", folder not in SHARED))
    labels += [Label(path, f"{name}_var_lib_t", tree=True, what="ReadWritePaths") for path in unit.words("ReadWritePaths")]
    work = os.path.normpath(unit.workdir)
    if work.startswith(("/srv/", "/opt/", "/var/www/")) and not _covered(work, labels):
        labels.append(Label(work, f"{name}_content_t", tree=True, what="the application's own files (read only)"))
    return labels


def _covered(path: str, labels: Iterable[Label]) -> bool:
    return any(label.tree and (path == label.path or path.startswith(label.path + "/")) for label in labels)


def _ports(root: Path, unit: Unit) -> tuple[int, ...]:
    """Return the ports in the command line, the environment and the configuration file that these name."""
    argv = unit.argv[1:]
    found: list[str] = []
    for index, word in enumerate(argv):
        option, _, value = word.partition("=")
        if option in PORT_WORDS:
            found.append(value or (argv[index + 1] if index + 1 < len(argv) else ""))
        found += ADDRESS.findall(word)
        found += _bound_by(root, unit, value if word.startswith("-") else word)
    found += [unit.environment.get(variable, "") for variable in PORT_VARIABLES]
    numbers = (int(text) for text in found if text.isdigit())
    return tuple(dict.fromkeys(number for number in numbers if 0 < number < 65536))


def _bound_by(root: Path, unit: Unit, word: str) -> Sequence[str]:
    """Read ``bind = "127.0.0.1:8500"`` from a configuration file (gunicorn.conf.py, .ini) named on the command line."""
    if not word.endswith((".py", ".ini", ".conf", ".cfg", ".toml")):
        return ()
    place = inside(root, os.path.normpath(Path(unit.workdir) / word))
    try:
        with place.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES).decode(errors="replace")
    except OSError:
        return ()
    values = BIND.findall(text)
    return [*(number for value in values for number in ADDRESS.findall(value)), *(value for value in values if value.isdigit())]


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ToolError(f"{path} cannot be written: {error.strerror}", "give another directory with --out") from error
    return path
