"""The archive of a base policy for the guest, and directories that are refused before a guest starts."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from sepolicyd.module import base_module
from sepolicyd.module.store import create_store
from sepolicyd.settings import HEADERS
from tests.policies import base
from tests.services.jupyterhub.machines import put
from tests.vm import base_policy
from tests.vm.errors import CannotRun
from tests.vm.image import BasePolicy, Image

pytestmark = pytest.mark.toolchain


def names(archive: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        return {member.name for member in tar.getmembers()}


def test_the_archive_holds_the_policy_and_no_other_file(tmp_path: Path) -> None:
    put(tmp_path, "/etc/selinux/config", "SELINUXTYPE=targeted\n")
    put(tmp_path, "/etc/shadow", "root:x\n")
    put(tmp_path, "/var/lib/selinux/targeted/active/policy.kern", "x")
    put(tmp_path, "/usr/share/selinux/devel/Makefile", "all:\n")
    first = base_policy.archive(tmp_path)
    assert {"etc/selinux/config", "var/lib/selinux/targeted/active/policy.kern", "usr/share/selinux/devel/Makefile"} <= names(
        first
    )
    assert "etc/shadow" not in names(first)
    (tmp_path / "etc/selinux/config").touch()
    assert base_policy.archive(tmp_path) == first


def test_another_byte_of_the_policy_is_another_saved_state(tmp_path: Path) -> None:
    image = Image(tmp_path, "full", BasePolicy("rawhide", "targeted", b"one"))
    other = Image(tmp_path, "full", BasePolicy("rawhide", "targeted", b"two"))
    assert len({image.name, other.name, Image(tmp_path, "full").name}) == 3
    assert image.disk == other.disk == tmp_path / "full.img"
    assert (image.kind, Image(tmp_path, "full").kind) == ("targeted", "default")


def test_a_directory_without_a_policy_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="there is no policy store") as refused:
        base_policy.load(tmp_path)
    assert refused.value.exit_code == 4


def test_a_usable_directory_is_loaded_under_its_name(tmp_path: Path) -> None:
    if base_module.headers_here(base.ROOT / HEADERS) is None:
        pytest.skip("needs the distribution's policy and its headers")
    store = create_store(tmp_path / "stream-9 (copy)", base.ROOT)
    found = base_policy.load(tmp_path / "stream-9 (copy)")
    assert found.label == "stream9copy"
    assert found.kind == store.kind
    assert f"var/lib/selinux/{store.kind}/active/policy.kern" in names(found.archive)
