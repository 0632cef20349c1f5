"""Cached indexes are used if intact and private, rejected otherwise, and never make a command fail."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sepolicyd.access import Access
from sepolicyd.policy import index_store, setools_adapter
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.index_store import HEADER, MAX_KEPT, IndexPlace, load, place_for
from sepolicyd.rollout import session
from sepolicyd.settings import Settings
from sepolicyd.storage.private import UntrustedError, private_directory
from tests.policy.toys import compile_cil, needs_secilc, types

pytestmark = [pytest.mark.toolchain, needs_secilc]

BODY = types("a_t", "b_t") + "(allow a_t b_t (file (read)))"
BODY += "(boolean on true)(booleanif on (true (allow a_t b_t (file (write)))))"
READ = Access("a_t", "b_t", "file", "read")
FOREIGN_UID = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return compile_cil(BODY, tmp_path / "policy")


@pytest.fixture
def place(tmp_path: Path) -> IndexPlace:
    return IndexPlace(tmp_path / "state/index", tmp_path)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The policies that setools has read."""
    found: list[Path] = []
    read = setools_adapter.read_policy

    def noted(content: bytes, path: Path) -> setools_adapter.RawPolicy:
        found.append(path)
        return read(content, path)

    monkeypatch.setattr(setools_adapter, "read_policy", noted)
    yield found


def kept(place: IndexPlace) -> Path:
    (found,) = place.directory.iterdir()
    return found


def is_whole(policy_index: PolicyIndex) -> bool:
    return policy_index.allowed(READ).allowed and len(policy_index.conditions) == 1


def test_the_second_time_setools_reads_nothing(policy: Path, place: IndexPlace, reads: list[Path]) -> None:
    first, second = load(policy, place), load(policy, place)
    assert (first.note, second.note, reads) == ("", "", [policy])
    assert is_whole(first.policy_index) and is_whole(second.policy_index)
    assert bytes(second.policy_index.tables.sections["names"]) == first.policy_index.tables.sections["names"]
    assert stat.S_IMODE(kept(place).stat().st_mode) == 0o600
    assert stat.S_IMODE(place.directory.stat().st_mode) == 0o700


def test_the_same_content_elsewhere_is_the_same_policy(
    policy: Path, place: IndexPlace, reads: list[Path], tmp_path: Path
) -> None:
    load(policy, place)
    copy = Path(shutil.copy(policy, tmp_path / "copy"))
    assert load(copy, place).policy_index.path == copy
    assert reads == [policy]


def test_another_content_is_another_policy(policy: Path, place: IndexPlace, reads: list[Path]) -> None:
    load(policy, place)
    compile_cil(BODY + "(allow a_t b_t (file (append)))", policy)
    assert load(policy, place).policy_index.allowed(Access("a_t", "b_t", "file", "append")).allowed
    assert len(reads) == 2


def test_another_version_of_the_code_or_of_setools(
    policy: Path, place: IndexPlace, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(policy, place)
    monkeypatch.setattr(index_store, "_code", lambda: b"another")
    assert not load(policy, place).note
    assert len(reads) == 2
    assert len(list(place.directory.iterdir())) == 2


def test_what_counts_as_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_store._code.cache_clear()
    before = index_store._code()
    index_store._code.cache_clear()
    monkeypatch.setattr(index_store, "_setools_version", lambda: [("policyrep.so", 1, 2)])
    assert index_store._code() != before
    index_store._code.cache_clear()
    monkeypatch.undo()
    assert index_store._code() == before
    assert all((Path(index_store.__file__).parent / name).is_file() for name in index_store.CODE)


def damage(data: bytes, how: str) -> bytes:
    middle = len(data) // 2
    return {
        "empty": b"",
        "cut in the header": data[: HEADER.size - 1],
        "cut": data[:middle],
        "longer": data + b"\0",
        "one bit": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "another magic": b"X" + data[1:],
        "another byte order": data[:8] + data[8:12][::-1] + data[12:],
        "another key": data[:20] + bytes(32) + data[52:],
        "a length beyond the end": data[:12] + struct.pack("=Q", 1 << 60) + data[20:],
        "zeros": bytes(len(data)),
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "empty", "cut in the header", "cut", "longer", "one bit", "another magic", "another byte order", "another key",
        "a length beyond the end", "zeros",
    ],
)  # fmt: skip
def test_damaged(policy: Path, place: IndexPlace, reads: list[Path], how: str) -> None:
    load(policy, place)
    path = kept(place)
    path.write_bytes(damage(path.read_bytes(), how))
    found = load(policy, place)
    assert str(path) in found.note and "is not used" in found.note
    assert is_whole(found.policy_index)
    assert load(policy, place).note == ""  # it was made again
    assert len(reads) == 2


def test_a_right_checksum_does_not_help_what_cannot_be_decoded(policy: Path, place: IndexPlace) -> None:
    load(policy, place)
    path = kept(place)
    key = HEADER.unpack_from(path.read_bytes())[3]
    path.write_bytes(index_store._file({"names": b"no json"}, key))
    found = load(policy, place)
    assert "is not used" in found.note
    assert is_whole(found.policy_index)


@needs_root
@pytest.mark.parametrize("what", ["file", "directory", "parent"])
def test_what_another_user_owns(policy: Path, place: IndexPlace, reads: list[Path], what: str) -> None:
    load(policy, place)
    path = {"file": kept(place), "directory": place.directory, "parent": place.directory.parent}[what]
    os.chown(path, FOREIGN_UID, FOREIGN_UID)
    found = load(policy, place)
    assert "is not used" in found.note
    assert is_whole(found.policy_index)
    assert len(reads) == 2


@pytest.mark.parametrize(("what", "mode"), [("file", 0o620), ("file", 0o602), ("directory", 0o770), ("parent", 0o777)])
def test_what_another_user_may_write(policy: Path, place: IndexPlace, reads: list[Path], what: str, mode: int) -> None:
    load(policy, place)
    path = {"file": kept(place), "directory": place.directory, "parent": place.directory.parent}[what]
    path.chmod(mode)
    assert "is not used" in load(policy, place).note
    assert len(reads) == 2


def test_a_parent_with_the_sticky_bit_is_like_tmp(policy: Path, place: IndexPlace) -> None:
    load(policy, place)
    place.directory.parent.chmod(0o1777)
    assert load(policy, place).note == ""


@pytest.mark.parametrize("target", ["elsewhere", "gone"])
def test_a_link_in_place_of_the_file(policy: Path, place: IndexPlace, tmp_path: Path, target: str) -> None:
    load(policy, place)
    path = kept(place)
    shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / target)
    assert "cannot be read" in load(policy, place).note
    assert not path.is_symlink()  # replaced


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_something_else_in_place_of_the_file(policy: Path, place: IndexPlace, kind: str) -> None:
    load(policy, place)
    path = kept(place)
    path.unlink()
    os.mkfifo(path, 0o600) if kind == "fifo" else path.mkdir()
    found = load(policy, place)
    assert "is not used" in found.note
    assert is_whole(found.policy_index)


@needs_root
def test_links_on_the_way_are_followed_before_they_are_checked(policy: Path, tmp_path: Path) -> None:
    """A link of another user's leads nowhere: what counts is where the directory really is, and who can change that."""
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(real)
    with private_directory(link) as fd:
        assert os.fstat(fd).st_ino == real.stat().st_ino
    os.chown(real, FOREIGN_UID, FOREIGN_UID)
    with pytest.raises(UntrustedError, match="belongs to another user"), private_directory(link):
        pass


def test_full_disk(policy: Path, place: IndexPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        patched.setattr(setools_adapter, "write_all", lambda fd, data: os.pwrite(fd, data, 0))
        found = load(policy, place)
    assert "No space left on device" in found.note
    assert is_whole(found.policy_index)
    assert list(place.directory.iterdir()) == []


def test_a_place_that_cannot_be_made(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = load(policy, IndexPlace(tmp_path / "file/index", tmp_path / "file"))
    assert "no policy index can be stored in" in found.note or "cannot be read" in found.note
    assert is_whole(found.policy_index)


@needs_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
@pytest.mark.parametrize("options", ["ro", "size=64k"])
def test_a_state_that_is_read_only_or_full(policy: Path, tmp_path: Path, options: str) -> None:
    """On real file systems, in a mount namespace of its own."""
    state = tmp_path / "state"
    state.mkdir()
    code = (
        "import sys; from pathlib import Path; from sepolicyd.policy.index_store import IndexPlace, load\n"
        "found = load(Path(sys.argv[1]), IndexPlace(Path(sys.argv[2]) / 'index', Path(sys.argv[2])))\n"
        "print(found.note); print(len(found.policy_index.types))"
    )
    fill = "head -c 1m /dev/zero > $1/fill 2>/dev/null; " if options != "ro" else ""
    script = f'mount -t tmpfs -o {options},mode=700 none "$1" || exit 77; {fill}"$3" -c "$4" "$2" "$1"'
    argv = ["unshare", "-m", "sh", "-c", script, "sh", str(state), str(policy), sys.executable, code]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode == 77 or done.stderr.startswith("unshare:"):  # in a chroot, for example
        pytest.skip("no mount namespace here")
    note, count = done.stdout.splitlines()
    assert ("Read-only" if options == "ro" else "No space left") in note
    assert count == "3"


def test_only_the_last_used_are_kept(policy: Path, place: IndexPlace) -> None:
    first = load(policy, place)
    oldest = kept(place)
    for number in range(MAX_KEPT + 2):
        load(compile_cil(BODY + f"(type t{number})", policy), place)
        os.utime(oldest, ns=(0, 0)) if oldest.exists() else None
    assert len(list(place.directory.iterdir())) == MAX_KEPT
    assert not oldest.exists()
    assert is_whole(first.policy_index)


def test_what_a_killed_process_left_is_removed(policy: Path, place: IndexPlace) -> None:
    place.directory.mkdir(parents=True, mode=0o700)
    pid = 4_194_305  # above the kernel's largest
    for name in (f".x.index.{pid}.new", f".x.index.{os.getpid()}.new"):
        (place.directory / name).write_text("half")
    load(policy, place)
    assert [path.name for path in place.directory.glob(".*")] == [f".x.index.{os.getpid()}.new"]


def test_roots_place_is_beside_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert place_for(tmp_path) == IndexPlace(tmp_path / "index", tmp_path)
    # a state that is not there is not made: its mode is the package's matter
    assert place_for(tmp_path / "nothing") == IndexPlace(tmp_path / "cache/sepolicyd/index", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert place_for(tmp_path) == IndexPlace(tmp_path / "cache/sepolicyd/index", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # must be ignored (XDG base directory specification)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place_for(tmp_path) == IndexPlace(tmp_path / ".cache/sepolicyd/index", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "nothing"))
    assert place_for(tmp_path) is None


@needs_root
def test_a_command_says_once_why_none_is_kept(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session._loaded.cache_clear()
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, FOREIGN_UID, FOREIGN_UID)
    for _ in range(3):
        policy_index, note = session.open_policy(Settings(state=state), policy)
        assert policy_index is not None and not note
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert f"{state} belongs to another user" in err
