"""Find a JupyterHub installation below a root directory: unit, scripts, prefix, configuration, paths and ports."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from sepolicyd.errors import RefusedError, UsageError
from sepolicyd.problems import Problem, Severity
from sepolicyd.services import unit_file
from sepolicyd.services.jupyterhub.classes import PROXIES, Proxy, kind_of
from sepolicyd.services.jupyterhub.config import settings as hub_config
from sepolicyd.services.jupyterhub.config.machine import Machine
from sepolicyd.services.jupyterhub.config.settings import HubConfig
from sepolicyd.services.jupyterhub.host import HostFacts, read_host
from sepolicyd.services.jupyterhub.ports import PORT_SETTINGS, ports_of
from sepolicyd.services.programs import CONTAINERS, PYTHON, SEARCH_PATH, SHELLS, refuse_container
from sepolicyd.services.rootfs import inside, resolve, which
from sepolicyd.services.unit_file import Unit

HUB = "jupyterhub"
USER_SCRIPTS = ("jupyterhub-singleuser", "jupyter-labhub")
PROXY = "configurable-http-proxy"
# directories to search for a hub without a unit: Anaconda as in the paper, virtual environments, pip as root, packages
USUAL = ("opt/anaconda3/bin", "opt/*/bin", "opt/*/*/bin", "usr/local/bin", "usr/bin", "srv/*/bin")
CONFIG_NAMES = ("jupyterhub_config.py", "jupyterhub_config.json")
USUAL_FOLDER = "/etc/jupyterhub"
# distlib and pip write a shebang of more than 127 bytes as a shell script: #!/bin/sh, then '''exec' /long/path/python "$0" "$@"
POLYGLOT = re.compile(r"""'''exec'\s+"?(/[^\s"]+)""")
DIST_INFO = re.compile(r"jupyterhub-([0-9][0-9A-Za-z.+]*)\.dist-info\Z")
NEEDED = ("JupyterHub.cookie_secret_file", "JupyterHub.db_url", "JupyterHub.ssl_key", *PORT_SETTINGS, "Spawner.cmd")
"""Settings that decide labels and ports."""
UNIT_HINT = "write a systemd unit for it, or run after init: setsebool -P jupyterhub_start_from_shell on"


@dataclass(frozen=True)
class Installation:
    """One JupyterHub installation. Paths are as seen by the running hub, without the root directory."""

    hub: str
    prefix: str
    version: str = ""
    unit: Optional[Unit] = None
    user_scripts: tuple[str, ...] = ()
    proxy: str = ""
    config: HubConfig = field(default_factory=HubConfig)
    host: HostFacts = field(default_factory=HostFacts)
    user_units: Mapping[str, Unit] = field(default_factory=dict)
    """Template units that start users' servers, as jupyter-singleuser@.service, by the path of the file."""
    workdir: str = "/"
    findings: tuple[Problem, ...] = ()

    @property
    def unit_name(self) -> str:
        return self.unit.name if self.unit else ""

    def path(self, text: str) -> str:
        """Return a path from the configuration as an absolute path, relative to the hub's working directory."""
        return os.path.normpath(Path(self.workdir) / text)

    @property
    def ports(self) -> dict[str, tuple[int, ...]]:
        """Port numbers by the profile's port names."""
        return ports_of(self.config, _options(self.unit))


def find(root: Path = Path("/"), *, unit: str = "") -> Installation:
    """Find the hub of this machine.

    :param unit: the unit that starts it; "" for jupyterhub.service, then any other unit or usual directory with a hub
    :raises RefusedError: no hub is installed, it runs in a container, or this machine is a container
    """
    refuse_container(root)
    service = _unit(root, unit)
    script, findings = _script(root, service)
    workdir = service.workdir if service else "/"
    hub = resolve(root, script)
    folder = os.path.dirname(script)  # noqa: PTH120
    prefix = _prefix(root, hub) or os.path.dirname(folder)  # noqa: PTH120
    machine = Machine(root, prefix, service.environment if service else {}, workdir)
    config, more = _config(root, _config_path(root, service), machine)
    users, proxy, missing = _others(root, config, [folder, f"{prefix}/bin"])
    public = ports_of(config, _options(service))["public"][0]
    units = _user_units(root, service)
    return Installation(
        hub=hub,
        prefix=prefix,
        version=_version(machine),
        unit=service,
        user_scripts=tuple(dict.fromkeys((*users, *_programs(root, units.values())))),
        proxy=proxy,
        config=config,
        host=read_host(machine, pam_service=config.text("PAMAuthenticator.service") or "login", public_port=public),
        user_units=units,
        workdir=workdir,
        findings=(*findings, *more, *missing, *_second_hub(root, service)),
    )


def _user_units(root: Path, hub: Optional[Unit]) -> dict[str, Unit]:
    """Return the template units whose command is a single-user server, by the path of the file."""
    units = unit_file.find_units(root, "*@.service")
    return {
        path: unit
        for path, unit in units
        if (hub is None or unit.name != hub.name) and any(Path(word).name in USER_SCRIPTS for word in unit.argv)
    }


def _programs(root: Path, units: Iterable[Unit]) -> list[str]:
    """Return the single-user scripts that the units start, links followed."""
    words = [word for unit in units for word in unit.argv if Path(word).name in USER_SCRIPTS and word.startswith("/")]
    return [resolve(root, word) for word in words if inside(root, resolve(root, word)).is_file()]


def _second_hub(root: Path, unit: Optional[Unit]) -> list[Problem]:
    """Name the other units that start a hub: the module has one set of types and ports."""
    units = [other for _, other in unit_file.find_units(root, "*.service") if "@" not in other.name]
    names = sorted(other.name for other in units if (unit is None or other.name != unit.name) and _starts_hub(other))
    if not names:
        return []
    what = f"{', '.join(names)} starts a hub as well; it would share domain, ports and secrets' types with this one"
    return [Problem(Severity.WARN, "I-two", what, "init confines the hub of --unit; give the other one a machine of its own")]


def _starts_hub(unit: Unit) -> bool:
    program = Path(unit.argv[0]).name if unit.argv else ""
    return program == HUB or (PYTHON.match(program) is not None and HUB in unit.argv[1:3])


def _unit(root: Path, name: str) -> Optional[Unit]:
    try:
        return unit_file.read_unit(name or f"{HUB}.service", root)
    except UsageError:
        if name:
            raise
    units = (unit for _, unit in unit_file.find_units(root, "*jupyterhub*.service"))
    return next((unit for unit in units if "@" not in unit.name), None)


def _script(root: Path, unit: Optional[Unit]) -> tuple[str, list[Problem]]:
    """Return the path of the hub's script as it is started, and problems that prevent a domain transition on it."""
    if unit is None:
        for script in _usual(root):
            what = f"no unit starts {script}: started from a shell, the hub keeps the domain of that shell (unconfined_t)"
            return script, [Problem(Severity.WARN, "I-unit", what, UNIT_HINT)]
        raise RefusedError(
            "JupyterHub is not installed: found in no unit and in no usual directory", "give its unit with --unit"
        )
    argv = unit.argv
    if not argv:
        raise RefusedError(f"{unit.name} has no ExecStart", "give another unit with --unit")
    name = Path(argv[0]).name
    if name in CONTAINERS:
        hint = "the container runtime confines it (container_t); use udica for its rules"
        raise RefusedError(f"{unit.name} starts a container ({name})", hint)
    if name == HUB:
        return which(root, argv[0], SEARCH_PATH) or _absent(unit, argv[0]), []
    inner = next((word for word in re.split(r"[\s;&|]+", " ".join(argv[1:])) if Path(word).name == HUB), "")
    script = which(root, inner or HUB, [os.path.dirname(argv[0]), *SEARCH_PATH]) or next(_usual(root), "")  # noqa: PTH120
    if not script:
        _absent(unit, argv[0])
    if PYTHON.match(name):
        what = f"{unit.name} starts {name}, whose label is shared by all Python programs, so no domain transition takes place"
        rest = argv[argv.index("-m") + 2 :] if "-m" in argv else argv[2:]
        line = " ".join((script, *rest))
        hint = f"systemctl edit {unit.name}: [Service], then ExecStart= to clear it, then ExecStart={line}"
        return script, [Problem(Severity.STOP, "I-python", what, hint)]
    kind = "shell" if name in SHELLS else "program"
    what = f"{unit.name} starts the {kind} {argv[0]}, which starts the hub: a domain transition takes place from initrc_t"
    what += " (Debian), but not from unconfined_service_t (Fedora, RHEL), where the hub would stay unconfined"
    return script, [Problem(Severity.WARN, "I-wrapper", what, f"let ExecStart begin with {script}")]


def _absent(unit: Unit, program: str) -> str:
    raise RefusedError(
        f"{unit.name} starts {program}, but JupyterHub is not installed there", "install it, or give another unit with --unit"
    )


def _usual(root: Path) -> Iterator[str]:
    for pattern in USUAL:
        for folder in sorted(root.glob(pattern)):
            if (folder / HUB).is_file():
                yield "/" + (folder / HUB).relative_to(root).as_posix()


def _prefix(root: Path, script: str) -> str:
    """Return the prefix of the Python that runs a script, such as /opt/anaconda3 for /opt/anaconda3/bin/python3."""
    try:
        with inside(root, script).open("rb") as file:
            head = file.read(1024).decode(errors="replace").splitlines()
    except OSError:
        return ""
    if not head or not head[0].startswith("#!"):
        return ""
    interpreter = head[0][2:].split()[0] if head[0][2:].split() else ""
    polyglot = POLYGLOT.match(head[1]) if len(head) > 1 else None
    interpreter = polyglot.group(1) if polyglot else interpreter
    if not PYTHON.match(Path(interpreter).name):
        return ""
    return os.path.dirname(os.path.dirname(interpreter))  # noqa: PTH120


def _version(machine: Machine) -> str:
    """Return the version from the installed distribution's metadata, "" if not found. The program is never run."""
    paths = (path for folder in machine.site_packages() for path in machine.glob(f"{folder}/jupyterhub-*.dist-info"))
    matches = (DIST_INFO.match(Path(path).name) for path in paths)
    return next((match.group(1) for match in matches if match), "")


def _options(unit: Optional[Unit]) -> dict[str, str]:
    """Return the hub's command-line options that affect paths and ports."""
    names = {"-f": "config", "--config": "config", "--port": "port", "--JupyterHub.port": "port", "--ip": "ip"}
    argv = unit.argv if unit else ()
    found = {}
    for index, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in names:
            found[names[name]] = value if equals else (argv[index + 1] if index + 1 < len(argv) else "")
    return found


def _config_path(root: Path, unit: Optional[Unit]) -> str:
    named = _options(unit).get("config", "")
    workdir = unit.workdir if unit else "/"
    usual = [f"{folder}/{name}" for folder in (workdir, USUAL_FOLDER) for name in CONFIG_NAMES]
    for path in (named, *usual):
        place = os.path.normpath(Path(workdir) / path) if path else ""
        if place and inside(root, place).is_file():
            return place
    return named


def _config(root: Path, path: str, machine: Machine) -> tuple[HubConfig, list[Problem]]:
    if not path:
        return HubConfig(), [
            Problem(Severity.NOTE, "I-config", "no jupyterhub_config.py or .json was found: JupyterHub's defaults are assumed")
        ]
    config = hub_config.read(inside(root, path), Path(path), machine)
    problems = []
    computed = [key for key in config.computed if key in NEEDED]
    if computed:
        note = f"{path} computes {', '.join(computed)} at run time; the labels and ports assume the default values"
        problems.append(Problem(Severity.WARN, "I-computed", note, "set it to a literal value, or check labels and ports"))
    uncertain = [key for key in config.uncertain if key in NEEDED]
    if uncertain:
        note = (
            f"{path} sets {', '.join(f'{key} to {config.values[key]}' for key in uncertain)} on a condition that is not known"
        )
        problems.append(Problem(Severity.WARN, "I-computed", note, "check these labels and ports"))
    return config, problems


def _others(root: Path, config: HubConfig, folders: list[str]) -> tuple[tuple[str, ...], str, list[Problem]]:
    """Return the paths of the single-user scripts and the proxy with links resolved, and a problem for each missing one."""
    findings = []
    own = config.command("Spawner.cmd", "LocalProcessSpawner.cmd", "SystemdSpawner.cmd")[:1]
    users = [which(root, script, [*folders, *SEARCH_PATH]) for script in (*own, *USER_SCRIPTS)]
    found = tuple(dict.fromkeys(resolve(root, script) for script in users if script))
    if not found:
        what = "no single-user script (jupyterhub-singleuser) was found: users' servers would stay in the hub's domain"
        findings.append(Problem(Severity.STOP, "I-singleuser", what, "install it, or set Spawner.cmd to its path"))
    kind = kind_of(config.classes("JupyterHub.proxy_class"), PROXIES, Proxy.HTTP_PROXY, Proxy.UNKNOWN)
    if kind is Proxy.UNKNOWN:
        return found, "", findings
    command = config.command("ConfigurableHTTPProxy.command", "JupyterHub.proxy_cmd") if kind is Proxy.HTTP_PROXY else ()
    if kind is Proxy.HTTP_PROXY and config.values.get("ConfigurableHTTPProxy.should_start") is False:
        command = command or _started_proxy(root)
        if not command:
            return found, "", findings
    program = command[0] if command else PROXY if kind is Proxy.HTTP_PROXY else "traefik"
    proxy = which(root, program, [*folders, *SEARCH_PATH])
    if not proxy:
        findings.append(Problem(Severity.WARN, "I-proxy", f"{program} was not found; without it the hub does not start"))
    return found, resolve(root, proxy) if proxy else "", findings


def _started_proxy(root: Path) -> tuple[str, ...]:
    """Return the program of the unit that starts the proxy outside of the hub, () where no unit does."""
    commands = (unit.argv for _, unit in unit_file.find_units(root, "*proxy*.service") if "@" not in unit.name)
    return next((argv[:1] for argv in commands if argv and Path(argv[0]).name == PROXY), ())
