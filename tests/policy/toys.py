"""Compile small kernel policies from CIL or policy.conf text."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

STORE = Path("/var/lib/selinux/default")


def newest_policy(root: Path = Path("/"), kind: str = "default") -> Path:
    """The policy.N with the highest N below a root; policy.0 where there is none."""
    found = (path for path in (root / "etc/selinux" / kind / "policy").glob("policy.*") if path.suffix[1:].isdigit())
    return max(found, key=lambda path: int(path.suffix[1:]), default=root / "etc/selinux" / kind / "policy/policy.0")


DISTRIBUTION = newest_policy()
# other distributions' policies by hand: SEPOLICYD_TEST_POLICIES=FILE[:FILE]...
FURTHER_POLICIES = [Path(name) for name in os.environ.get("SEPOLICYD_TEST_POLICIES", "").split(":") if name]
DEVEL = Path("/usr/share/selinux/devel/include")

needs_distribution = pytest.mark.skipif(not DISTRIBUTION.exists(), reason="the distribution's policy is not installed")
# figures that were counted in Debian 12's policy hold for no other
_RELEASE = Path("/etc/os-release").read_text(encoding="utf-8") if Path("/etc/os-release").exists() else ""
needs_debian_12 = pytest.mark.skipif(
    not DISTRIBUTION.exists() or 'VERSION_ID="12"' not in _RELEASE, reason="the figures are of Debian 12's policy"
)
needs_secilc = pytest.mark.skipif(shutil.which("secilc") is None, reason="secilc is not installed")
needs_checkpolicy = pytest.mark.skipif(shutil.which("checkpolicy") is None, reason="checkpolicy is not installed")

HEAD = """
(handleunknown deny)
(policycap open_perms)
(class file (read write open getattr ioctl execute entrypoint append))
(class dir (search read write add_name))
(class process (fork transition dyntransition ptrace sigkill share execmem setexec))
(class capability (sys_admin dac_override))
(class security (load_policy setenforce))
(class tcp_socket (name_bind name_connect ioctl))
(classorder (file dir process capability security tcp_socket))
(sid kernel)
(sidorder (kernel))
(sidcontext kernel (u r kernel_t ((s0)(s0))))
(sensitivity s0)
(sensitivity s1)
(sensitivityorder (s0 s1))
(category c0) (category c1) (category c2) (category c3)
(categoryorder (c0 c1 c2 c3))
(sensitivitycategory s0 (range c0 c3))
(sensitivitycategory s1 (range c0 c3))
(user u) (user v)
(role r) (role q)
(role object_r)
(type kernel_t)
(userrole u r) (userrole u q) (userrole v r)
(userlevel u (s0)) (userrange u ((s0)(s1 (range c0 c3))))
(userlevel v (s0)) (userrange v ((s0)(s1 (range c0 c3))))
(roletype r kernel_t)
(allow kernel_t kernel_t (file (read)))
"""


def compile_cil(body: str, where: Path, *, mls: bool = True, version: int = 33) -> Path:
    """A policy of HEAD and ``body``."""
    where.parent.mkdir(parents=True, exist_ok=True)
    source = where.with_suffix(".cil")
    source.write_text(HEAD + body)
    argv = ["secilc", "-M", str(mls).lower(), "-c", str(version), "-N", "-o", str(where), "-f", "/dev/null", str(source)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return where


def types(*names: str, role: str = "r") -> str:
    """Declarations of types that the role may have."""
    return "".join(f"(type {name})(roletype {role} {name})\n" for name in names)
