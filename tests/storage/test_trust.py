"""Trust checks of paths: owners, modes, parents and links."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sepolicyd.errors import RefusedError
from sepolicyd.storage.trust import links_below, refuse_unsafe, weakness_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root whose parents do not count (/tmp is writable by everybody)."""
    (tmp_path / "opt/hub/bin").mkdir(parents=True)
    (tmp_path / "opt/hub/bin/hub").write_text("#!/bin/sh\n")
    (tmp_path / "opt/hub/bin/hub").chmod(0o755)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    return tmp_path


PROGRAM = Path("/opt/hub/bin/hub")


def _group(path: Path, mode: int) -> None:
    os.chown(path, 0, 100)
    path.chmod(mode)


def _link(root: Path, target: str, owner: int = 0) -> None:
    (root / "opt/hub").rename(root / "opt/other")
    (root / "opt/hub").symlink_to(target)
    os.chown(root / "opt/hub", owner, 0, follow_symlinks=False)


def _link_to_home(root: Path) -> None:
    (root / "home/ada").mkdir(parents=True)
    os.chown(root / "home/ada", NOBODY, NOBODY)
    (root / "opt/hub").rename(root / "home/ada/hub")
    (root / "opt/hub").symlink_to("/home/ada/hub")


UNSAFE: dict[str, tuple[Callable[[Path], object], str]] = {
    "file of another": (lambda root: os.chown(root / "opt/hub/bin/hub", NOBODY, 0), "opt/hub/bin/hub"),
    "file writable by all": (lambda root: (root / "opt/hub/bin/hub").chmod(0o757), "opt/hub/bin/hub"),
    "file writable by a group": (lambda root: _group(root / "opt/hub/bin/hub", 0o775), "opt/hub/bin/hub"),
    "directory of another": (lambda root: os.chown(root / "opt/hub/bin", NOBODY, 0), "opt/hub/bin"),
    "parent of another": (lambda root: os.chown(root / "opt", NOBODY, 0), "opt"),
    "parent writable by all": (lambda root: (root / "opt/hub").chmod(0o777), "opt/hub"),
    "parent writable by a group": (lambda root: _group(root / "opt", 0o775), "opt"),
    "link of another": (lambda root: _link(root, "/opt/other", owner=NOBODY), "opt/hub"),
    "link into a directory of another": (_link_to_home, "home/ada"),
    "relative link into /tmp": (lambda root: _link(root, "../tmp/hub"), "tmp/hub"),
    "loop of links": (lambda root: _link(root, "hub"), "opt/hub"),
}


def test_what_root_alone_can_write_is_trusted(root: Path) -> None:
    assert weakness_of(PROGRAM, root=root) is None


@pytest.mark.parametrize("how", UNSAFE)
def test_what_another_user_can_change_is_not(root: Path, how: str) -> None:
    change, where = UNSAFE[how]
    change(root)
    found = weakness_of(PROGRAM, root=root)
    assert found is not None
    assert found.path == root / where


@pytest.mark.parametrize("target", ["/opt/other", "other", "../opt/./other"])
def test_links_of_root_into_directories_of_root_are_trusted(root: Path, target: str) -> None:
    _link(root, target)
    assert weakness_of(PROGRAM, root=root) is None


def test_a_sticky_directory_protects_what_root_owns_and_not_what_is_missing(root: Path) -> None:
    (root / "tmp/mine").write_text("x")
    assert weakness_of(Path("/tmp/mine"), root=root) is None
    found = weakness_of(Path("/tmp/later"), root=root)
    assert found is not None
    assert "can create it" in found.reason
    assert weakness_of(Path("/tmp/later"), root=root, creates=True) is None


def test_a_missing_file_in_a_directory_of_root_is_trusted(root: Path) -> None:
    assert weakness_of(Path("/opt/hub/bin/later/still"), root=root) is None


def test_a_link_cannot_leave_the_root(root: Path) -> None:
    """An absolute link in another root is one of that root; the machine's own /etc does not answer for it."""
    (root / "etc").mkdir()
    os.chown(root / "etc", NOBODY, 0)
    (root / "opt/conf").symlink_to("/etc")
    (root / "opt/up").symlink_to("../../../../../etc")
    for name in ("conf", "up"):
        found = weakness_of(Path("/opt") / name / "x", root=root)
        assert found is not None
        assert found.path == root / "etc"


def test_the_state_directory(root: Path) -> None:
    os.chown(root / "opt/hub", NOBODY, 0)
    with pytest.raises(RefusedError, match="users other than root could change"):
        refuse_unsafe(root / "opt/hub/state")


def test_a_tree_of_root_with_its_own_links_may_be_relabelled(root: Path) -> None:
    tree = root / "opt/hub"
    (tree / "bin/python3").symlink_to("/usr/bin/python3")  # every virtual environment has this
    os.link(tree / "bin/hub", tree / "bin/again")
    assert list(links_below(tree)) == []


def test_a_hard_link_to_a_file_outside_is_not_relabelled(root: Path) -> None:
    secret = root / "shadow"
    secret.write_text("x")
    os.link(secret, root / "opt/hub/bin/innocent")
    (found,) = links_below(root / "opt/hub")
    assert found.path == root / "opt/hub/bin/innocent"
    assert "hard link" in found.reason


@pytest.mark.parametrize("how", ["directory of another", "directory writable by all", "link of another", "the tree itself"])
def test_a_symbolic_link_that_another_user_made_is_not_followed(root: Path, how: str) -> None:
    tree = root / "opt/hub"
    link = tree / "bin/data"
    if how == "the tree itself":
        tree.rename(root / "opt/other")
        tree.symlink_to("other")
        link = tree
    else:
        link.symlink_to("/etc")
    if how == "directory of another":
        os.chown(tree / "bin", NOBODY, 0)
    elif how == "directory writable by all":
        (tree / "bin").chmod(0o777)
    elif how == "link of another":
        os.chown(link, NOBODY, 0, follow_symlinks=False)
    assert [found.path for found in links_below(tree)] == [link]
