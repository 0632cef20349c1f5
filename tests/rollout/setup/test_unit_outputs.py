"""Labels of files that systemd opens for a unit are given where systemd may open them."""

from __future__ import annotations

import pytest

from sepolicyd.access import Access
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rollout.setup.unit_outputs import OutputFile, refused
from sepolicyd.services.discovery import Label
from sepolicyd.services.unit_file import Unit, parse
from sepolicyd.services.unit_labels import unit_labels

pytestmark = pytest.mark.toolchain

LOG = "/var/log/jupyterhub.log"


@pytest.mark.parametrize("way", ["append", "file", "truncate"])
def test_the_hubs_log_may_be_opened_by_systemd(policy: PolicyIndex, way: str) -> None:
    outputs = [OutputFile("StandardOutput", way, LOG)]
    assert refused([Label(LOG, "jupyterhub_log_t")], outputs, policy) == {}


def test_a_label_that_systemd_may_not_open_is_left_out_and_told(policy: PolicyIndex) -> None:
    closed = next(name for name in sorted(policy.types) if not _may_append(policy, name))
    label = Label(LOG, closed)
    found = refused([label, Label("/var/log/other.log", closed)], [OutputFile("StandardError", "append", LOG)], policy)
    assert list(found) == [label]
    assert found[label].code == "I-output"
    assert closed in found[label].what
    assert "init_t" in found[label].hint


def _may_append(policy: PolicyIndex, name: str) -> bool:
    return policy.allowed(Access.of("init_t", name, "file", "append")).allowed


def test_directories_with_specifiers_are_known_to_systemd_alone() -> None:
    unit = Unit("a.service", values=parse(["[Service]\nRuntimeDirectory=plain with:link\nRuntimeDirectory=of-%i\n"]))
    assert [label.path for label in unit_labels(unit, "a")] == ["/run/plain", "/run/with"]
