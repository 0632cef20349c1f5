"""Find a JupyterHub installation below a root: unit, scripts, prefix, configuration, paths and ports."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from sepolicyd.errors import RefusedError, UsageError
from sepolicyd.problems import Problem, Severity
from sepolicyd.services import unit_file
from sepolicyd.services.jupyterhub import config as init_config
from sepolicyd.services.jupyterhub.config import HubConfig
from sepolicyd.services.programs import CONTAINER_MARKS, CONTAINERS, PYTHON, SEARCH_PATH, SHELLS
from sepolicyd.services.rootfs import inside, resolve
from sepolicyd.services.unit_file import Unit

HUB = "jupyterhub"
USER_SCRIPTS = ("jupyterhub-singleuser", "jupyter-labhub")
PROXY = "configurable-http-proxy"
# where a hub is looked for that no unit names: the paper's Anaconda, virtual environments, pip as root, a package
USUAL = ("opt/anaconda3/bin", "opt/*/bin", "opt/*/*/bin", "usr/local/bin", "usr/bin", "srv/*/bin")
USUAL_CONFIG = "/etc/jupyterhub/jupyterhub_config.py"
# a shebang over 127 bytes is written as a shell's: #!/bin/sh, then '''exec' /long/path/python "$0" "$@" (distlib, pip)
POLYGLOT = re.compile(r"""'''exec'\s+"?(/[^\s"]+)""")
DIST_INFO = re.compile(r"jupyterhub-([0-9][0-9A-Za-z.+]*)\.dist-info\Z")
UNIT_HINT = "write a unit for it, or after init: setsebool -P jupyterhub_start_from_shell on"


@dataclass(frozen=True)
class Installation:
    """One JupyterHub. Paths are those that the running hub sees, without the root that they were found below."""

    hub: str
    prefix: str
    version: str = ""
    unit: Optional[Unit] = None
    user_scripts: tuple[str, ...] = ()
    proxy: str = ""
    config: HubConfig = field(default_factory=HubConfig)
    workdir: str = "/"
    findings: tuple[Problem, ...] = ()

    @property
    def unit_name(self) -> str:
        return self.unit.name if self.unit else ""

    def path(self, text: str) -> str:
        """A path of the configuration, made absolute as the hub does: from its working directory."""
        return os.path.normpath(Path(self.workdir) / text)

    @property
    def ports(self) -> dict[str, int]:
        """Port numbers by the names that the profile gives its ports."""
        config, options = self.config, _options(self.unit)
        public = config.number("JupyterHub.port") or init_config.port_of(config.text("JupyterHub.bind_url"), 8000)
        proxy = init_config.port_of(config.text("ConfigurableHTTPProxy.api_url", "JupyterHub.proxy_api_url"), 8001)
        hub = config.number("JupyterHub.hub_port") or init_config.port_of(config.text("JupyterHub.hub_bind_url"), 8081)
        return {
            "public": int(options["port"]) if options.get("port", "").isdigit() else public,
            "proxy API": config.number("JupyterHub.proxy_api_port") or proxy,
            "hub API": hub,
        }


def find(root: Path = Path("/"), *, unit: str = "") -> Installation:
    """The hub of this machine.

    :param unit: the unit that starts it, "" for jupyterhub.service or else any unit or place that has one
    :raises RefusedError: none is installed, it is a container's, or this machine is a container
    """
    for mark in CONTAINER_MARKS:
        if (root / mark).exists():
            raise RefusedError("this is the inside of a container, and labels are its host's", "run init on the host")
    service = _unit(root, unit)
    script, findings = _script(root, service)
    config_path, workdir = _config_path(root, service), (service.get("WorkingDirectory") if service else "") or "/"
    workdir = workdir.lstrip("-") if workdir.startswith("-") else workdir
    hub = resolve(root, script)
    folder = os.path.dirname(script)  # noqa: PTH120
    prefix = _prefix(root, hub) or os.path.dirname(folder)  # noqa: PTH120
    config, more = _config(root, config_path, prefix)
    users, proxy, missing = _others(root, config, [folder, f"{prefix}/bin"])
    return Installation(
        hub=hub,
        prefix=prefix,
        version=_version(root, prefix),
        unit=service,
        user_scripts=users,
        proxy=proxy,
        config=config,
        workdir="/root" if workdir == "~" else workdir,
        findings=(*findings, *more, *missing, *_user(service)),
    )


def _unit(root: Path, name: str) -> Optional[Unit]:
    try:
        return unit_file.read_unit(name or f"{HUB}.service", root)
    except UsageError:
        if name:
            raise
    for directory in unit_file.UNIT_DIRS:
        for path in sorted((root / directory).glob("*jupyterhub*.service")):
            if unit_file.UNIT_NAME.match(path.name) and "@" not in path.name:
                return unit_file.read_unit(path.name, root)
    return None


def _script(root: Path, unit: Optional[Unit]) -> tuple[str, list[Problem]]:
    """The hub's script as it is started, and what hinders a transition on it."""
    if unit is None:
        for script in _usual(root):
            what = f"no unit starts {script}: started from a shell, the hub keeps the domain of that shell (unconfined_t)"
            return script, [Problem(Severity.WARN, "I-unit", what, UNIT_HINT)]
        raise RefusedError("JupyterHub is not installed here: no unit and none of the usual places has it", "name --unit")
    argv = unit.argv
    if not argv:
        raise RefusedError(f"{unit.name} has no ExecStart", "name another with --unit")
    name = Path(argv[0]).name
    if name in CONTAINERS:
        hint = "the container's runtime confines it (container_t); rules for it belong into udica's hands"
        raise RefusedError(f"{unit.name} starts a container ({name})", hint)
    if name == HUB:
        return _which(root, argv[0], []) or _absent(unit, argv[0]), []
    inner = next((word for word in re.split(r"[\s;&|]+", " ".join(argv[1:])) if Path(word).name == HUB), "")
    script = _which(root, inner or HUB, [os.path.dirname(argv[0])]) or next(_usual(root), "")  # noqa: PTH120
    if not script:
        _absent(unit, argv[0])
    if PYTHON.match(name):
        what = f"{unit.name} starts {name}, and the domain follows the label of what is started: python's, which all share"
        return script, [Problem(Severity.STOP, "I-python", what, f"let ExecStart begin with {script}")]
    kind = "shell" if name in SHELLS else "program"
    what = f"{unit.name} starts the {kind} {argv[0]}, which starts the hub: from initrc_t (Debian) that is a transition,"
    what += " from unconfined_service_t (Fedora, RHEL) none, and the hub would stay unconfined"
    return script, [Problem(Severity.WARN, "I-wrapper", what, f"let ExecStart begin with {script}")]


def _absent(unit: Unit, program: str) -> str:
    raise RefusedError(f"{unit.name} starts {program}, and no JupyterHub is there", "install it, or name another with --unit")


def _usual(root: Path) -> Iterator[str]:
    for pattern in USUAL:
        for folder in sorted(root.glob(pattern)):
            if (folder / HUB).is_file():
                yield "/" + (folder / HUB).relative_to(root).as_posix()


def _which(root: Path, program: str, folders: Iterable[str]) -> str:
    """The program's absolute path, links not followed, or ""."""
    if program.startswith("/"):
        return program if inside(root, resolve(root, program)).is_file() else ""
    for folder in (*folders, *SEARCH_PATH):
        place = f"{folder}/{program}"
        if folder and inside(root, resolve(root, place)).is_file():
            return place
    return ""


def _prefix(root: Path, script: str) -> str:
    """The prefix of the Python that runs a script: of /opt/anaconda3/bin/python3 it is /opt/anaconda3."""
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


def _version(root: Path, prefix: str) -> str:
    """Return the version of the installed distribution, "" where none is found. The program is never run to ask it."""
    for folder in ("lib/python3*/site-packages", "lib/python3/dist-packages", "local/lib/python3*/dist-packages"):
        for path in inside(root, prefix).glob(f"{folder}/jupyterhub-*.dist-info"):
            match = DIST_INFO.match(path.name)
            if match:
                return match.group(1)
    return ""


def _options(unit: Optional[Unit]) -> dict[str, str]:
    """The hub's command-line options that matter here."""
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
    workdir = (unit.get("WorkingDirectory") if unit else "") or "/"
    for path in (named, f"{workdir}/jupyterhub_config.py", USUAL_CONFIG):
        place = os.path.normpath(Path(workdir) / path) if path else ""
        if place and inside(root, place).is_file():
            return place
    return named


def _config(root: Path, path: str, prefix: str) -> tuple[HubConfig, list[Problem]]:
    if not path:
        return HubConfig(), [
            Problem(Severity.NOTE, "I-config", "no jupyterhub_config.py was found: JupyterHub's defaults hold")
        ]
    config = init_config.read(inside(root, path), Path(path), {"sys.prefix": prefix})
    asked = ("JupyterHub.cookie_secret_file", "JupyterHub.db_url", "JupyterHub.ssl_key", "JupyterHub.port", "Spawner.cmd")
    computed = [key for key in config.computed if key in asked]
    note = f"{path} computes {', '.join(computed)}, which only a run could tell; the default is labelled"
    return config, [
        Problem(Severity.WARN, "I-computed", note, "set it to a plain text, or check the labels")
    ] if computed else []


def _others(root: Path, config: HubConfig, folders: list[str]) -> tuple[tuple[str, ...], str, list[Problem]]:
    """The single-user scripts and the proxy, links followed, and a finding for what is missing."""
    findings = []
    own = config.command("Spawner.cmd", "LocalProcessSpawner.cmd", "SystemdSpawner.cmd")[:1]
    users = [_which(root, script, folders) for script in (*own, *USER_SCRIPTS)]
    found = tuple(dict.fromkeys(resolve(root, script) for script in users if script))
    if not found:
        what = "no single-user script (jupyterhub-singleuser) was found: students' servers would stay in the hub's domain"
        findings.append(Problem(Severity.STOP, "I-singleuser", what, "install it, or set Spawner.cmd to its path"))
    if config.text("JupyterHub.proxy_class") or config.values.get("ConfigurableHTTPProxy.should_start") is False:
        return found, "", findings
    command = config.command("ConfigurableHTTPProxy.command", "JupyterHub.proxy_cmd")
    proxy = _which(root, command[0] if command else PROXY, folders)
    if not proxy:
        findings.append(Problem(Severity.WARN, "I-proxy", f"{PROXY} was not found; without it the hub does not start"))
    return found, resolve(root, proxy) if proxy else "", findings


def _user(unit: Optional[Unit]) -> list[Problem]:
    if unit is None or unit.user in ("root", "0"):
        return []
    what = f"{unit.name} runs as {unit.user}, not as root: PAM logins of others and LocalProcessSpawner need root"
    return [Problem(Severity.WARN, "I-user", what, "with sudospawner, switch jupyterhub_use_sudospawner on")]
