"""An upgrade during a lease or trial: state of version 0.1.0, and timers that it armed."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from sepolicyd.access import Access
from sepolicyd.module.store import Store
from sepolicyd.rollout.apply import trial as trials
from sepolicyd.rollout.apply.journal import ApplyJournal
from sepolicyd.rollout.apply.versions import Versions
from sepolicyd.rollout.history import History, HistoryEvent
from sepolicyd.rollout.lease import exercises
from sepolicyd.rollout.lease.lease import Lease, LeasePhase, carried_lease
from sepolicyd.rollout.lease.lease_records import LeaseBook, LeaseEvent, unended
from sepolicyd.rollout.setup import base_dontaudit
from sepolicyd.rollout.setup import journal as setup_journal
from sepolicyd.settings import Settings
from sepolicyd.state.decisions import AnswerKind, DecisionStore
from sepolicyd.state.evidence_reader import read_evidence
from tests.paths import ROOT
from tests.rollout.lease.cuts.machine import CutMachine, can_trace
from tests.rollout.lease.test_cuts import bare

__all__ = ["bare"]

DATA = ROOT / "tests/data/upgrade/0.1.0.tar.gz"
AS_MODULE = "tests.rollout.lease.cuts.as_module"
READ = Access.of("svc_t", "svc_data_t", "file", "read")
real = pytest.mark.skipif(not can_trace(), reason="needs root, mount namespaces, gcc, semodule, and no SELinux of its own")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A directory with state/ and timers.json."""
    with tarfile.open(DATA) as archive:
        archive.extractall(tmp_path / "old")  # noqa: S202 a file of our own
    return tmp_path / "old"


@pytest.fixture
def settings(old: Path, tmp_path: Path) -> Settings:
    return Settings(state=old / "state", root=tmp_path / "root")


def timer(old: Path, name: str) -> list[str]:
    """The module and its arguments, as the timer's service would run them."""
    argv: list[str] = json.loads((old / "timers.json").read_text())[name]
    command = argv[argv.index("--") + 1 :]
    assert command[:3] == ["/usr/lib/sepolicyd/bin/python3", "-I", "-m"]
    return command[3:]


def test_leases_and_exercises_are_read(settings: Settings) -> None:
    book = LeaseBook(settings.rollout_dir)
    (lease,) = book.all()
    assert isinstance(lease, Lease)
    assert (lease.profile, lease.domains, lease.hidden, lease.phase) == ("hub", ("svc_t",), True, LeasePhase.OPEN)
    assert [LeaseEvent.of(entry) for entry in book.history()] == [LeaseEvent.PLANNED, LeaseEvent.OPENED, LeaseEvent.MARKED]
    assert [entry["id"] for entry in unended(book.history())] == [lease.id]
    assert book.verify() == []
    (mark,) = exercises.read(exercises.path(settings.state))
    assert (mark.name, mark.lease) == ("log in", lease.id)


def test_versions_history_journal_and_trial_are_read(settings: Settings) -> None:
    versions = Versions(settings.rollout_dir, "sepolicyd_svc")
    assert (versions.numbers(), versions.current()) == ([1, 2], 2)
    assert READ in {rule.access for rule in versions.load(2).rules}
    assert set(versions.packages(2)) == {"sepolicyd_svc"}
    history = History(settings.rollout_dir)
    assert [entry.what for entry in history.entries()] == [HistoryEvent.APPLY] * 2
    assert history.verify() == []
    assert ApplyJournal(settings.rollout_dir).open() == []
    waiting = trials.read_trial(settings)
    assert waiting is not None
    assert (waiting.module, waiting.version, waiting.return_to) == ("sepolicyd_svc", 2, 1)


def test_what_init_wrote_is_read(settings: Settings) -> None:
    journal = setup_journal.read(settings, "hub")
    assert journal is not None
    assert (journal.ports[0].number, journal.labels["/srv/hub"]) == (8000, "system_u:object_r:var_t:s0")
    assert base_dontaudit.read(settings, "hub").rules == {("svc_t", "svc_data_t", "file"): frozenset({"read"})}


def test_decisions_and_evidence_are_read(settings: Settings) -> None:
    store = DecisionStore(settings.decisions_db)
    try:
        assert sorted(made.answer for made in store.decided().values()) == [AnswerKind.ALLOW, AnswerKind.DENY]
    finally:
        store.close()
    snapshot = read_evidence(settings.evidence_db)
    assert (snapshot.present, snapshot.bad_rows) == (True, ())
    assert (snapshot.counts["matched"], len(snapshot.evidence)) == (122, 122)


@real
@pytest.mark.toolchain
@pytest.mark.parametrize("state", ["kept", "gone"])
def test_an_armed_timer_of_a_lease_ends_it(bare: CutMachine, old: Path, tmp_path: Path, state: str) -> None:
    machine = bare.copy(tmp_path / "machine")
    machine.open_lease(due=True, hidden=True)  # the module in the store and dontaudit off, as 0.1.0's semodule left them
    shutil.rmtree(machine.place / "state")
    shutil.copytree(old / "state", machine.place / "state")
    if state == "gone":
        shutil.rmtree(machine.place / "state/rollout")
    assert machine.kernel_open
    words = timer(old, "lease")
    lease = carried_lease(words[words.index("--undo") + 1])
    assert lease.id == "ab12cd34ef56"
    code, said = machine.run(AS_MODULE, *words)
    assert (code, machine.left()) == (0, []), said
    assert machine.book.verify() == []


@real
@pytest.mark.toolchain
def test_an_armed_timer_of_a_trial_returns_the_version_before(old: Path, settings: Settings, bare: CutMachine) -> None:
    root = settings.root
    shutil.copytree(bare.place / "root", root)
    store = Store(root)
    store.install([settings.rollout_dir / "versions/sepolicyd_svc/2/sepolicyd_svc.pp"], 360)
    two = store.policy().read_bytes()
    mounts = {
        root / "etc/selinux": "/etc/selinux",
        root / "var/lib/selinux": "/var/lib/selinux",
        settings.state: "/var/lib/sepolicyd",
    }
    setup = [
        "mkdir -p /var/lib/sepolicyd",
        *(f"mount --bind {shlex.quote(str(here))} {there}" for here, there in mounts.items()),
    ]
    command = shlex.join([sys.executable, "-m", *timer(old, "trial")])
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", " && ".join([*setup, f"exec {command}"])],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(ROOT)},
        cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert store.policy().read_bytes() != two
    assert trials.read_trial(settings) is None
    assert Versions(settings.rollout_dir, "sepolicyd_svc").current() == 1
    assert [entry.what for entry in History(settings.rollout_dir).entries()][-1] is HistoryEvent.RETURN
