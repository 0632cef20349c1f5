"""Read mosquitto.conf and the files of its include_dir (mosquitto.conf(5))."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sepolicyd.errors import InputError
from sepolicyd.services.rootfs import inside, resolve

MAX_CONFIG_BYTES = 1 << 20
DEFAULT_PORT = 1883
TLS_OPTIONS = frozenset({"certfile", "keyfile", "psk_file", "psk_hint"})


@dataclass
class Listener:
    """One listener; ``port`` is 0 for a Unix socket."""

    port: int
    place: str = ""
    """Address, host name, or path of the Unix socket."""
    options: dict[str, str] = field(default_factory=dict)

    @property
    def websockets(self) -> bool:
        return self.options.get("protocol", "") == "websockets"

    @property
    def tls(self) -> bool:
        return not TLS_OPTIONS.isdisjoint(self.options)

    @property
    def is_socket(self) -> bool:
        return not self.port and self.place.startswith("/")


@dataclass(frozen=True)
class BrokerConfig:
    """The settings of one broker. Relative paths are taken from the working directory of the unit."""

    path: str = ""
    values: tuple[tuple[str, str], ...] = ()
    """Each option with its value, in the order of the files."""
    listeners: tuple[Listener, ...] = ()
    files: tuple[str, ...] = ()
    """The files that were read, the main one first."""

    def all(self, *names: str) -> tuple[str, ...]:
        """Return all values of these options."""
        return tuple(value for name, value in self.values if name in names and value)

    def last(self, name: str, default: str = "") -> str:
        """Return the last value of an option, which takes precedence."""
        return next((value for key, value in reversed(self.values) if key == name and value), default)

    def flag(self, name: str) -> bool:
        return self.last(name).lower() in ("true", "1")

    @property
    def bridge_ports(self) -> tuple[int, ...]:
        """Ports on other machines that bridges connect to, each once."""
        hosts = [host for value in self.all("address", "addresses") for host in value.split()]
        ports = [_port(host.rpartition(":")[2]) if host.count(":") == 1 or "]:" in host else DEFAULT_PORT for host in hosts]
        return tuple(dict.fromkeys(port for port in ports if port))


def read(root: Path, path: str, *, workdir: str = "/", more_ports: Sequence[int] = ()) -> BrokerConfig:
    """Read a configuration file and the ``*.conf`` of its include_dir, which is valid only in the main file.

    :param path: absolute path, "" if the broker starts without a configuration
    :param workdir: base directory for relative paths
    :param more_ports: ports of ``-p``, each a listener without options
    :raises InputError: a file cannot be read
    """
    values: list[tuple[str, str]] = []
    files = [path] if path else []
    for name, value in _options(root, path) if path else ():
        values.append((name, value))
        if name == "include_dir" and value:
            for included in _included(root, os.path.normpath(Path(workdir) / value)):
                values += [(key, text) for key, text in _options(root, included) if key != "include_dir"]
                files.append(included)
    return BrokerConfig(path, tuple(values), tuple(_listeners(values, more_ports)), tuple(files))


def parse(text: str) -> Iterator[tuple[str, str]]:
    """Yield options and values. Lines that begin with # are comments; values may contain blanks."""
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        if name and not name.startswith("#"):
            yield name, value.strip()


def _options(root: Path, path: str) -> Iterator[tuple[str, str]]:
    try:
        with inside(root, resolve(root, path)).open("rb") as file:
            yield from parse(file.read(MAX_CONFIG_BYTES).decode(errors="replace"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "correct its mode, or give another unit") from None


def _included(root: Path, directory: str) -> list[str]:
    """Return the files in the order of the broker: by bytes, capital letters first."""
    try:
        entries = inside(root, resolve(root, directory)).iterdir()
        names = sorted(entry.name for entry in entries if entry.name.endswith(".conf"))
    except OSError as error:
        raise InputError(f"include_dir {directory} cannot be read: {error.strerror}", "correct it in mosquitto.conf") from None
    return [os.path.normpath(f"{directory}/{name}") for name in names]


def _listeners(values: list[tuple[str, str]], more_ports: Sequence[int]) -> list[Listener]:
    """Return the listeners. Options before the first ``listener`` belong to the default one.

    The default listener opens with ``port`` or ``bind_address``, or if there is no other listener.
    """
    default = Listener(DEFAULT_PORT)
    found = [Listener(port) for port in more_ports]
    current = default
    asked = False
    for name, value in values:
        if name == "listener":
            number, _, place = value.partition(" ")
            current = Listener(_port(number), place.strip())
            found.append(current)
        elif name == "port":
            default.port, asked = _port(value), True
        elif name == "bind_address":
            default.place, asked = value, True
        else:
            current.options[name] = value
    return [default, *found] if asked or not found else found


def _port(text: str) -> int:
    """Return the port number, 0 for an invalid one."""
    return int(text) if text.isdigit() and int(text) < 65536 else 0
