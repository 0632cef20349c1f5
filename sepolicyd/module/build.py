"""Build a module package (.pp) from source with checkmodule and semodule_package, in a private directory."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import gettempdir, mkdtemp

from sepolicyd import process
from sepolicyd.errors import ToolError
from sepolicyd.kernel.xattr import LABEL
from sepolicyd.module.source import SourceText

BUILD_TIMEOUT_S = 120.0
PREFIX = "sepolicyd-"
LEFT = re.compile(r"sepolicyd-[a-z]+-([0-9]+)-[a-z0-9_]+\Z")  # purpose, process id, mkdtemp's suffix
LEFT_S = 3600.0
SELINUXFS = Path("/sys/fs/selinux")


@contextmanager
def workdir(purpose: str = "build") -> Iterator[Path]:
    """Provide a temporary private directory (0700), with a label that semodule can use on an enforcing machine.

    A root shell's semodule runs as semanage_t, which may map packages only if they are user_tmp_t, user_home_t or usr_t (not
    under /var/lib, /run or /etc, as seen on a real kernel), and may not write a copy of the store to any of these. With
    semanage_store_t it may do both, and setfiles, which it runs to check file contexts, may read the built policy (unlike with
    semanage_tmp_t). New files inherit the directory's type.
    """
    try:
        path = Path(mkdtemp(prefix=f"{PREFIX}{purpose}-{os.getpid()}-"))
    except OSError as error:
        raise ToolError(
            f"no private directory in {gettempdir()}: {error.strerror}", "free space there, or set TMPDIR"
        ) from error
    _sweep(Path(gettempdir()))
    if (SELINUXFS / "enforce").exists():
        with suppress(OSError):  # without file system labels, or in a policy without that type, it stays user_tmp_t
            os.setxattr(path, LABEL, b"system_u:object_r:semanage_store_t:s0\0")
    try:
        yield path
    finally:
        rmtree(path, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Remove directories of killed sepolicyd processes (copies of the store, 20 MB each) that are older than an hour."""
    for path in place.glob(f"{PREFIX}*"):
        match = LEFT.match(path.name)
        if match is None or Path(f"/proc/{match.group(1)}").exists():
            continue
        with suppress(OSError):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and time.time() - found.st_mtime > LEFT_S:
                rmtree(path, ignore_errors=True)


def argv_checkmodule(te: Path, mod: Path, *, mls: bool) -> list[str]:
    return ["checkmodule", *(["-M"] if mls else []), "-m", "-o", str(mod), str(te)]


def argv_package(mod: Path, pp: Path, fc: Path, *, with_fc: bool) -> list[str]:
    return ["semodule_package", "-o", str(pp), "-m", str(mod), *(["-f", str(fc)] if with_fc else [])]


def build(source: SourceText, directory: Path, *, mls: bool = True) -> Path:
    """Build the package of a module's source; ``directory`` gets NAME.te, NAME.fc, NAME.mod and NAME.pp.

    :raises ToolError: a compiler rejected the source (``command`` can be run by hand), or the disk is full
    """
    # checkmodule requires that the output file is named like the module (checkmodule.c)
    te, fc, mod, pp = (directory / f"{source.name}.{suffix}" for suffix in ("te", "fc", "mod", "pp"))
    try:
        te.write_text(source.te, encoding="utf-8")
        fc.write_text(source.fc, encoding="utf-8")
    except OSError as error:
        raise ToolError(f"{te} cannot be written: {error.strerror}", "free space there, or set TMPDIR") from error
    process.run(argv_checkmodule(te, mod, mls=mls), timeout=BUILD_TIMEOUT_S)
    process.run(argv_package(mod, pp, fc, with_fc=bool(source.fc)), timeout=BUILD_TIMEOUT_S)
    if not pp.is_file() or not pp.stat().st_size:
        raise ToolError(f"semodule_package did not write {pp}", "check for free disk space")
    return pp
