"""The distribution's store: a copy links like the original; messages for a missing or foreign store."""

from __future__ import annotations

from pathlib import Path

import pytest

from sepolicyd.access import Access
from sepolicyd.errors import RefusedError, ToolError, ToolMissingError
from sepolicyd.module.build import build, workdir
from sepolicyd.module.listing import Installed, parse_modules
from sepolicyd.module.source import render_te
from sepolicyd.module.store import Store, create_store, policy_is_mls
from sepolicyd.policy.delta import difference
from tests.rollout.apply.world import make_store

pytestmark = pytest.mark.toolchain
HAS_POLICY = (Store().active / "modules").is_dir()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "root")


def package(directory: Path, name: str = "one", permission: str = "read") -> Path:
    return build(render_te(name, [Access.of("svc_t", "svc_data_t", "file", permission)]), directory)


@pytest.mark.skipif(not HAS_POLICY, reason="the distribution's policy is not installed")
def test_a_module_in_the_distributions_own_policy(tmp_path: Path) -> None:
    store = create_store(tmp_path / "root")
    original = store.policy().read_bytes()
    access = Access.of("sshd_t", "var_t", "file", "write")
    copy = store.copy(tmp_path / "copy")
    with workdir() as place:
        copy.install([build(render_te("one", [access]), place)], 360)
    delta = difference(store.policy(), copy.policy())
    assert delta.gained == {access}
    assert not any(delta.added.values())
    assert store.policy().read_bytes() == original
    assert Installed("one", 360) in copy.modules()
    assert len(copy.modules()) == len(store.modules()) + 1
    with pytest.raises(RefusedError, match="already contains a policy store"):
        create_store(tmp_path / "root")


def test_linking_in_a_copy_leaves_the_store_alone(store: Store, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    copy = store.copy(tmp_path / "copy")
    copy.install([package(tmp_path)], 360)
    assert copy.policy().read_bytes() != store.policy().read_bytes()
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == before


def test_installing_there_and_in_a_copy_makes_the_same_bytes(store: Store, tmp_path: Path) -> None:
    copy = store.copy(tmp_path / "copy")
    for one in (copy, store):
        one.install([package(tmp_path)], 360)
    assert copy.policy().read_bytes() == store.policy().read_bytes() == store.installed_policy().read_bytes()


def test_extracted_is_what_was_installed(store: Store, tmp_path: Path) -> None:
    made = package(tmp_path)
    store.install([made], 360)
    (tmp_path / "out").mkdir()
    assert store.extract("one", 360, tmp_path / "out").read_bytes() == made.read_bytes()
    with pytest.raises(ToolError):
        store.extract("two", 360, tmp_path / "out")


def test_one_transaction_installs_and_removes(store: Store, tmp_path: Path) -> None:
    store.install([package(tmp_path)], 360)
    store.install([package(tmp_path, "two")], 360, remove=["one"])
    assert [module.name for module in store.modules()] == ["base", "two"]


def test_a_failed_transaction_changes_nothing(store: Store, tmp_path: Path) -> None:
    before = store.policy().read_bytes()
    bad = build(render_te("bad", [Access.of("nosuch_t", "etc_t", "file", "read")]), tmp_path)
    with pytest.raises(ToolError, match="semodule failed"):
        store.install([package(tmp_path), bad], 360)
    assert store.policy().read_bytes() == before
    assert [module.name for module in store.modules()] == ["base"]


def test_dontaudit_off_stays_off_through_install_and_rebuild(store: Store, tmp_path: Path) -> None:
    import subprocess

    subprocess.run(["/usr/sbin/semodule", *store.argv("-D", "-B")[1:]], check=True, capture_output=True)
    assert store.dontaudit_off
    store.install([package(tmp_path)], 360)
    assert store.dontaudit_off
    store.rebuild()
    assert store.dontaudit_off


def test_no_policy_at_all(tmp_path: Path) -> None:
    with pytest.raises(ToolMissingError, match="there is no policy store"):
        Store(tmp_path).check()
    with pytest.raises(ToolMissingError) as caught:
        create_store(tmp_path / "new", tmp_path)
    assert "selinux-policy-default" in caught.value.hint


def test_a_full_disk_is_refused_before_anything_is_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))  # type: ignore[attr-defined]
    with pytest.raises(RefusedError, match="0 MiB free"):
        store.check()


def test_mls_is_told_by_the_header(store: Store, tmp_path: Path) -> None:
    assert policy_is_mls(store.policy())
    (tmp_path / "no").write_bytes(b"x" * 40)
    with pytest.raises(ToolError, match="is not a kernel policy"):
        policy_is_mls(tmp_path / "no")


def test_the_listing_of_modules() -> None:
    listing = "100 accountsd       pp         \n360 sepolicyd_x     cil disabled\n\nnonsense\n"
    assert parse_modules(listing) == (Installed("accountsd", 100), Installed("sepolicyd_x", 360, disabled=True))
