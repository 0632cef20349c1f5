"""Directories that can serve as a base policy, messages for others, and notes on customised ones."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from sepolicyd import process
from sepolicyd.module import base_module
from sepolicyd.module.store import Store, create_store
from sepolicyd.settings import HEADERS
from tests.policies import base
from tests.services.jupyterhub.machines import put

pytestmark = pytest.mark.toolchain
# of a kernel policy: magic, length of the name, "SE Linux", then the version (libsepol, policydb_read)
VERSION_AT = 16
DENY_TYPES = "(type customised_t)\n(roletype object_r customised_t)\n(typeattributeset domain customised_t)\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of this machine's policy, as an administrator's archive would hold it."""
    if base_module.headers_here(base.ROOT / HEADERS) is None:
        pytest.skip("needs the distribution's policy and its headers")
    create_store(tmp_path / "root", base.ROOT)
    return tmp_path / "root"


def reason(root: Path, tmp_path: Path) -> str:
    said = base.why_unusable(root, tmp_path / "scratch")
    assert "\n" not in said
    return said


def test_a_policy_with_headers_serves(root: Path, tmp_path: Path) -> None:
    before = Store(root).policy().read_bytes()
    assert reason(root, tmp_path) == ""
    assert Store(root).policy().read_bytes() == before


def test_a_directory_without_a_policy(tmp_path: Path) -> None:
    assert f"{tmp_path} is no policy root: there is no policy store in {tmp_path}" in reason(tmp_path, tmp_path)


def test_without_headers_the_package_is_named(root: Path, tmp_path: Path) -> None:
    (root / HEADERS).unlink()
    assert "selinux-policy-devel" in reason(root, tmp_path)


@pytest.mark.parametrize("version", [14, 99], ids=["older than any kernel", "newer than these libraries"])
def test_a_policy_of_another_compiler(root: Path, tmp_path: Path, version: int) -> None:
    policy = Store(root).policy()
    data = bytearray(policy.read_bytes())
    (now,) = struct.unpack_from("<I", data, VERSION_AT)
    assert 30 <= now <= 40
    struct.pack_into("<I", data, VERSION_AT, version)
    policy.write_bytes(data)
    assert "cannot be read by this machine's libraries" in reason(root, tmp_path)


def test_a_store_that_does_not_rebuild(root: Path, tmp_path: Path) -> None:
    broken = Store(root).active / "modules/400/broken"
    broken.mkdir(parents=True)
    (broken / "cil").write_text("(allow no_such_type_t self (process (fork)))\n", encoding="utf-8")
    (broken / "lang_ext").write_text("cil", encoding="utf-8")
    assert "does not rebuild with this machine's semodule" in reason(root, tmp_path)


def test_a_customised_store_serves_and_each_change_is_named(root: Path, tmp_path: Path) -> None:
    before = base.customisations(root)  # Debian's package itself disables modules
    store = Store(root)
    packages = [
        put(tmp_path, "customised.cil", DENY_TYPES),
        put(tmp_path, "permissive_customised_t.cil", "(typepermissive customised_t)\n"),
    ]
    store.install(packages, 400)
    named = next(item.name for item in store.modules() if not item.disabled and item.name in ("shutdown", "slocate", "uptime"))
    process.run(store.argv("-d", named))
    put(store.active, "booleans.local", "# This file is auto-generated\nuse_nfs_home_dirs=1\n")
    put(store.active, "ports.local", "# This file is auto-generated\n")
    put(store.active, "seusers.local", "alice:staff_u:s0\n")
    put(store.active, "disable_dontaudit")
    told = base.customisations(root)
    assert "local modules: customised" in told
    assert "permissive domains: customised_t" in told
    assert named in told
    assert not re.search(rf"\b{named}\b|customised_t|seusers", before)
    assert "booleans.local" in told
    assert "seusers.local" in told
    assert "ports.local" not in told
    assert "dontaudit rules are off" in told
    assert reason(root, tmp_path) == ""
