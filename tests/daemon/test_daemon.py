"""The daemon as a process: notifications to systemd, termination, unreadable logs and unwritable databases."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sepolicyd import profiles
from sepolicyd.audit.follow.follower import Doorbell, Follower
from sepolicyd.daemon import service
from sepolicyd.errors import InputError
from sepolicyd.rules.attribution.matcher import Matcher
from sepolicyd.settings import Settings
from sepolicyd.state.evidence_reader import read_evidence
from sepolicyd.state.evidence_store import EvidenceStore
from tests.audit.follow.writer import Writer, event
from tests.daemon.running import Running, denials_in, notify_socket
from tests.paths import ROOT


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    return tmp_path / "log" / "audit.log"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def events(*serials: int) -> bytes:
    return b"".join(b"".join(event(serial)) for serial in serials)


def once(log: Path, state: Path, *more: str, user: str = "") -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "sepolicyd", "run", "--once", "--log", str(log), "--state", str(state), *more]
    if user:
        words = ["setpriv", f"--reuid={user}", "--clear-groups", *words]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)


def sentences(stderr: str) -> list[str]:
    """What is said to a person, without the daemon's own log lines."""
    return [line for line in stderr.splitlines() if not line.startswith("{")]


def test_it_tells_systemd_when_it_is_ready_that_it_lives_and_when_it_stops(log: Path, state: Path, tmp_path: Path) -> None:
    log.write_bytes(events(1))
    with closing(notify_socket(tmp_path / "notify")) as listener:
        running = Running(log, state, env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"})
        assert listener.recv(1000) == b"READY=1"
        heard = [listener.recv(1000) for _ in range(4)]
        assert all(line.startswith(b"WATCHDOG=1\nSTATUS=") for line in heard)
        start = time.monotonic()
        for _ in range(5):
            listener.recv(1000)
        assert time.monotonic() - start < 5 * 0.2 + 1.0
        assert running.stop() == 0
        rest = b""
        while b"STOPPING=1" not in rest:
            rest = listener.recv(1000)


def test_an_abstract_socket_is_one_too(log: Path, state: Path) -> None:
    log.write_bytes(events(1))
    name = f"sepolicyd-test-{os.getpid()}"
    with closing(notify_socket(Path("\0" + name))) as listener:
        running = Running(log, state, env={"NOTIFY_SOCKET": "@" + name})
        assert listener.recv(1000) == b"READY=1"
        running.stop()


def test_what_is_appended_is_seen_and_a_clean_stop_keeps_it(log: Path, state: Path) -> None:
    with closing(Writer(log)) as writer:
        writer.write(events(1, 2))
        running = Running(log, state)
        running.until(lambda got: denials_in(got) == 2)
        running.process.send_signal(signal.SIGHUP)
        writer.write(events(3))
        got = running.until(lambda got: denials_in(got) == 3)
        assert set(got.by_role) == {(access, "hub") for access in got.evidence} or len(got.evidence) == 1
        assert running.stop() == 0
        lines = [json.loads(line) for line in running.talk.read_text().splitlines()]
        assert [line["event"] for line in lines if line["event"] in ("following", "caught up", "stopped")] == [
            "following",
            "caught up",
            "stopped",
        ]
        writer.write(events(4))
        assert once(log, state).returncode == 0
        assert denials_in(read_evidence(running.database)) == 4
        assert once(log, state).returncode == 0
        assert denials_in(read_evidence(running.database)) == 4


def test_an_access_without_system_call_records_is_seen_at_once(log: Path, state: Path) -> None:
    with closing(Writer(log)) as writer:
        writer.write(event(1, records=1)[0])
        running = Running(log, state)
        running.until(lambda got: denials_in(got) == 1)
        start = time.monotonic()
        writer.write(event(2, records=1)[0])
        running.until(lambda got: denials_in(got) == 2)
        assert time.monotonic() - start < 2.0
        running.stop()


def test_a_second_daemon_on_the_same_evidence_is_refused(log: Path, state: Path) -> None:
    log.write_bytes(events(1))
    running = Running(log, state)
    running.until(lambda got: denials_in(got) == 1)
    second = once(log, state)
    assert second.returncode == 1
    assert "another `sepolicyd run` already writes" in sentences(second.stderr)[0]
    assert running.stop() == 0
    assert once(log, state).returncode == 0


def test_a_log_that_is_missing_is_waited_for(log: Path, state: Path) -> None:
    running = Running(log, state)
    running.ready()
    assert "the log does not exist yet" in running.talk.read_text()
    log.write_bytes(events(1))
    running.until(lambda got: denials_in(got) == 1)
    assert running.stop() == 0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda log: None, "does not exist"),
        (lambda log: log.mkdir(), "it is not a regular file"),
    ],
    ids=["missing", "directory"],
)
def test_a_log_that_cannot_be_followed_is_one_sentence(log: Path, state: Path, make: object, said: str) -> None:
    make(log)  # type: ignore[operator]
    done = once(log, state)
    assert done.returncode == 2
    assert said in sentences(done.stderr)[0]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_empty_and_binary_logs_are_no_failure(log: Path, state: Path) -> None:
    log.write_bytes(b"")
    assert once(log, state).returncode == 0
    log.write_bytes(b"\x1f\x8b" + os.urandom(300_000) + b"\n\x1f\x8b\n" + events(1))
    done = once(log, state)
    assert done.returncode == 0
    log.write_bytes(bytes(range(256)) * 4000 + b"\n" + events(2))
    done = once(log, state)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert read_evidence(state / "evidence" / "evidence.db").counts["matched"] >= 1


def test_since_limits_the_first_start_only(log: Path, state: Path) -> None:
    log.write_bytes(events(1, 2, 500, 501))
    assert once(log, state, "--since", str(1795373145 + 5)).returncode == 0
    database = state / "evidence" / "evidence.db"
    assert denials_in(read_evidence(database)) == 2
    with log.open("ab") as file:
        file.write(events(502))
    done = once(log, state, "--since", "99999999999")
    assert "--since is ignored" in done.stderr
    assert denials_in(read_evidence(database)) == 3


# a user that is not root


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that other users may enter: pytest closes its own to them whenever another session begins."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root, who becomes another user")
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        (Path(directory) / "log").mkdir(mode=0o755)
        yield Path(directory)


NOBODY = "65534"


def test_it_needs_no_root_and_root_reads_without_a_trace(shared: Path) -> None:
    log, state = shared / "log" / "audit.log", shared / "state"
    log.write_bytes(events(1))
    (state / "evidence").mkdir(parents=True)
    os.chown(state / "evidence", int(NOBODY), int(NOBODY))
    assert once(log, state, user=NOBODY).returncode == 0
    before = sorted(path.name for path in (state / "evidence").iterdir())
    assert denials_in(read_evidence(state / "evidence" / "evidence.db")) == 1
    assert sorted(path.name for path in (state / "evidence").iterdir()) == before
    assert {path.stat().st_uid for path in (state / "evidence").iterdir()} == {int(NOBODY)}
    with log.open("ab") as file:
        file.write(events(2))
    assert once(log, state, user=NOBODY).returncode == 0
    assert denials_in(read_evidence(state / "evidence" / "evidence.db")) == 2


def _as_user(user: str, act: Callable[[], None]) -> None:
    os.seteuid(int(user))
    try:
        act()
    finally:
        os.seteuid(0)


def test_an_unreadable_log_is_one_sentence(shared: Path) -> None:
    log, state = shared / "log" / "audit.log", shared / "state"
    log.write_bytes(events(1))
    log.chmod(0o600)
    (state / "evidence").mkdir(parents=True)
    os.chown(state / "evidence", int(NOBODY), int(NOBODY))
    done = once(log, state, user=NOBODY)
    assert done.returncode == 2
    assert str(log) in done.stderr
    assert "not readable" in done.stderr or "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(InputError, match="cannot be read: Permission denied") as caught:
        _as_user(NOBODY, Follower(log).check)
    assert "log_group" in caught.value.hint


def test_an_unwritable_state_directory_is_one_sentence(shared: Path) -> None:
    log, state = shared / "log" / "audit.log", shared / "state"
    log.write_bytes(events(1))
    state.mkdir()
    done = once(log, state, user=NOBODY)
    assert done.returncode == 3
    assert "cannot be opened for writing: Permission denied" in sentences(done.stderr)[0]
    assert "Traceback" not in done.stderr


# a full disk, a lock


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "sepolicyd-test", str(directory)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(log: Path, small: Path) -> None:
    log.write_bytes(events(1))
    state = small / "state"
    assert once(log, state).returncode == 0
    filler = small / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    filler_size = filler.stat().st_size
    assert filler_size > 100_000
    with log.open("ab") as file:
        file.write(b"".join(b"".join(event(serial)).replace(b"etc_t", b"x%d_t" % serial) for serial in range(2, 60)))
    done = once(log, state)
    assert done.returncode == 3
    assert "full" in sentences(done.stderr)[0]
    assert "free space on the file system" in sentences(done.stderr)[1]
    assert "Traceback" not in done.stderr
    database = state / "evidence" / "evidence.db"
    assert denials_in(read_evidence(database)) == 1
    filler.unlink()
    assert once(log, state).returncode == 0
    assert denials_in(read_evidence(database)) == 59
    assert len(read_evidence(database).evidence) == 59


def test_a_running_daemon_waits_for_a_locked_database(log: Path, state: Path) -> None:
    with closing(Writer(log)) as writer:
        writer.write(events(1))
        running = Running(log, state)
        running.until(lambda got: denials_in(got) == 1)
        with closing(sqlite3.connect(running.database, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            writer.write(events(2))
            end = time.monotonic() + 20
            while b"trying again" not in running.talk.read_bytes() and time.monotonic() < end:
                time.sleep(0.05)
            assert b"database is locked" in running.talk.read_bytes()
            other.execute("ROLLBACK")
        writer.write(events(3))
        running.until(lambda got: denials_in(got) == 3)
        assert running.stop() == 0


def test_memory_stays_small_on_a_long_log(log: Path, state: Path) -> None:
    with log.open("wb") as file:
        for start in range(0, 60_000, 1000):
            file.write(events(*range(start, start + 1000)))
    running = Running(log, state)
    running.until(lambda got: denials_in(got) == 60_000)
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 80 * 1024
    assert running.stop() == 0


def test_a_bell_that_never_rings_is_made_up_for_by_looking(log: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """inotify drops events when its queue is full, and says nothing on network file systems."""

    class Dumb(Doorbell):
        def __init__(self, directory: Path) -> None:
            super().__init__(directory / "no such directory")

    monkeypatch.setattr(service, "Doorbell", Dumb)
    log.write_bytes(events(1))
    store = EvidenceStore(state / "evidence" / "evidence.db", "jupyterhub")
    profile = profiles.load("jupyterhub", (ROOT / "policies",))
    loop = service.Daemon(Settings(state=state, log=log), store, Matcher(profile))
    loop.start(once=False)
    try:
        for serials in ((), (2,), (3, 4)):
            with log.open("ab") as file:
                file.write(events(*serials))
            expected = store.counts.get("matched", 0) + (len(serials) or 1)
            for _ in range(4):
                loop.turn()
            assert store.counts["matched"] == expected
    finally:
        loop.close()
        store.close()
