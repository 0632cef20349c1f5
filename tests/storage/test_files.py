"""Durable files, locks, and the files of the module store."""

from __future__ import annotations

import bz2
import fcntl
import os
from pathlib import Path

import pytest

from sepolicyd.errors import RefusedError, StateError, ToolError
from sepolicyd.storage.files import read_own, write_whole
from sepolicyd.storage.lock import exclusive, holder, shared
from sepolicyd.storage.store_files import StoreFiles


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "new/dir/file"
    write_whole(path, b"one")
    assert (path.read_bytes(), path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (b"one", 0o600, 0o700)
    (path.parent / ".file.new").write_bytes(b"left by a crash")
    (path.parent / ".file.new").chmod(0o666)
    write_whole(path, b"two", mode=0o644)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"two", 0o644)
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_link_in_the_temporary_file_s_place_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".file.new").symlink_to(victim)
    write_whole(tmp_path / "file", b"data")
    assert victim.read_bytes() == b"precious"
    assert (tmp_path / "file").read_bytes() == b"data"


def test_a_directory_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StateError, match="cannot be written"):
        write_whole(tmp_path / "file/below", b"data")


def test_only_a_regular_file_of_one_s_own_is_obeyed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    path.chmod(0o600)
    assert read_own(path) == "text"
    path.chmod(0o620)
    with pytest.raises(ValueError, match="only root"):
        read_own(path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ValueError, match="regular file"):
        read_own(tmp_path / "pipe")


def test_who_holds_a_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert holder(lock) is None
    with exclusive(lock, "somebody is at work"):
        assert f"(pid {os.getpid()})" in str(holder(lock))
        with pytest.raises(RefusedError, match="somebody is at work"), exclusive(lock, "somebody is at work", wait=0.1):
            pass
    assert holder(lock) is None
    with shared(lock):
        assert holder(lock) is not None
    with shared(tmp_path / "missing"):
        pass


@pytest.fixture
def store(tmp_path: Path) -> StoreFiles:
    module = tmp_path / "previous/modules/360/sepolicyd_lease_hub"
    module.mkdir(parents=True)
    (module / "cil").write_bytes(bz2.compress(b"(typepermissive hub_t)"))
    return StoreFiles(tmp_path)


def test_the_previous_store_is_put_back_once(store: StoreFiles) -> None:
    assert store.put_back_previous()
    assert not store.put_back_previous()
    assert store.priorities("sepolicyd_lease_") == {"sepolicyd_lease_hub": 360}
    assert list(store.module_texts("sepolicyd_lease_hub")) == ["(typepermissive hub_t)"]
    assert not store.dontaudit_off


def test_a_semodule_between_its_two_renames_is_not_disturbed(store: StoreFiles) -> None:
    """Both of the old copies renamed; one of them without libsemanage's lock."""
    with (store.directory / "semanage.trans.LOCK").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ToolError, match="another semodule is running"):
            store.put_back_previous()
    assert not store.active.exists()
    assert store.put_back_previous()


def test_a_module_at_two_priorities_counts_with_the_higher(store: StoreFiles) -> None:
    store.put_back_previous()
    other = store.modules / "400/sepolicyd_lease_hub"
    other.mkdir(parents=True)
    (other / "cil").write_text("(typepermissive proxy_t)")
    (store.modules / "disabled/sepolicyd_lease_x").mkdir(parents=True)
    assert store.priorities("sepolicyd_lease_") == {"sepolicyd_lease_hub": 400}
    assert len(list(store.module_texts("sepolicyd_lease_hub"))) == 2
