"""Port labels of a store: the type of each port, and the local records that change and restore it.

The kernel uses the first matching portcon, and libsemanage writes local ones first (``semanage port -m``). A portcon in a
module has no effect, since secilc keeps the base policy's for the same number (tested: the module links, but the label stays).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Optional

from sepolicyd import process
from sepolicyd.access import is_identifier
from sepolicyd.errors import RefusedError, StateError, ToolError
from sepolicyd.problems import Problem, Severity
from sepolicyd.storage.files import read_text, write_whole

LOCAL = "ports.local"
NO_HINTS: Mapping[str, str] = MappingProxyType({})
NO_TAKE: Mapping[str, frozenset[str]] = MappingProxyType({})
RECORD = re.compile(r"portcon\s+(\w+)\s+(\d+)(?:-(\d+))?\s+(\w+:\w+:(\w+)(?::\S+)?)\s*\Z")
NETBASE = "install netbase (Debian) or setup (Fedora, RHEL)"
PROTOCOLS = ("tcp", "udp", "sctp", "dccp")
# Types whose ports may be relabelled: generic ranges, and two services that are rarely installed
TAKEABLE = frozenset(("port_t", "unreserved_port_t", "ephemeral_port_t", "soundd_port_t", "transproxy_port_t"))
RANGES = frozenset(("port_t", "unreserved_port_t", "ephemeral_port_t", "reserved_port_t", "hi_reserved_port_t"))
# Types shared by many services: a service may be allowed to use them, but the ports are not relabelled
WEB = frozenset(("http_port_t", "http_cache_port_t"))


@dataclass(frozen=True, order=True)
class LocalPort:
    """A local record: one port, or a range set by the administrator."""

    protocol: str
    low: int
    high: int
    type: str

    def holds(self, protocol: str, number: int) -> bool:
        return self.protocol == protocol and self.low <= number <= self.high


@dataclass(frozen=True, order=True)
class PortChange:
    """One port that gets another type. ``local`` is the type of the local record that is replaced, "" for none."""

    protocol: str
    number: int
    before: str
    after: str
    local: str = ""


def parse_local(text: str) -> tuple[LocalPort, ...]:
    """Parse the records of ports.local; other lines (comments) are skipped."""
    found = []
    for line in text.splitlines():
        match = RECORD.match(line.strip())
        if match:
            protocol, low, high, _, kind = match.groups()
            found.append(LocalPort(protocol, int(low), int(high or low), kind))
    return tuple(found)


def read_local(active: Path) -> tuple[LocalPort, ...]:
    """Return the local records in a store's active directory; () if the file does not exist.

    :raises ToolError: the file cannot be read
    """
    try:
        return parse_local((active / LOCAL).read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ToolError(f"{active / LOCAL} cannot be read: {error.strerror}", "run this as root") from error


def judge(
    changes: Iterable[PortChange],
    own: frozenset[str],
    web_hints: Mapping[str, str] = NO_HINTS,
    take: Mapping[str, frozenset[str]] = NO_TAKE,
) -> list[Problem]:
    """Return the problems of relabelling these ports.

    :param own: types of the service's module
    :param web_hints: hints for ports shared by web servers, by port type of the service
    :param take: types of other services whose ports the profile relabels, by port type of the service
    """
    findings = []
    for change in changes:
        name = f"{change.protocol} port {change.number}"
        if change.local and change.local not in own:
            what = f"the administrator has labelled {name} as {change.local}"
            hint = f"run: semanage port -d -p {change.protocol} {change.number}; or let the service use another port"
            findings.append(Problem(Severity.STOP, "I-port", what, hint))
        elif change.before in WEB:
            what = f"{name} keeps the type {change.before}, which web servers share"
            hint = web_hints.get(change.after, "allow the service to listen on it during the rollout")
            findings.append(Problem(Severity.WARN, "I-web", what, hint))
        elif change.before in take.get(change.after, ()):
            what = f"{name} is relabelled from {change.before}; the old label is restored on removal"
            hint = (
                f"domains with access to {change.before} can no longer use this port; a service that listens on it would fail"
            )
            findings.append(Problem(Severity.WARN, "I-taken", what, hint))
        elif change.before not in TAKEABLE and change.before not in own:
            what = f"{name} has the type {change.before} of another module"
            findings.append(Problem(Severity.STOP, "I-port", what, "let the service use another port"))
        elif change.before in ("soundd_port_t", "transproxy_port_t"):
            what = f"{name} is relabelled from {change.before}; the old label is restored on removal"
            findings.append(
                Problem(Severity.NOTE, "I-taken", what, "services that used the port with the old type can no longer do so")
            )
    return findings


def line_take(change: PortChange) -> str:
    """Return a line of ``semanage import``: ``-m`` for a port with a record of its own, ``-a`` for a port inside a range.

    semanage refuses ``-a`` for a port that the policy defines separately (tested: "Port tcp/8000 already defined"), and ``-m``
    for one that it does not (seobject.py).
    """
    verb = "-m" if change.local or change.before not in RANGES else "-a"
    return f"port {verb} -t {change.after} -p {change.protocol} {change.number}"


def line_give_back(change: PortChange) -> str:
    """Return the line of ``semanage import`` that restores the previous record, or removes the record."""
    if change.local:
        return f"port -m -t {change.local} -p {change.protocol} {change.number}"
    return f"port -d -p {change.protocol} {change.number}"


def render_local(present: str, changes: Iterable[PortChange], *, level: str = ":s0", back: bool = False) -> str:
    """Return the text of ports.local with these ports relabelled or restored; other lines are unchanged.

    :raises RefusedError: an invalid type, protocol or number
    """
    wanted: dict[tuple[str, int], Optional[str]] = {}
    for change in checked(changes):
        wanted[(change.protocol, change.number)] = (change.local if back else change.after) or None
    lines = []
    for line in present.splitlines():
        match = RECORD.match(line.strip())
        if match and not match.group(3) and (match.group(1), int(match.group(2))) in wanted:
            continue
        lines.append(line)
    for (protocol, number), wish in sorted(wanted.items()):
        if wish:
            lines.append(f"portcon {protocol} {number} system_u:object_r:{wish}{level}")
    return "\n".join(lines) + "\n" if lines else ""


def write_local(active: Path, changes: Iterable[PortChange], *, level: str = ":s0", back: bool = False) -> None:
    """Return the same in a store of a root of its own, where semanage cannot go; rebuild it afterwards (``semodule -p ROOT -n
    -B``).

    :raises ToolError: the file cannot be written
    """
    path = active / LOCAL
    try:
        text = render_local(read_text(path), changes, level=level, back=back)
        if text:
            write_whole(path, text.encode())
        else:
            path.unlink(missing_ok=True)
    except (OSError, StateError) as error:
        raise ToolError(f"{path} cannot be written: {error}", "free space on that file system") from error


def checked(changes: Iterable[PortChange]) -> tuple[PortChange, ...]:
    """Check that the changes are safe to write as text.

    :raises RefusedError: an invalid type, protocol or number
    """
    found = tuple(changes)
    for change in found:
        names = [name for name in (change.after, change.local) if name]
        if change.protocol not in PROTOCOLS or not 0 < change.number < 65536 or not all(map(is_identifier, names)):
            raise RefusedError(f"{change} is not a valid port", "correct the profile")
    return found


def run_live(active: Path, changes: Iterable[PortChange], *, back: bool = False) -> None:
    """Relabel or restore the ports on this machine, in one transaction and with one policy load.

    :raises ToolError: semanage failed, or had no effect
    """
    wanted = checked(changes)
    if not wanted:
        return
    lines = [line_give_back(change) if back else line_take(change) for change in wanted]
    try:
        done = process.run(["semanage", "import"], stdin="\n".join(lines) + "\n")
    except ToolError as error:
        if "protocol not found" not in error.stderr:
            raise
        # seobject.py asks getprotobyname, which reads /etc/protocols; a minimal Debian has none
        raise ToolError("semanage cannot resolve port protocols, because /etc/protocols is missing", NETBASE) from error
    local = read_local(active)
    for change in wanted:
        kind = next((item.type for item in local if item.holds(change.protocol, change.number)), "")
        if kind != (change.local if back else change.after):
            what = f"after semanage, {change.protocol} port {change.number} is {kind or 'without a local record'}"
            raise ToolError(what, f"run: semanage {lines[wanted.index(change)]}", stderr=done.stderr)
