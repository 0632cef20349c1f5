"""Read systemd unit files with their drop-ins below a root directory (systemd.unit(5))."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sepolicyd.errors import InputError, UsageError

# systemd.unit(5), "Unit File Load Path": the file of the first directory wins, drop-ins of all directories apply
UNIT_DIRS = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]+\.service\Z")
EXEC_PREFIXES = "@-:+!"  # systemd.service(5), "Command lines"
WORD = re.compile(r"""\s*((?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')+)""", re.DOTALL)
ESCAPED = re.compile(r"\\(.)", re.DOTALL)
PIECE = re.compile(r"""\\(.)|"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'""", re.DOTALL)
DIRECTORIES = ("RuntimeDirectory", "StateDirectory", "LogsDirectory", "ConfigurationDirectory", "CacheDirectory")
# Paths over which systemd mounts something for the service (systemd.exec(5), "Sandboxing")
MOUNTS = (
    "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "TemporaryFileSystem", "BindPaths",
    "BindReadOnlyPaths",
)  # fmt: skip
LISTS = frozenset({"ExecStart", "ExecStartPre", "Environment", "EnvironmentFile", *MOUNTS, *DIRECTORIES})


@dataclass(frozen=True)
class Unit:
    """One unit as systemd would load it. ``values`` maps "Section.Key" to values; only list-type keys have several."""

    name: str
    files: tuple[Path, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def get(self, key: str, default: str = "") -> str:
        """Return the last value of a [Service] key."""
        found = self.values.get(f"Service.{key}", ())
        return found[-1] if found else default

    def words(self, key: str) -> tuple[str, ...]:
        """Return the values of a [Service] key, split at whitespace as systemd does."""
        return tuple(word for value in self.values.get(f"Service.{key}", ()) for word in split(value))

    @property
    def argv(self) -> tuple[str, ...]:
        """The last ExecStart without its prefixes, () without one. With the prefix ``@``, the word for argv[0] is dropped."""
        commands = self.values.get("Service.ExecStart", ())
        words = split(commands[-1]) if commands else ()
        if not words:
            return ()
        program = words[0].lstrip(EXEC_PREFIXES)
        renamed = "@" in words[0][: len(words[0]) - len(program)]
        return (program, *words[2 if renamed else 1 :])

    @property
    def environment(self) -> dict[str, str]:
        pairs = (word.partition("=") for word in self.words("Environment"))
        return {name: value for name, _, value in pairs}

    @property
    def user(self) -> str:
        return self.get("User", "root")

    @property
    def workdir(self) -> str:
        """WorkingDirectory= as an absolute path: "/" by default, /root for "~" (systemd.exec(5)), whose user is root."""
        path = self.get("WorkingDirectory").lstrip("-") or "/"
        return "/root" if path == "~" else path


def split(command: str) -> tuple[str, ...]:
    """Split a command line, with quotes and backslashes as in systemd.service(5). Variables are not expanded."""
    return tuple(PIECE.sub(_unquoted, word) for word in WORD.findall(command))


def _unquoted(match: re.Match[str]) -> str:
    escaped, double, single = match.groups()
    return escaped if escaped is not None else ESCAPED.sub(r"\1", double if double is not None else single)


def parse(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the settings of a unit's fragments, given in the order in which they apply. An empty assignment clears a list."""
    values: dict[str, tuple[str, ...]] = {}
    for text in texts:
        section = ""
        for line in _lines(text):
            if line.startswith("[") and line.endswith("]"):
                section = line[1:-1]
                continue
            key, equals, value = line.partition("=")
            if not equals:
                continue
            name = f"{section}.{key.strip()}"
            value = value.strip()
            if not value:
                values.pop(name, None)
            elif key.strip() in LISTS:
                values[name] = (*values.get(name, ()), value)
            else:
                values[name] = (value,)
    return values


def _lines(text: str) -> Iterable[str]:
    """Yield lines with continuations joined. Comments inside a continuation are dropped (systemd.syntax(7))."""
    pending = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith(("#", ";")):
            continue
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        line = pending + line
        pending = ""
        if line.strip():
            yield line.strip()
    if pending.strip():
        yield pending.strip()


def find_units(root: Path, pattern: str) -> Iterator[tuple[str, Unit]]:
    """Yield (path of the file below the root, unit) for the units whose file name matches, each once.

    Aliases (links with another name) and links without a target are left out.

    :raises InputError: a fragment cannot be read
    """
    seen: set[str] = set()
    for path in (path for directory in UNIT_DIRS for path in sorted((root / directory).glob(pattern))):
        is_alias = path.is_symlink() and path.readlink().name != path.name
        if path.name in seen or is_alias or not path.exists() or not UNIT_NAME.match(path.name):
            continue
        seen.add(path.name)
        yield f"/{path.relative_to(root).as_posix()}", read_unit(path.name, root)


def read_unit(name: str, root: Path = Path("/")) -> Unit:
    """Read the unit with this name, including drop-ins.

    :raises UsageError: not the name of a service unit, or no such unit below ``root``
    :raises InputError: a fragment cannot be read
    """
    if not UNIT_NAME.match(name):
        raise UsageError(f"{name!r} is not the name of a service unit", "give a name such as NAME.service")
    directories = [root / directory for directory in UNIT_DIRS]
    main = next((path for path in (directory / name for directory in directories) if path.exists()), None)
    if main is None:
        raise UsageError(f"there is no unit {name}", "give another with --unit; see: systemctl list-unit-files")
    # /lib is a link to /usr/lib on merged-usr systems: a drop-in counts once, from the first directory
    dropins: dict[str, Path] = {}
    for directory in directories:
        for path in sorted((directory / f"{name}.d").glob("*.conf")):
            dropins.setdefault(path.name, path)
    files = (main, *(dropins[key] for key in sorted(dropins)))
    texts = []
    for path in files:
        try:
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            raise InputError(f"unit file {path} cannot be read: {error.strerror}", "correct its mode") from None
    return Unit(name, files, parse(texts))
