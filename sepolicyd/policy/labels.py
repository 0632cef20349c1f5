"""Look up the type of a path (file_contexts) or port (portcon), and measure how much a type covers."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

from sepolicyd.errors import InputError, SepolicydError, ToolMissingError
from sepolicyd.policy import index_store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.known_contexts import KnownContexts
from sepolicyd.policy.model import PortRange
from sepolicyd.policy.selinux_config import selinux_type
from sepolicyd.settings import Settings

MODES = {
    "file": stat.S_IFREG,
    "dir": stat.S_IFDIR,
    "lnk_file": stat.S_IFLNK,
    "chr_file": stat.S_IFCHR,
    "blk_file": stat.S_IFBLK,
    "fifo_file": stat.S_IFIFO,
    "sock_file": stat.S_IFSOCK,
    "unix_stream_socket": stat.S_IFSOCK,  # connectto names the path of the socket's file
    "unix_dgram_socket": stat.S_IFSOCK,
}
FILE_CLASSES = ("file", "dir", "lnk_file", "chr_file", "blk_file", "fifo_file", "sock_file")
WRITE_PERMISSIONS = ("write", "append", "create", "unlink", "rename", "add_name", "remove_name")
DELETED = " (deleted)"  # the kernel's mark on the path of a removed file (fs/d_path.c)
NO_LABEL = "<<none>>"
MAX_EXAMPLES = 5
# characters that end the literal prefix of a file_contexts pattern
META = re.compile(r"[.^$?*+|\[({\\]")


@dataclass(frozen=True)
class Spec:
    """One line of file_contexts: pattern, class ("" for any), type ("" for <<none>>)."""

    pattern: str
    flag: str
    type: str

    @property
    def stem(self) -> str:
        """The literal text before the first meta character, with `\\.` unescaped."""
        text = self.pattern.replace(r"\.", "\0")
        match = META.search(text)
        return (text[: match.start()] if match else text).replace("\0", ".")

    @property
    def tree(self) -> bool:
        """Whether it covers a whole directory tree."""
        return self.pattern.endswith(("(/.*)?", "/.*", "/.+", ".*"))


class FileContexts:
    """file_contexts with its .local, .homedirs and .subs files, as libselinux reads them (selabel_file(5))."""

    def __init__(self, path: Path, known: Optional[KnownContexts] = None) -> None:
        self.path = path
        self._known = known if known is not None else KnownContexts(path, None)

    @classmethod
    def load(cls, path: Path, known: Optional[KnownContexts] = None) -> FileContexts:
        """Open one file_contexts file.

        :param known: answers of earlier commands; with them, libselinux opens the file only for new paths
        :raises ToolMissingError: the Python binding of libselinux is not installed
        :raises InputError: no such file, or libselinux does not accept it
        """
        found = cls(path, known)
        if not found._known.answers:
            _ = found._selabel
        return found

    @cached_property
    def _selabel(self) -> tuple[Any, Any]:
        """The libselinux binding, and its handle of the file."""
        try:
            import selinux
        except ImportError as error:
            raise ToolMissingError(
                "paths cannot be looked up in file_contexts: the Python binding of libselinux is not installed",
                "install python3-selinux (Debian) or python3-libselinux (Fedora, RHEL)",
            ) from error
        if not self.path.is_file():
            raise InputError(f"file contexts {self.path} do not exist", "give the root that holds the policy with --root")
        option = selinux.selinux_opt()
        option.type, option.value = selinux.SELABEL_OPT_PATH, os.fspath(self.path)
        try:
            return selinux, selinux.selabel_open(selinux.SELABEL_CTX_FILE, option, 1)
        except OSError as error:
            hint = "rebuild them: semodule -B"
            raise InputError(f"file contexts {self.path} cannot be read: {error.strerror}", hint) from error

    def keep(self) -> None:
        """Store the lookups on disk for later commands."""
        self._known.keep()

    def context(self, path: str, tclass: str = "file") -> Optional[str]:
        """Return the whole context of a path, None if nothing matches or the match is <<none>>."""
        path = path[: -len(DELETED)] if path.endswith(DELETED) else path
        if not path.startswith("/") or "\0" in path or not path.isprintable():
            # a lone surrogate (a name that is not UTF-8) is not printable, and the binding raises TypeError for it;
            # patterns never contain line breaks and escapes
            return None
        mode = MODES.get(tclass, 0)
        question = f"{mode} {posixpath.normpath(path)}"
        if question not in self._known.answers:
            self._known.answers[question] = self._look_up(posixpath.normpath(path), mode)
        return self._known.answers[question]

    def _look_up(self, path: str, mode: int) -> Optional[str]:
        selinux, handle = self._selabel
        try:
            found = selinux.selabel_lookup_raw(handle, path, mode)
        except OSError:  # ENOENT for no match and for <<none>>
            return None
        return str(found[1]) if found and found[0] == 0 else None

    def lookup(self, path: str, tclass: str = "file") -> Optional[str]:
        """Return the type of a path of a class (file, dir, lnk_file, ...) by file_contexts, or None.

        Only absolute paths have a type; denials often carry only the last component.
        """
        context = self.context(path, tclass)
        return context.split(":")[2] if context and context.count(":") >= 2 else None

    @cached_property
    def specs(self) -> tuple[Spec, ...]:
        """Every line of the file, its .local and its .homedirs."""
        found: list[Spec] = []
        for suffix in ("", ".homedirs", ".local"):
            found.extend(_specs(Path(f"{self.path}{suffix}")))
        return tuple(found)

    @cached_property
    def by_type(self) -> dict[str, list[Spec]]:
        found: dict[str, list[Spec]] = {}
        for spec in self.specs:
            found.setdefault(spec.type, []).append(spec)
        return found

    def by_parent(self, directory: str) -> Sequence[Spec]:
        """Return the rules for entries with a literal name in a directory ("/var/lib/"), and for paths below them."""
        return self._by_parent.get(directory, ())

    @cached_property
    def _by_parent(self) -> dict[str, list[Spec]]:
        found: dict[str, list[Spec]] = {}
        for spec in self.specs:
            parts = spec.stem.split("/")
            for depth in range(1, len(parts)):
                if spec.type and parts[depth]:
                    found.setdefault("/".join(parts[:depth]) + "/", []).append(spec)
        return found

    def by_last(self, name: str) -> Sequence[Spec]:
        """Return the rules for one file with this literal name."""
        return self._by_last.get(name, ())

    @cached_property
    def _by_last(self) -> dict[str, list[Spec]]:
        found: dict[str, list[Spec]] = {}
        for spec in self.specs:
            if spec.type and not META.search(spec.pattern.replace(r"\.", "")):
                found.setdefault(spec.stem.rpartition("/")[2], []).append(spec)
        return found

    @cached_property
    def customizable(self) -> frozenset[str]:
        """Types that restorecon does not change (customizable_types(5)), so a file with one of them is not mislabelled."""
        path = self.path.parent.parent / "customizable_types"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        return frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def _specs(path: Path) -> Iterable[Spec]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        words = line.split()
        if len(words) < 2 or words[0].startswith("#"):
            continue
        context = words[-1]
        flag = words[1].lstrip("-") or "file" if len(words) > 2 else ""
        parts = context.split(":")
        yield Spec(words[0], flag, "" if context == NO_LABEL or len(parts) < 3 else parts[2])


class Ports:
    """Types of ports: the portcon statements of a policy. The linked policy includes ports added with semanage."""

    def __init__(self, ranges: tuple[PortRange, ...]) -> None:
        self.ranges = ranges

    @classmethod
    def from_policy(cls, policy_index: PolicyIndex) -> Ports:
        return cls(policy_index.ports)

    def range_of(self, protocol: str, port: int) -> Optional[PortRange]:
        """Return the range that the kernel uses: the first match in policy order (services.c, security_port_sid)."""
        for item in self.ranges:
            if item.protocol == protocol and item.low <= port <= item.high:
                return item
        return None

    def owner(self, protocol: str, port: int) -> Optional[str]:
        """Return the type of a port (8000/tcp: soundd_port_t), None if no range covers it (the kernel then uses port_t)."""
        found = self.range_of(protocol, port)
        return found.type if found else None

    def of_type(self, type_name: str) -> tuple[PortRange, ...]:
        return tuple(
            sorted((item for item in self.ranges if item.type == type_name), key=lambda item: (item.protocol, item.low))
        )


@dataclass(frozen=True)
class Reach:
    """Coverage of a type: numbers of file_contexts patterns and of whole trees among them, examples, ports, writers."""

    patterns: int
    trees: int
    examples: tuple[str, ...]
    ports: tuple[PortRange, ...]
    writers: tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """File contexts and ports of one root; ``missing`` is the reason why there are no file contexts."""

    policy_index: PolicyIndex
    ports: Ports
    files: Optional[FileContexts] = None
    missing: str = ""
    _reaches: dict[str, Reach] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def load(cls, settings: Settings, policy_index: PolicyIndex) -> Labels:
        """Load the labels of the root of the settings. If file contexts are missing, ``missing`` holds the reason."""
        name = selinux_type(settings.root)
        ports = Ports.from_policy(policy_index)
        try:
            path = settings.root / "etc/selinux" / name / "contexts/files/file_contexts"
            files = FileContexts.load(path, KnownContexts(path, index_store.place_for(settings.state)))
        except SepolicydError as error:
            return cls(policy_index, ports, missing=str(error))
        return cls(policy_index, ports, files)

    def lookup(self, path: str, tclass: str = "file") -> Optional[str]:
        return self.files.lookup(path, tclass) if self.files else None

    def keep(self) -> None:
        """Store the lookups of file_contexts on disk for later commands."""
        if self.files is not None:
            self.files.keep()

    def is_customizable(self, type_name: str) -> bool:
        return self.files is not None and type_name in self.files.customizable

    def reach(self, type_name: str) -> Reach:
        """Return the coverage of a type: its paths and ports, and the domains that may write it."""
        name = self.policy_index.resolve(type_name)
        if name not in self._reaches:
            self._reaches[name] = self._reach(name)
        return self._reaches[name]

    def _reach(self, name: str) -> Reach:
        specs = self.files.by_type.get(name, []) if self.files else []
        # first whole trees, then short patterns: the best examples of a wide coverage
        shown = sorted(specs, key=lambda spec: (not spec.tree, len(spec.stem), spec.pattern))
        examples = tuple(dict.fromkeys(spec.pattern for spec in shown))[:MAX_EXAMPLES]
        trees = sum(spec.tree for spec in specs)
        return Reach(len(specs), trees, examples, self.ports.of_type(name), tuple(sorted(self.writers(name))))

    def writers(self, type_name: str) -> frozenset[str]:
        """Return the confined domains that may change files of a type, counting both branches of conditional rules."""
        found: set[str] = set()
        for tclass in FILE_CLASSES:
            found.update(self.policy_index.holders_of_any(tclass, WRITE_PERMISSIONS, type_name))
        return frozenset(found)


def open_labels(settings: Settings, policy_index: PolicyIndex) -> Labels:
    """Return the labels of the root of the settings, as :meth:`Labels.load`."""
    return Labels.load(settings, policy_index)
