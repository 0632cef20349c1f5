"""The matcher's process table survives a restart: attribution by ancestry gives the same result."""

from __future__ import annotations

from pathlib import Path

from sepolicyd import profiles
from sepolicyd.audit.model import AvcDecision, Context, Denial, EventId, Kind
from sepolicyd.rules.attribution.matcher import Matcher
from sepolicyd.state.evidence_store import Batch, EvidenceStore
from tests.test_layers import PACKAGE

PROFILE = profiles.load("jupyterhub", (PACKAGE.parent / "policies",))


def denial(serial: int, source: str, pid: int, ppid: int, comm: str) -> Denial:
    return Denial(
        EventId("", f"1795373145.{serial:03d}", serial),
        Kind.AVC,
        AvcDecision.DENIED,
        Context("system_u", "system_r", source),
        Context("system_u", "object_r", "etc_t"),
        "file",
        ("read",),
        pid=pid,
        ppid=ppid,
        comm=comm,
    )


def test_a_child_of_a_known_process_is_the_services_after_a_restart_too(tmp_path: Path) -> None:
    parent, child = denial(1, "jupyterhub_t", 700, 1, "jupyterhub"), denial(2, "sshd_t", 701, 700, "ssh")
    before, stranger = Matcher(PROFILE), Matcher(PROFILE)
    assert before.match(parent) is not None
    store = EvidenceStore(tmp_path / "evidence.db", "jupyterhub")
    store.save(Batch(), {"offset": 1}, before.memory())
    store.close()
    again = EvidenceStore(tmp_path / "evidence.db", "jupyterhub")
    after = Matcher(PROFILE)
    after.recall(again.memory or [])
    again.close()
    assert before.match(child) == after.match(child) is not None
    assert stranger.match(child) is None
