"""Labels of paths and ports, from libselinux with test files, and from the distribution with known figures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sepolicyd.errors import InputError, ToolMissingError
from sepolicyd.policy import index_store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.index_store import IndexPlace
from sepolicyd.policy.known_contexts import KnownContexts
from sepolicyd.policy.labels import FileContexts, Labels, Ports, Spec, open_labels
from sepolicyd.policy.model import PortRange
from sepolicyd.settings import Settings
from tests.policy.toys import compile_cil, needs_debian_12, needs_secilc, types

pytestmark = pytest.mark.toolchain

CONTEXTS = """# comment
/.*                     system_u:object_r:default_t:s0
/srv/hub(/.*)?          system_u:object_r:hub_t:s0
/srv/hub/secret    --   system_u:object_r:secret_t:s0
/srv/hub/socket    -s   system_u:object_r:hub_sock_t:s0
/srv/hub/proc(/.*)?     <<none>>
/opt/v1\\.2/bin(/.*)?   system_u:object_r:bin_t:s0
"""


@pytest.fixture
def contexts(tmp_path: Path) -> FileContexts:
    folder = tmp_path / "etc/selinux/mine/contexts/files"
    folder.mkdir(parents=True)
    path = folder / "file_contexts"
    path.write_text(CONTEXTS)
    Path(f"{path}.local").write_text("/srv/hub/mine(/.*)?   system_u:object_r:local_t:s0\n")
    Path(f"{path}.homedirs").write_text("/home/[^/]+/.*   user_u:object_r:user_home_t:s0\n")
    Path(f"{path}.subs_dist").write_text("/data /srv/hub\n")
    (folder.parent / "customizable_types").write_text("# kept by restorecon\npublic_t\n\nlocal_t\n")
    return FileContexts.load(path)


@pytest.mark.parametrize(
    ("path", "tclass", "wanted"),
    [
        ("/srv/hub/x", "file", "hub_t"),
        ("/srv/hub", "dir", "hub_t"),
        ("/srv/hub/secret", "file", "secret_t"),
        ("/srv/hub/secret", "dir", "hub_t"),
        ("/srv/hub/socket", "sock_file", "hub_sock_t"),
        ("/srv/hub/socket", "unix_stream_socket", "hub_sock_t"),
        ("/srv/hub/socket", "file", "hub_t"),
        ("/srv/hub/proc/1", "file", None),
        ("/srv/hub/mine/a", "file", "local_t"),
        ("/home/ada/a", "file", "user_home_t"),
        ("/data/secret", "file", "secret_t"),
        ("/srv//hub/../hub/secret", "file", "secret_t"),
        ("/srv/hub/secret (deleted)", "file", "secret_t"),
        ("/opt/v1.2/bin/x", "file", "bin_t"),
        ("/opt/v1x2/bin/x", "file", "default_t"),
        ("secret", "file", None),
        ("", "file", None),
        ("/srv/hub/a\udcff", "file", None),
        ("/srv/hub/a\0b", "file", None),
        ("/srv/hub/a\x1b[2J", "file", None),
    ],
)
def test_lookup(contexts: FileContexts, path: str, tclass: str, wanted: str | None) -> None:
    assert contexts.lookup(path, tclass) == wanted


def test_known_answers_need_no_libselinux_and_no_longer_than_the_files_stay(
    contexts: FileContexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = IndexPlace(tmp_path / "state/index", tmp_path)
    asked = [("/srv/hub/x", "file"), ("/srv/hub/proc/1", "file"), ("/srv/hub/secret", "dir"), ("/data/secret", "file")]
    first = FileContexts.load(contexts.path, KnownContexts(contexts.path, place))
    expected = [first.lookup(*one) for one in asked]
    first.keep()
    second = FileContexts.load(contexts.path, KnownContexts(contexts.path, place))
    with monkeypatch.context() as patched:
        patched.setattr(FileContexts, "_look_up", lambda *_: pytest.fail("libselinux was asked again"))
        assert [second.lookup(*one) for one in asked] == expected
    assert second.lookup("/srv/hub/mine/a") == "local_t"  # a new question goes to libselinux
    Path(f"{contexts.path}.local").write_text("/srv/hub/x   system_u:object_r:other_t:s0\n")
    third = FileContexts.load(contexts.path, KnownContexts(contexts.path, place))
    assert third.lookup("/srv/hub/x") == "other_t"


@pytest.mark.parametrize("content", [b"", b"[]", b"{ broken", b'{"0 /srv/hub/x": 7}'])
def test_kept_answers_that_are_damaged(contexts: FileContexts, tmp_path: Path, content: bytes) -> None:
    place = IndexPlace(tmp_path / "state/index", tmp_path)
    known = KnownContexts(contexts.path, place)
    index_store.write_sections(place, known._key, ".labels", {"contexts": content})
    again = FileContexts.load(contexts.path, KnownContexts(contexts.path, place))
    assert again.lookup("/srv/hub/secret") == "secret_t"
    (kept,) = place.directory.iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert KnownContexts(contexts.path, place).answers == {}


def test_specs_and_customizable_types(contexts: FileContexts) -> None:
    assert contexts.customizable == {"public_t", "local_t"}
    assert {spec.type for spec in contexts.specs} == {
        "default_t", "hub_t", "secret_t", "hub_sock_t", "bin_t", "local_t", "user_home_t", "",
    }  # fmt: skip
    (spec,) = contexts.by_type["bin_t"]
    assert (spec.stem, spec.tree, spec.flag) == ("/opt/v1.2/bin", True, "")
    (secret,) = contexts.by_type["secret_t"]
    assert secret == Spec("/srv/hub/secret", "file", "secret_t")
    assert not secret.tree


def test_no_file_contexts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not exist"):
        FileContexts.load(tmp_path / "file_contexts")


def test_broken_file_contexts(tmp_path: Path) -> None:
    path = tmp_path / "file_contexts"
    path.write_text("/srv/(  system_u:object_r:hub_t:s0\n")
    try:
        assert FileContexts.load(path).lookup("/srv/x") is None
    except InputError as error:
        assert "cannot be read" in error.what


def test_no_binding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "selinux", None)
    with pytest.raises(ToolMissingError) as caught:
        FileContexts.load(tmp_path / "file_contexts")
    assert "python3-libselinux" in caught.value.hint


@needs_secilc
def test_ports_the_first_range_wins(tmp_path: Path) -> None:
    body = types("web_t", "low_t") + "(portcon tcp (1 1023) (u r low_t ((s0)(s0))))(portcon tcp 80 (u r web_t ((s0)(s0))))"
    ports = Ports.from_policy(PolicyIndex.load(compile_cil(body, tmp_path / "policy")))
    assert [ports.owner("tcp", port) for port in (80, 81, 1023, 1024)] == ["web_t", "low_t", "low_t", None]
    assert ports.owner("udp", 80) is None
    assert ports.of_type("low_t") == (PortRange("tcp", 1, 1023, "low_t"),)


@needs_secilc
def test_a_root_without_file_contexts_gives_a_reason(tmp_path: Path) -> None:
    policy_index = PolicyIndex.load(compile_cil(types("hub_t"), tmp_path / "policy"))
    labels = open_labels(Settings(root=tmp_path), policy_index)
    assert "do not exist" in labels.missing
    assert labels.lookup("/srv/hub") is None
    assert labels.reach("hub_t").patterns == 0


@needs_debian_12
def test_the_distributions_labels_and_ports(distribution: PolicyIndex) -> None:
    labels = Labels.load(Settings(), distribution)
    assert not labels.missing
    paths = {
        "/opt/jupyterhub/bin/jupyterhub": "bin_t",
        "/etc/jupyterhub/jupyterhub_cookie_secret": "etc_t",
        "/srv/jupyterhub/jupyterhub.sqlite": "var_t",
        "/var/lib/jupyterhub/x": "var_lib_t",
        "/usr/local/bin/configurable-http-proxy": "bin_t",
        "/var/log/jupyterhub.log": "var_log_t",
        "/run/jupyter-ada": None,
    }
    assert {path: labels.lookup(path) for path in paths} == paths
    ports = {8000: "soundd_port_t", 8081: "transproxy_port_t", 8001: "unreserved_port_t", 443: "http_port_t"}
    assert {port: labels.ports.owner("tcp", port) for port in ports} == ports


@needs_debian_12
@pytest.mark.parametrize(
    ("type_name", "patterns"),
    [
        ("bin_t", 270),
        ("lib_t", 32),
        ("httpd_sys_content_t", 21),
        ("var_log_t", 16),
        ("usr_t", 11),
        ("etc_t", 11),
        ("var_run_t", 6),
        ("var_t", 4),
        ("var_lib_t", 2),
    ],
)
def test_reach(distribution: PolicyIndex, type_name: str, patterns: int) -> None:
    """Figures counted independently in Debian 12's file_contexts."""
    reach = Labels.load(Settings(), distribution).reach(type_name)
    assert reach.patterns == patterns
    assert reach.examples
    assert "sshd_t" not in reach.writers or type_name.startswith("var_")
