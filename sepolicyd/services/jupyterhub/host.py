"""Facts of the machine that decide what a hub needs: name service, PAM, home file systems, devices, web servers, nbgrader."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sepolicyd.errors import InputError
from sepolicyd.services.jupyterhub.config.machine import Machine
from sepolicyd.services.jupyterhub.config.settings import parse

MAX_FILES = 200
PAM_DIRECTORIES = ("/etc/pam.d", "/usr/lib/pam.d")
PAM_INCLUDE = re.compile(r"(?:@include|(?:auth|account|session|password)\s+(?:include|substack))\s+(\S+)")
PAM_MODULE = re.compile(r"\b(pam_[a-z0-9_]+)\.so\b")
HOME_MOUNTS = ("/home", "/export/home", "/nfs/home", "/data/home", "/u", "/users")
WEB_FILES = (
    (
        "nginx",
        ("/etc/nginx/nginx.conf", "/etc/nginx/conf.d/*.conf", "/etc/nginx/sites-enabled/*", "/etc/nginx/default.d/*.conf"),
    ),
    (
        "Apache",
        (
            "/etc/httpd/conf/httpd.conf",
            "/etc/httpd/conf.d/*.conf",
            "/etc/apache2/sites-enabled/*",
            "/etc/apache2/conf-enabled/*",
        ),
    ),
    ("Caddy", ("/etc/caddy/Caddyfile", "/etc/caddy/conf.d/*")),
    ("HAProxy", ("/etc/haproxy/haproxy.cfg", "/etc/haproxy/conf.d/*.cfg")),
)
GPU_DEVICES = ("/dev/nvidia[0-9]*", "/dev/nvidiactl", "/dev/kfd", "/dev/dri/renderD*")
CONTEXTS = "/etc/selinux/*/contexts/files/file_contexts"
EXCHANGE = "/usr/local/share/nbgrader/exchange"
EXCHANGE_SETTINGS = ("Exchange.root", "ExchangeFactory.root", "TransferApp.exchange_directory", "NbGrader.exchange_directory")


@dataclass(frozen=True)
class HostFacts:
    """Facts found below the root. Paths are those of the machine."""

    name_services: frozenset[str] = frozenset()
    """Sources of passwd and group in nsswitch.conf(5), as "files", "sss"."""
    pam_modules: frozenset[str] = frozenset()
    """Modules of the hub's PAM service, included files too, as "pam_mkhomedir"."""
    homes: tuple[tuple[str, str], ...] = ()
    """(mount point, file system type) of each tree with homes that is not on a local disk."""
    helper_labelled: bool = True
    """Whether the base policy gives mkhomedir_helper(8) a type, and so a domain."""
    devices: tuple[str, ...] = ()
    """Device nodes of GPUs."""
    web_servers: tuple[tuple[str, str], ...] = ()
    """(web server, file) of each configuration that forwards to the hub's public port."""
    exchange: str = ""
    """Directory through which nbgrader hands assignments out and in, "" where nbgrader is not installed."""


def read_host(machine: Machine, *, pam_service: str, public_port: int) -> HostFacts:
    """Read the facts below the machine's root. Nothing is executed.

    :param pam_service: PAMAuthenticator.service, "login" by default
    :param public_port: TCP port at which a web server in front would reach the hub
    """
    return HostFacts(
        name_services=_name_services(machine),
        pam_modules=frozenset(_pam_modules(machine, pam_service, set())),
        homes=(*_mounted_homes(machine), *_automounted(machine)),
        helper_labelled=any("mkhomedir_helper" in (machine.read(path) or "") for path in machine.glob(CONTEXTS)),
        devices=tuple(path for pattern in GPU_DEVICES for path in machine.glob(pattern)),
        web_servers=tuple(_web_servers(machine, public_port)),
        exchange=_exchange(machine) if _has_package(machine, "nbgrader") else "",
    )


def _lines(text: str) -> Iterator[str]:
    return (line for line in (raw.partition("#")[0].strip() for raw in text.splitlines()) if line)


def _name_services(machine: Machine) -> frozenset[str]:
    text = machine.read("/etc/nsswitch.conf") or machine.read("/usr/share/defaults/etc/nsswitch.conf") or ""
    found = set()
    for line in _lines(text):
        database, _, sources = line.partition(":")
        if database in ("passwd", "group", "initgroups"):
            found.update(re.sub(r"\[[^\]]*\]", " ", sources).split())
    return frozenset(found)


def _pam_modules(machine: Machine, service: str, seen: set[str]) -> Iterable[str]:
    """Yield the modules of a PAM service and of the files that it includes."""
    if service in seen or "/" in service or len(seen) >= MAX_FILES:
        return
    seen.add(service)
    text = next((found for found in (machine.read(f"{folder}/{service}") for folder in PAM_DIRECTORIES) if found), "")
    for line in _lines(text):
        included = PAM_INCLUDE.match(line.lstrip("-"))
        if included:
            yield from _pam_modules(machine, included.group(1), seen)
        else:
            yield from PAM_MODULE.findall(line)


def _mounted_homes(machine: Machine) -> list[tuple[str, str]]:
    """Return (mount point, type) of the homes in fstab(5), and in /proc/self/mounts of the machine itself."""
    texts = [machine.read("/etc/fstab") or ""]
    if machine.root == Path("/"):
        texts.append(Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace"))
    found: dict[str, str] = {}
    for line in (line for text in texts for line in _lines(text)):
        words = line.split()
        if (
            len(words) > 2
            and _holds_homes(words[1])
            and not words[2].startswith(("ext", "xfs", "btrfs", "zfs", "autofs", "none"))
        ):
            found[words[1]] = words[2]
    return sorted(found.items())


def _holds_homes(mount: str) -> bool:
    return any(mount == place or mount.startswith(f"{place}/") for place in HOME_MOUNTS)


def _automounted(machine: Machine) -> list[tuple[str, str]]:
    """Return (directory, type) of the homes that autofs mounts: auto.master(5), autofs(5)."""
    files = ["/etc/auto.master", *machine.glob("/etc/auto.master.d/*.autofs")]
    found = []
    for line in (line for path in files for line in _lines(machine.read(path) or "")):
        words = line.split()
        if len(words) < 2 or not (_holds_homes(words[0]) or words[0] == "/-"):
            continue
        entries = machine.read(words[1].removeprefix("file:")) or ""
        if words[0] == "/-" and not any(_holds_homes(entry.split()[0]) for entry in _lines(entries)):
            continue
        kind = re.search(r"-?fstype=([a-z0-9.]+)", line + entries)
        found.append((words[0], kind.group(1) if kind else "nfs"))
    return found


def _web_servers(machine: Machine, port: int) -> Iterator[tuple[str, str]]:
    """Yield (web server, file) of the configurations that forward to the port on this machine."""
    forward = re.compile(rf"(?:127\.0\.0\.1|localhost|\[::1\]|\*):{port}\b")
    for server, patterns in WEB_FILES:
        for path in [path for pattern in patterns for path in machine.glob(pattern)][:MAX_FILES]:
            if any(forward.search(line) for line in _lines(machine.read(path) or "")):
                yield server, path
                break


def _has_package(machine: Machine, name: str) -> bool:
    """Tell whether the hub's Python has the distribution."""
    return any(machine.glob(f"{folder}/{name}-*.dist-info") for folder in machine.site_packages())


def _exchange(machine: Machine) -> str:
    """Return the exchange directory: of nbgrader_config.py where Jupyter looks for it, else nbgrader's default."""
    folders = ("/etc/jupyter", "/usr/local/etc/jupyter", f"{machine.prefix}/etc/jupyter")
    for path in (f"{folder}/nbgrader_config.py" for folder in folders):
        text = machine.read(path)
        if text is None:
            continue
        try:
            root = parse(text, Path(path), machine).text(*EXCHANGE_SETTINGS)
        except InputError:
            continue
        if root.startswith("/"):
            return root
    return EXCHANGE
