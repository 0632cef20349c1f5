"""Labels of files that systemd opens or mounts for a unit are used only if systemd has access to the type."""

from __future__ import annotations

import pytest

from sepolicyd.access import Access
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rollout.setup.unit_outputs import MountPoint, OutputFile, UsedBySystemd, refused
from sepolicyd.services.discovery import Label
from sepolicyd.services.unit_file import Unit, parse
from sepolicyd.services.unit_labels import mount_points, unit_labels

pytestmark = pytest.mark.toolchain

LOG = "/var/log/jupyterhub.log"


@pytest.mark.parametrize("way", ["append", "file", "truncate"])
def test_the_hubs_log_may_be_opened_by_systemd(policy: PolicyIndex, way: str) -> None:
    used = UsedBySystemd(outputs=(OutputFile("StandardOutput", way, LOG),))
    assert refused([Label(LOG, "jupyterhub_log_t")], used, policy) == {}


def test_a_label_that_systemd_may_not_open_is_left_out_and_told(policy: PolicyIndex) -> None:
    closed = next(name for name in sorted(policy.types) if not _systemd_may(policy, name, "file", "append"))
    label = Label(LOG, closed)
    found = refused(
        [label, Label("/var/log/other.log", closed)],
        UsedBySystemd(outputs=(OutputFile("StandardError", "append", LOG),)),
        policy,
    )
    assert list(found) == [label]
    assert found[label].code == "I-output"
    assert closed in found[label].what
    assert "init_t" in found[label].hint


def _systemd_may(policy: PolicyIndex, name: str, tclass: str, permission: str) -> bool:
    return policy.allowed(Access.of("init_t", name, tclass, permission)).allowed


@pytest.mark.parametrize("setting", ["ReadOnlyPaths", "InaccessiblePaths", "BindPaths"])
def test_systemd_may_mount_over_the_hubs_secrets(policy: PolicyIndex, setting: str) -> None:
    labels = [
        Label("/etc/jupyterhub", "jupyterhub_etc_t", tree=True),
        Label("/etc/jupyterhub/keys", "jupyterhub_tls_t", tree=True),
    ]
    assert refused(labels, UsedBySystemd(mounts=(MountPoint(setting, "/etc/jupyterhub/keys/of-the-site"),)), policy) == {}


def test_a_label_that_systemd_may_not_mount_over_is_left_out_and_told(policy: PolicyIndex) -> None:
    closed = next(name for name in sorted(policy.types) if not _systemd_may(policy, name, "dir", "mounton"))
    outer, inner = Label("/srv/a", "jupyterhub_var_lib_t", tree=True), Label("/srv/a/keys", closed, tree=True)
    assert (
        refused(
            [outer, inner],
            UsedBySystemd(
                mounts=(
                    MountPoint("ReadWritePaths", "/srv/a"),
                    MountPoint("BindPaths", "/srv/b"),
                )
            ),
            policy,
        )
        == {}
    )
    found = refused([outer, inner], UsedBySystemd(mounts=(MountPoint("ReadOnlyPaths", "/srv/a/keys/x"),)), policy)
    assert list(found) == [inner]
    assert found[inner].code == "I-sandbox"
    assert "ReadOnlyPaths=/srv/a/keys/x" in found[inner].what
    assert f"allow init_t {closed}:dir mounton;" in found[inner].hint


def test_mount_points_are_read_as_systemd_reads_them() -> None:
    text = """[Service]
    ReadOnlyPaths=-/etc/a /etc/b/
    ReadOnlyPaths=+/etc/c
    BindPaths=/one:/two:norbind /three
    TemporaryFileSystem=/var:ro
    InaccessiblePaths=/home/%i
    """
    assert mount_points(Unit("a.service", values=parse([text]))) == [
        ("ReadOnlyPaths", "/etc/a"),
        ("ReadOnlyPaths", "/etc/b"),
        ("ReadOnlyPaths", "/etc/c"),
        ("TemporaryFileSystem", "/var"),
        ("BindPaths", "/two"),
        ("BindPaths", "/three"),
    ]


def test_directories_with_specifiers_are_known_to_systemd_alone() -> None:
    unit = Unit("a.service", values=parse(["[Service]\nRuntimeDirectory=plain with:link\nRuntimeDirectory=of-%i\n"]))
    assert [label.path for label in unit_labels(unit, "a")] == ["/run/plain", "/run/with"]
