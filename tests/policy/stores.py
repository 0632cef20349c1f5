"""Link modules in a copy of the distribution's policy store, and return the path of the kernel policy."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.policy.toys import newest_policy


def link(root: Path, *packages: Path) -> Path:
    """Copy the store to ``root`` and link the .pp files there."""
    for name in ("var/lib/selinux/default", "etc/selinux/default"):
        shutil.copytree(f"/{name}", root / name)
    for name in ("config", "semanage.conf"):
        shutil.copy(f"/etc/selinux/{name}", root / "etc/selinux" / name)
    words = [word for path in packages for word in ("-i", str(path))]
    _run(["semodule", "-p", str(root), "-n", "-X", "360", *words], root)
    return newest_policy(root)


def package(folder: Path, name: str, text: str) -> Path:
    """Compile plain .te text to a .pp."""
    (folder / f"{name}.te").write_text(text)
    _run(["checkmodule", "-M", "-m", f"{name}.te", "-o", f"{name}.mod"], folder)
    _run(["semodule_package", "-o", f"{name}.pp", "-m", f"{name}.mod"], folder)
    return folder / f"{name}.pp"


def package_with_interfaces(folder: Path, name: str, text: str) -> Path:
    """Compile .te text that calls interfaces, by the headers' own Makefile."""
    (folder / f"{name}.te").write_text(text)
    (folder / f"{name}.fc").touch()
    (folder / f"{name}.if").write_text("## <summary>none</summary>\n")
    _run(["make", "-f", "/usr/share/selinux/devel/Makefile", f"{name}.pp"], folder)
    return folder / f"{name}.pp"


def _run(argv: list[str], cwd: Path) -> None:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
