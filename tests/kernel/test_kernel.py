"""Reading and closing the kernel policy without tools, and selinuxfs replaced by a directory."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest

from sepolicyd.errors import ToolError
from sepolicyd.kernel import selinuxfs
from sepolicyd.kernel.policy_image import PolicyFormatError, parse_head, render_ebitmap, without_permissive
from sepolicyd.kernel.selinuxfs import STATUS, SelinuxFs


def policies() -> list[Path]:
    return sorted(Path("/etc/selinux").glob("*/policy/policy.[0-9]*"))


@pytest.fixture
def policy() -> bytes:
    if not policies():
        pytest.skip("no kernel policy on this machine")
    return policies()[-1].read_bytes()


@pytest.mark.toolchain
def test_the_reader_agrees_with_setools(policy: bytes) -> None:
    setools = pytest.importorskip("setools")
    head = parse_head(policy)
    loaded = setools.SELinuxPolicy(str(policies()[-1]))
    assert set(head.types) == {str(kind) for kind in loaded.types()}
    assert head.permissive == {str(kind) for kind in loaded.types() if kind.ispermissive}
    assert head.version == loaded.version


@pytest.mark.toolchain
def test_setools_reads_what_we_close_as_closed_and_otherwise_the_same(policy: bytes, tmp_path: Path) -> None:
    setools = pytest.importorskip("setools")
    head = parse_head(policy)
    chosen = sorted(head.types)[::700]
    start, end = head.span
    opened = policy[:start] + render_ebitmap({head.types[name] for name in chosen}) + policy[end:]
    assert parse_head(opened).permissive == set(chosen)
    closed = without_permissive(opened, [*chosen[1:], "no_such_type"])
    file = tmp_path / "policy.33"
    file.write_bytes(closed)
    seen = setools.SELinuxPolicy(str(file))
    assert {str(kind) for kind in seen.types() if kind.ispermissive} == {chosen[0]}
    assert seen.allow_count == setools.SELinuxPolicy(str(policies()[-1])).allow_count
    # closing all that was opened gives back the very bytes of the policy before
    assert without_permissive(opened, chosen) == without_permissive(policy, head.permissive) if head.permissive else policy
    assert without_permissive(policy, chosen) is policy


@pytest.mark.parametrize("cut", [0, 7, 20, 60, 4000])
def test_a_cut_policy_is_an_error_of_ours(policy: bytes, cut: int) -> None:
    with pytest.raises(PolicyFormatError):
        parse_head(policy[:cut])


def test_something_else_is_no_policy() -> None:
    with pytest.raises(PolicyFormatError):
        parse_head(b"\x7fELF" + bytes(400))


class FakeFs:
    """A directory in place of selinuxfs: what is written to `load` becomes the policy, as in the kernel."""

    def __init__(self, mount: Path, policy: bytes) -> None:
        self.mount = mount
        (mount / "enforce").write_bytes(b"1")
        (mount / "policy").write_bytes(policy)
        (mount / "load").write_bytes(b"")
        (mount / "status").write_bytes(STATUS.pack(1, 4, 1, 7, 0) + bytes(4076))


def test_selinuxfs_reads_and_closes(policy: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = parse_head(policy)
    name = sorted(head.types)[5]
    start, end = head.span
    FakeFs(tmp_path, policy[:start] + render_ebitmap({head.types[name]}) + policy[end:])
    kernel = SelinuxFs(tmp_path)
    assert (kernel.enabled(), kernel.enforcing(), kernel.loads()) == (True, True, 7)
    assert kernel.permissive_types() == {name}
    real = kernel._write

    def write(file: str, data: bytes) -> None:
        real(file, data)
        if file == "load":
            (tmp_path / "policy").write_bytes(data)
            (tmp_path / "status").write_bytes(STATUS.pack(1, 6, 1, 8, 0))

    monkeypatch.setattr(kernel, "_write", write)
    kernel.close_types((name,))
    assert kernel.permissive_types() == frozenset()
    monkeypatch.setattr(kernel, "_write", lambda file, data: None)  # a kernel that takes it and changes nothing
    (tmp_path / "policy").write_bytes(policy[:start] + render_ebitmap({head.types[name]}) + policy[end:])
    (tmp_path / "status").write_bytes(STATUS.pack(1, 8, 1, 9, 0))
    with pytest.raises(ToolError, match="still permissive in the kernel"):
        kernel.close_types((name,))


def test_what_another_hand_loads_while_the_store_is_at_work_is_closed_at_once(
    policy: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package's `semodule -B` in the middle of our end loads the store, in which our module still stands."""
    head = parse_head(policy)
    name = sorted(head.types)[5]
    start, end = head.span
    opened = policy[:start] + render_ebitmap({head.types[name]}) + policy[end:]
    FakeFs(tmp_path, policy)

    def load(_: SelinuxFs, file: str, data: bytes) -> None:
        assert file == "load"
        sequence, loads = struct.unpack_from("=4xI4xI", (tmp_path / "status").read_bytes())
        page = STATUS.pack(1, sequence + 2, 1, loads + 1, 0)
        for name, content in (("policy", data), ("status", page)):  # whole for who reads meanwhile, as from the kernel
            (tmp_path / "new").write_bytes(content)
            (tmp_path / "new").replace(tmp_path / name)

    monkeypatch.setattr(SelinuxFs, "_write", load)
    kernel = SelinuxFs(tmp_path)
    assert kernel.permissive_types() == frozenset()
    with kernel.keep_closed((name,)):
        time.sleep(0.7)
        load(kernel, "load", opened)
        began = time.monotonic()
        while kernel.permissive_types() and time.monotonic() < began + 10:
            time.sleep(0.05)
        assert time.monotonic() - began < 3
    load(kernel, "load", opened)
    assert kernel.permissive_types() == {name}


@pytest.mark.parametrize("filesystems", ["nodev\ttmpfs\nnodev\tselinuxfs\n", "nodev\ttmpfs\n"])
def test_an_unmounted_selinuxfs_is_no_disabled_selinux(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filesystems: str
) -> None:
    """`umount /sys/fs/selinux` in the middle of a lease must not make the one-shot believe that there is nothing to end."""
    (tmp_path / "filesystems").write_text(filesystems)
    mount = tmp_path / "mount"
    mount.write_text('#!/bin/sh\ntest "$1 $2 $3" = "-t selinuxfs selinuxfs" && touch "$4/enforce"\n')
    mount.chmod(0o755)
    monkeypatch.setattr(selinuxfs, "FILESYSTEMS", tmp_path / "filesystems")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("SEPOLICYD_PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "fs").mkdir()
    assert SelinuxFs(tmp_path / "fs").enabled() is ("selinuxfs" in filesystems)


@pytest.mark.parametrize(("text", "refused"), [("0 0", False), ("1 1", True), ("0 1", True), (None, False)])
def test_a_kernel_that_takes_no_policy_is_known(tmp_path: Path, text: str | None, refused: bool) -> None:
    if text is not None:
        (tmp_path / "booleans").mkdir()
        (tmp_path / "booleans/secure_mode_policyload").write_text(text)
    assert SelinuxFs(tmp_path).refuses_loads() is refused


def test_a_status_page_that_is_being_written_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "status").write_bytes(STATUS.pack(1, 5, 1, 7, 0))
    with pytest.raises(ToolError, match="changed on every read"):
        SelinuxFs(tmp_path).loads()
    with pytest.raises(ToolError, match="cannot be read"):
        SelinuxFs(tmp_path / "nothing").loads()
