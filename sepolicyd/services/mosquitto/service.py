"""Discovery of mosquitto: program, configuration, listeners and their files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from sepolicyd.errors import RefusedError, UsageError
from sepolicyd.problems import Problem, Severity
from sepolicyd.services import unit_file
from sepolicyd.services.discovery import Found
from sepolicyd.services.mosquitto import labels
from sepolicyd.services.mosquitto.config import BrokerConfig, read
from sepolicyd.services.programs import CONTAINERS, refuse_container
from sepolicyd.services.rootfs import inside, resolve
from sepolicyd.services.unit_file import Unit

NAME = "mosquitto"
USUAL_CONFIG = "/etc/mosquitto/mosquitto.conf"
USUAL_PROGRAMS = ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto")
BIND_WEB = "switch mosquitto_bind_http on"
CONNECT_WEB = "switch mosquitto_connect_web on"
WEB_PORT_HINTS = {"mqtt": BIND_WEB, "mqtt over TLS": BIND_WEB, "websockets": BIND_WEB, "bridge": CONNECT_WEB}


def discover(root: Path, unit: str = "") -> Found:
    """Find the broker below a root; see :class:`sepolicyd.services.discovery.Discovery`."""
    refuse_container(root)
    service = _unit(root, unit)
    program, problems = _program(root, service)
    workdir = service.workdir if service else "/"
    config, more = _config(root, service, workdir)
    files = labels.BrokerFiles(root, program, config, service, workdir)
    return Found(
        unit=service,
        labels=labels.labels_of(files),
        ports=_ports(config),
        web_port_hints=WEB_PORT_HINTS,
        configuration=config.files,
        booleans=labels.booleans_of(config),
        problems=(*problems, *more, *labels.problems_of(files)),
    )


def _unit(root: Path, name: str) -> Optional[Unit]:
    try:
        return unit_file.read_unit(name or f"{NAME}.service", root)
    except UsageError:
        if name:
            raise
    return None


def _program(root: Path, unit: Optional[Unit]) -> tuple[str, list[Problem]]:
    """Return the program of the broker with links resolved, and obstacles to a domain transition."""
    if unit is None:
        found = next((path for path in USUAL_PROGRAMS if inside(root, path).is_file()), "")
        if not found:
            raise RefusedError(
                "mosquitto is not installed here: there is neither a unit nor a program", "give a unit with --unit"
            )
        what = f"no unit starts {found}: started from a shell, the broker keeps that shell's domain"
        return resolve(root, found), [Problem(Severity.WARN, "I-unit", what, "write a unit for it")]
    argv = unit.argv
    name = Path(argv[0]).name if argv else ""
    if name in CONTAINERS:
        raise RefusedError(f"{unit.name} starts a container ({name})", "its runtime confines it already (container_t)")
    if name == NAME and inside(root, resolve(root, argv[0])).is_file():
        return resolve(root, argv[0]), []
    inner = next((word for word in argv[1:] if Path(word).name == NAME and inside(root, resolve(root, word)).is_file()), "")
    if not inner:
        raise RefusedError(f"{unit.name} does not start an installed mosquitto", "install it, or give another with --unit")
    what = f"{unit.name} starts {argv[0]}, which starts the broker: the domain transition depends on that program"
    return resolve(root, inner), [Problem(Severity.WARN, "I-wrapper", what, f"let ExecStart begin with {inner}")]


def _config(root: Path, unit: Optional[Unit], workdir: str) -> tuple[BrokerConfig, list[Problem]]:
    """Return the configuration that the unit names, with its problems."""
    argv = unit.argv if unit else ("mosquitto", "-c", USUAL_CONFIG)
    options = [(word, argv[index + 1]) for index, word in enumerate(argv[:-1])]
    path = next((value for word, value in options if word in ("-c", "--config-file")), "")
    ports = [int(value) for word, value in options if word in ("-p", "--port") and value.isdigit()]
    path = os.path.normpath(Path(workdir) / path) if path else ""
    if path and inside(root, resolve(root, path)).is_file():
        return read(root, path, workdir=workdir, more_ports=ports), []
    if path:
        what = f"{path} is missing, so the broker cannot start"
        note = Problem(Severity.WARN, "I-config", what, "write it, or correct the unit")
    else:
        note = Problem(Severity.NOTE, "I-config", "the unit names no configuration, so the defaults of the broker are assumed")
    return read(root, "", more_ports=ports), [note]


def _ports(config: BrokerConfig) -> dict[str, tuple[int, ...]]:
    """Return port numbers by port name of the profile. Ports used only by bridges have their own type."""
    found: dict[str, list[int]] = {name: [] for name in WEB_PORT_HINTS}
    for listener in config.listeners:
        name = "websockets" if listener.websockets else "mqtt over TLS" if listener.tls else "mqtt"
        if listener.port:
            found[name].append(listener.port)
    taken = {number for numbers in found.values() for number in numbers}
    found["bridge"] = [number for number in config.bridge_ports if number not in taken]
    return {name: tuple(dict.fromkeys(numbers)) for name, numbers in found.items()}
