"""File labels of a plan: conversion to file contexts, conflicts with other modules, reading and writing of labels."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Optional

from sepolicyd.errors import ToolError
from sepolicyd.kernel.xattr import LABEL, read_context
from sepolicyd.module.source import FileContext
from sepolicyd.problems import Problem, Severity
from sepolicyd.services.discovery import Label

# Types that the base policy gives to files without a policy of their own; any other type belongs to a service
_GENERIC = """
bin_t cert_t default_t etc_t etc_runtime_t lib_t root_t src_t unlabeled_t user_home_dir_t user_home_t usr_t var_lib_t
var_log_t var_run_t var_spool_t var_t file_t home_root_t admin_home_t user_runtime_root_t
"""
GENERIC = frozenset(_GENERIC.split())
SPECIAL = re.compile(r"([\\.^$?*+|()\[\]{}])")


def context_of(label: Label, subs: Mapping[str, str]) -> FileContext:
    """Return a label's line of .fc.

    :param subs: aliases of file_contexts.subs, which libselinux replaces in a path before it looks for a pattern
    """
    pattern = SPECIAL.sub(r"\\\1", substituted(label.path, subs))
    return FileContext(f"{pattern}(/.*)?", label.type) if label.tree else FileContext(pattern, label.type, "--")


def substituted(path: str, subs: Mapping[str, str]) -> str:
    """Return the path that libselinux looks up: the longest matching alias is replaced, once (label_file.c)."""
    for alias in sorted(subs, key=len, reverse=True):
        if path == alias or path.startswith(alias.rstrip("/") + "/"):
            return subs[alias].rstrip("/") + path[len(alias.rstrip("/")) :]
    return path


def read_subs(contexts: Path) -> dict[str, str]:
    """Read the aliases of file_contexts.subs_dist and .subs (selabel_file(5)); the administrator's take precedence.

    :param contexts: path of file_contexts
    """
    found: dict[str, str] = {}
    for suffix in (".subs_dist", ".subs"):
        try:
            text = contexts.with_name(contexts.name + suffix).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        words = (line.split("#")[0].split() for line in text.splitlines())
        found.update({pair[0]: pair[1] for pair in words if len(pair) == 2})
    return found


def owner_findings(labels: Iterable[Label], present: Callable[[str, str], Optional[str]], own: frozenset[str]) -> list[Problem]:
    """Return a problem for each path that already has a file context of another module.

    :param present: returns the type in file_contexts for a path and class ("file", "dir"), None for none
    """
    findings = []
    for label in labels:
        now = present(label.path, "dir" if label.tree else "file")
        if now and now not in GENERIC and now not in own:
            what = f"{label.path} has the type {now} of another module"
            hint = "remove that module or that file context, or move the file elsewhere"
            findings.append(Problem(Severity.STOP, "I-path", what, hint))
    return findings


def mount_findings(labels: Iterable[Label], mounts: Optional[str]) -> list[Problem]:
    """Return a problem for each path on a file system without labels.

    :param mounts: /proc/self/mounts, in which the kernel marks file systems with labels by ``seclabel``. Without it, or if the
        root has no ``seclabel`` (SELinux is off), nothing is reported.
    """
    table = _mounts(mounts or "")
    root = next((options for point, _, options in reversed(table) if point == "/"), ())
    if "seclabel" not in root:
        return []
    findings = []
    for label in labels:
        point, kind, options = _mount_of(label.path, table)
        fixed = next((option for option in options if option.startswith("context=")), "")
        if "seclabel" not in options or fixed:
            why = f"mounted with {fixed}" if fixed else f"a {kind} file system, which keeps no labels"
            what = f"{label.path} lies on {point}, {why}: it cannot become {label.type}"
            findings.append(Problem(Severity.STOP, "I-mount", what, "move it to a file system with labels (ext4, xfs, btrfs)"))
    return findings


def _mounts(text: str) -> list[tuple[str, str, Sequence[str]]]:
    found: list[tuple[str, str, Sequence[str]]] = []
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) >= 4:
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), fields[1])
            found.append((point, fields[2], fields[3].split(",")))
    return found


def _mount_of(path: str, table: Sequence[tuple[str, str, Sequence[str]]]) -> tuple[str, str, Sequence[str]]:
    """Return the longest mount point above a path; of several mounts on it, the last one counts."""
    best: tuple[str, str, Sequence[str]] = ("/", "", ())
    for point, kind, options in table:
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best[0]):
            best = (point, kind, options)
    return best


def label_of(context: FileContext) -> Label:
    """Return the label of a .fc line. The path to relabel is the literal part of the pattern before its first metacharacter."""
    if context.pattern.endswith("(/.*)?"):
        return Label(_plain(context.pattern[: -len("(/.*)?")]), context.type, tree=True)
    return Label(_plain(context.pattern), context.type, tree=context.kind == "-d")


def _plain(pattern: str) -> str:
    out = ""
    index = 0
    while index < len(pattern):
        char = pattern[index]
        if char == "\\" and index + 1 < len(pattern):
            out += pattern[index + 1]
            index += 2
            continue
        if char in ".^$?*+|()[]{}":
            return out.rpartition("/")[0] or "/"
        out += char
        index += 1
    return out


def read_contexts(root: Path, paths: Iterable[str]) -> dict[str, str]:
    """Return the context of each path and of everything below it, "" if unlabelled. Links are not followed."""
    places = (item for path in paths for item in _walk(root / path.lstrip("/")))
    return {"/" + place.relative_to(root).as_posix(): read_context(place) for place in places}


def write_contexts(root: Path, contexts: Mapping[str, str]) -> None:
    """Restore the recorded context of each path whose context has changed.

    :raises ToolError: an existing path cannot be labelled
    """
    for path, context in sorted(contexts.items()):
        place = root / path.lstrip("/")
        try:
            if read_context(place) == context:
                continue
            if context:
                os.setxattr(place, LABEL, context.encode() + b"\0", follow_symlinks=False)
            else:
                os.removexattr(place, LABEL, follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            what = f"{path} cannot be labelled {context or 'unlabelled'}: {error.strerror}"
            raise ToolError(what, f"run: chcon {context} {path}") from error


def can_label(root: Path) -> bool:
    """Tell whether security xattrs can be set below a root (which needs permission and a suitable file system)."""
    probe = root / ".sepolicyd-label"
    try:
        probe.touch()
        os.setxattr(probe, LABEL, b"system_u:object_r:default_t:s0\0")
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


def _walk(place: Path) -> Iterable[Path]:
    if not place.exists() and not place.is_symlink():
        return
    yield place
    if place.is_dir() and not place.is_symlink():
        for folder, names, files in os.walk(place):
            yield from (Path(folder) / name for name in (*names, *files))
