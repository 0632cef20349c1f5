"""Types for the files of a broker, obstacles to labelling them, and booleans that its configuration needs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from sepolicyd.problems import Problem, Severity
from sepolicyd.services.discovery import BooleanRequest, Label
from sepolicyd.services.mosquitto.config import BrokerConfig
from sepolicyd.services.paths import SHARED, SHARED_KEYS, USERS_TREES
from sepolicyd.services.rootfs import resolve
from sepolicyd.services.unit_file import Unit
from sepolicyd.services.unit_labels import unit_labels

PREFIX = "mosquitto"
SECRETS = ("keyfile", "bridge_keyfile", "password_file", "psk_file")
READ_FILES = ("certfile", "cafile", "bridge_certfile", "bridge_cafile", "crlfile", "dhparamfile", "acl_file")
READ_TREES = ("capath", "bridge_capath")
# dynamic security keeps users and roles in this file and rewrites it
WRITTEN = ("plugin_opt_config_file", "auth_opt_config_file")
PLUGINS = ("plugin", "auth_plugin", "global_plugin")
NAMED_PLUGINS = ("plugin_load",)
"""Options whose value is a name and then the path (mosquitto 2.1)."""
DATABASES = ("mysql", "mariadb", "postgres", "pgsql")
WEB_PORTS = frozenset({80, 443, 8008, 8009, 8080, 8443})
CODE_TREES = ("/usr/", "/lib/", "/lib64/", "/opt/")
RUN_TREES = ("/run", "/var/run")
"""Directories where the module gives files of the broker their own type."""
FIRST_FREE_PORT = 1024  # ip(7), ip_unprivileged_port_start


@dataclass(frozen=True)
class BrokerFiles:
    """Paths of one broker, as the running broker sees them, with all links resolved."""

    root: Path
    program: str
    config: BrokerConfig
    unit: Optional[Unit]
    workdir: str = "/"

    def path(self, text: str) -> str:
        """Return a path of the configuration, made absolute from the working directory, without symbolic links.

        :raises RefusedError: a loop of links
        """
        return resolve(self.root, os.path.normpath(Path(self.workdir) / text))

    def paths(self, *names: str) -> list[str]:
        return [self.path(value) for value in self.config.all(*names)]

    @property
    def plugins(self) -> list[str]:
        named = (value.partition(" ")[2].strip() for value in self.config.all(*NAMED_PLUGINS))
        return [*self.paths(*PLUGINS), *(self.path(path) for path in named if path)]

    @property
    def state(self) -> str:
        """Directory of the persistent database, "" without persistence."""
        if not self.config.flag("persistence"):
            return ""
        return self.path(self.config.last("persistence_location") or ".")

    @property
    def logs(self) -> list[str]:
        words = (value.partition(" ") for value in self.config.all("log_dest"))
        return [self.path(path.strip()) for kind, _, path in words if kind == "file" and path.strip()]


def labels_of(files: BrokerFiles) -> tuple[Label, ...]:
    """Return the labels of all files of the broker, sorted by path, without trees that other services share."""
    found = [Label(files.program, f"{PREFIX}_exec_t", what="the broker")]
    found += [Label(path, f"{PREFIX}_secret_t", what="keys and passwords") for path in _own(files.paths(*SECRETS))]
    found += [*_configuration(files), *_written(files), *_content(files), *unit_labels(files.unit, PREFIX)]
    found = [label for label in found if not (label.tree and label.path in SHARED)]
    # the first label of a path is used: secrets come before the trees that contain them
    return tuple(sorted({label.path: label for label in reversed(found)}.values(), key=lambda label: label.path))


def _configuration(files: BrokerFiles) -> list[Label]:
    kind, found = f"{PREFIX}_etc_t", []
    if files.config.path:
        folder = _folder(files.config.path)
        own = folder not in SHARED
        found.append(Label(folder if own else files.config.path, kind, tree=own, what="configuration"))
    found += [Label(path, kind, tree=True, what="include_dir") for path in _outside(files.paths("include_dir"), found)]
    found += [Label(path, kind, tree=True, what="certificates") for path in _outside(_own(files.paths(*READ_TREES)), found)]
    found += [Label(path, kind, what="certificates and rights") for path in _outside(_own(files.paths(*READ_FILES)), found)]
    return found


def _written(files: BrokerFiles) -> list[Label]:
    """Return labels for state, logs and pid file: for the directory if it belongs to the broker, else for the file."""
    found = [Label(files.state, f"{PREFIX}_var_lib_t", tree=True, what="state")] if files.state else []
    for path, kind, what in [
        *((path, "var_lib", "users and roles that a plugin keeps") for path in _outside(_rewritten(files), found)),
        *((path, "log", "log") for path in files.logs),
        *((path, "runtime", "pid file") for path in files.paths("pid_file")),
        *((path, "runtime", "socket") for path in _sockets(files)),
    ]:
        folder = _folder(path)
        if folder not in SHARED:
            found.append(Label(folder, f"{PREFIX}_{kind}_t", tree=True, what=what))
        elif what != "socket":
            found.append(Label(path, f"{PREFIX}_{kind}_t", what=what))
    return found


def _content(files: BrokerFiles) -> list[Label]:
    # trees below /var/www belong to the web server and keep its label
    web = [path for path in files.paths("http_dir") if not path.startswith("/var/www/") and path != "/var/www"]
    found = [Label(path, f"{PREFIX}_content_t", tree=True, what="http_dir") for path in web]
    code = [path for path in files.plugins if not path.startswith(CODE_TREES)]
    return found + [Label(path, "lib_t", what="a plugin") for path in code if not path.startswith(USERS_TREES)]


def _sockets(files: BrokerFiles) -> list[str]:
    return [files.path(listener.place) for listener in files.config.listeners if listener.is_socket]


def _rewritten(files: BrokerFiles) -> list[str]:
    """Return the files that a plugin rewrites, without files in the configuration, which keep its type (see I-written)."""
    return [path for path in files.paths(*WRITTEN) if not path.startswith(_folder(files.config.path) + "/")]


def _folder(path: str) -> str:
    return os.path.dirname(path)  # noqa: PTH120 a text, not a path of this machine


def _own(paths: Iterable[str]) -> list[str]:
    """Return the paths outside shared trees of keys and certificates."""
    return [path for path in paths if not path.startswith(SHARED_KEYS)]


def _outside(paths: Iterable[str], labels: Iterable[Label]) -> list[str]:
    """Return the paths outside the labelled trees."""
    trees = [label.path + "/" for label in labels if label.tree]
    return [path for path in paths if not (path + "/").startswith(tuple(trees))]


def problems_of(files: BrokerFiles) -> list[Problem]:
    """Return problems with the paths of files, and with an unexpected user."""
    problems = [*_shared_files(files), *_unwritable_files(files)]
    for path in (files.program, *files.plugins):
        if path.startswith(USERS_TREES):
            what = f"{path} is code of the broker in a directory with files of users, so it would not be protected"
            problems.append(Problem(Severity.STOP, "I-home", what, "install it under /usr or /opt"))
    if files.config.last("user") == "root":
        what = "the configuration sets user root: the broker stays root, but the module gives it no root capabilities"
        problems.append(
            Problem(Severity.WARN, "I-root", what, "remove the line, and make the user mosquitto the owner of the files")
        )
    return problems


def _shared_files(files: BrokerFiles) -> Iterator[Problem]:
    """Yield problems with files that other programs share, so they cannot get a label of the broker."""
    if files.state in SHARED:
        what = f"the broker keeps its state in {files.state}, which other programs share, so it cannot be labelled"
        yield Problem(Severity.STOP, "I-shared", what, "set persistence_location, for example /var/lib/mosquitto/")
    for path in files.paths(*SECRETS):
        if path.startswith(SHARED_KEYS):
            what = f"{path} may be used by other programs too, which could not read it with the label of the broker"
            hint = "copy it to /etc/mosquitto/certs, as README-letsencrypt.md of mosquitto describes"
            yield Problem(Severity.WARN, "I-key", what, hint)
    for path in _sockets(files):
        if _folder(path) in SHARED and _folder(path) not in RUN_TREES:
            what = f"the socket {path} is in a directory that other programs share, so it gets the label of that directory"
            yield Problem(Severity.WARN, "I-socket", what, "move it to /run/mosquitto")


def _unwritable_files(files: BrokerFiles) -> Iterator[Problem]:
    for path in files.paths(*WRITTEN):
        if path not in _rewritten(files):
            what = (
                f"the broker rewrites {path}, but the module does not allow it to create files in its configuration directory"
            )
            yield Problem(Severity.WARN, "I-written", what, "keep the file in /var/lib/mosquitto")


def booleans_of(config: BrokerConfig) -> tuple[BooleanRequest, ...]:
    """Return the booleans that the configuration needs, each with the setting that needs it."""
    wanted = []
    bridges = ", ".join(config.all("connection"))
    if config.bridge_ports:
        wanted.append(("mosquitto_connect_brokers", f"connection {bridges} is a bridge to another broker"))
    if WEB_PORTS.intersection(config.bridge_ports):
        wanted.append(("mosquitto_connect_web", "a bridge connects to a port of web servers"))
    ports = sorted(listener.port for listener in config.listeners if listener.port)
    web = [port for port in ports if port in WEB_PORTS]
    if web:
        wanted.append(("mosquitto_bind_http", f"listener {web[0]} is a port of web servers"))
    elif ports and ports[0] < FIRST_FREE_PORT:
        wanted.append(("mosquitto_bind_http", f"listener {ports[0]} is below {FIRST_FREE_PORT}, which needs net_bind_service"))
    options = [value.lower() for name, value in config.values if name in PLUGINS + NAMED_PLUGINS or "_opt_" in name]
    if any(word in value for word in DATABASES for value in options):
        wanted.append(("mosquitto_connect_db", "a plugin uses a MySQL or PostgreSQL server"))
    return tuple(BooleanRequest(name, why) for name, why in wanted)
