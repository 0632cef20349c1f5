"""The daemon's database: atomic saves, checks of the reader, and state after failures."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sepolicyd.access import Access
from sepolicyd.audit.model import LogEventKind, Unparsed, UnparsedReason
from sepolicyd.errors import StateError, UsageError
from sepolicyd.rollout.learning.coverage import assign_exercises
from sepolicyd.rollout.lease.exercises import ExerciseMark
from sepolicyd.rules.evidence import Evidence
from sepolicyd.state import evidence_codec, evidence_reader, evidence_store
from sepolicyd.state.evidence_reader import LogEvent, read_evidence
from sepolicyd.state.evidence_store import Batch, EvidenceStore
from tests.paths import ROOT

READ = Access("jupyterhub_t", "etc_t", "file", "read")
OPEN = Access("jupyterhub_t", "etc_t", "file", "open")


def seen(at: float, **more: object) -> Evidence:
    return Evidence(count=1, first=at, last=at, times=((int(at), 1),), **more)  # type: ignore[arg-type]


def batch(access: Access = READ, role: str = "hub", at: float = 100.0, **more: object) -> Batch:
    made = Batch()
    made.add(access, role, seen(at, **more))
    made.counts["lines"] += 1
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evidence" / "evidence.db"


@pytest.fixture
def store(path: Path) -> Iterator[EvidenceStore]:
    made = EvidenceStore(path, "jupyterhub")
    yield made
    made.close()


def test_no_database_is_an_empty_snapshot(path: Path) -> None:
    assert not read_evidence(path).present
    assert read_evidence(path).evidence == {}


def test_what_is_saved_is_what_a_reader_gets(store: EvidenceStore, path: Path) -> None:
    first = batch(paths=("/etc/a",), ports=(("dest", 8000),), contexts=(("a:b:c", "d:e:f"),), samples=("raw\nlines",))
    first.ignore("sshd_t", 3)
    first.unparsed.append(Unparsed(7, UnparsedReason.CUT, "text"))
    first.remarks.append(LogEvent(5.0, LogEventKind.POLICY_LOAD, "loaded"))
    assert store.save(first, {"offset": 10}) == [(READ, "hub")]
    assert store.save(batch(role="kernel", at=200.0), {"offset": 20}, {"pids": [1]}) == [(READ, "kernel")]
    assert store.save(batch(at=300.0), {"offset": 30}, {"pids": [1]}) == []
    got = read_evidence(path)
    assert got.evidence[READ].count == 3
    assert (got.evidence[READ].first, got.evidence[READ].last) == (100.0, 300.0)
    assert got.evidence[READ].times == ((100, 1), (200, 1), (300, 1))
    assert got.by_role[(READ, "hub")].count == 2
    assert got.by_role[(READ, "hub")].ports == (("dest", 8000),)
    assert got.counts == {"lines": 3, "ignored": 3}
    assert got.ignored == {"sshd_t": 3}
    assert got.unparsed == (("the record is cut", "text"),)
    assert got.remarks == (LogEvent(5.0, LogEventKind.POLICY_LOAD, "loaded"),)
    assert (got.profile, got.place, got.bad_rows, got.taints) == ("jupyterhub", {"offset": 30}, (), ())


def test_an_older_python_reads_a_copy_on_disk_and_leaves_none(
    store: EvidenceStore, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sqlite3.Connection.deserialize came with Python 3.11."""
    store.save(batch(), {"offset": 1})
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert read_evidence(path).evidence[READ].count == 1
    assert sorted(os.listdir(tmp_path)) == ["evidence"]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StateError, match="no space for a copy"):
        read_evidence(path)


def test_place_and_memory_come_back_after_a_restart(path: Path) -> None:
    with closing(EvidenceStore(path, "jupyterhub")) as store:
        store.save(batch(), {"offset": 10}, {"pids": [1]})
    with closing(EvidenceStore(path, "jupyterhub")) as again:
        assert (again.place, again.memory, again.rows, again.counts) == ({"offset": 10}, {"pids": [1]}, 1, {"lines": 1})


def test_the_evidence_of_another_profile_is_refused(path: Path) -> None:
    EvidenceStore(path, "jupyterhub").close()
    with pytest.raises(UsageError, match="holds the evidence of profile 'jupyterhub', not of 'nginx'"):
        EvidenceStore(path, "nginx")


def test_another_schema_version_is_refused_by_both(store: EvidenceStore, path: Path) -> None:
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=7")
    with pytest.raises(StateError, match="schema 7"):
        EvidenceStore(path, "jupyterhub")
    with pytest.raises(StateError, match="schema 7"):
        read_evidence(path)


def test_a_full_disk_loses_nothing_and_the_same_batch_can_be_saved_later(store: EvidenceStore, path: Path) -> None:
    store.save(batch(), {"offset": 1})
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages}")
    big = Batch()
    for number in range(200):
        big.add(Access("jupyterhub_t", f"t{number}_t", "file", "read"), "hub", seen(100.0, samples=("x" * 4000,)))
    with pytest.raises(StateError, match="full") as caught:
        store.save(big, {"offset": 2})
    assert "free space" in caught.value.hint
    assert read_evidence(path).place == {"offset": 1}
    assert store.rows == len(read_evidence(path).evidence) == 1
    store._connection.execute("PRAGMA max_page_count=100000")
    assert len(store.save(big, {"offset": 2})) == 200
    assert len(read_evidence(path).evidence) == 201


def test_a_lock_by_another_process_is_one_sentence(store: EvidenceStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store._connection.execute("PRAGMA busy_timeout=50")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StateError, match="database is locked") as caught:
            store.save(batch(), {"offset": 1})
        assert "another process holds it" in caught.value.hint
        other.execute("ROLLBACK")
    store.save(batch(), {"offset": 1})
    assert read_evidence(path).evidence[READ].count == 1


def test_a_kill_in_the_middle_of_a_save_leaves_the_save_before(path: Path) -> None:
    """A half-written database with its hot journal is undone in the reader's copy, and by the next daemon."""
    program = f"""
import os
from pathlib import Path
from sepolicyd.state.evidence_store import EvidenceStore, Batch
from tests.state.test_evidence import batch, seen
from sepolicyd.access import Access
store = EvidenceStore(Path({str(path)!r}), "jupyterhub")
store.save(batch(), {{"offset": 1}})
connection = store._connection
connection.execute("PRAGMA cache_size=1")  # pages go to the file before the commit
connection.execute("BEGIN IMMEDIATE")
for number in range(400):
    connection.execute("INSERT INTO evidence(source,target,tclass,permission,role,body) VALUES (?,?,?,?,?,?)",
        ("a_t", f"b{{number}}_t", "file", "read", "", "x" * 4000))
os.kill(os.getpid(), 9)
"""  # noqa: S608
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert done.returncode == -9
    journal = path.with_name("evidence.db-journal")
    assert journal.stat().st_size > 0
    assert b"b1_t" in path.read_bytes(), "pages of the unfinished save are in the file"
    listing = sorted(os.listdir(path.parent))
    before = (path.read_bytes(), journal.read_bytes())
    got = read_evidence(path)
    assert (set(got.evidence), got.place, got.bad_rows) == ({READ}, {"offset": 1}, ())
    assert (path.read_bytes(), journal.read_bytes()) == before, "the reader writes nothing"
    assert sorted(os.listdir(path.parent)) == listing
    with closing(EvidenceStore(path, "jupyterhub")) as again:
        assert (again.rows, again.place) == (1, {"offset": 1})


def test_the_reader_never_sees_half_of_a_save(path: Path) -> None:
    """A writer that saves without a pause, two accesses at a time: every snapshot has both or neither."""
    stop = path.with_name("stop")
    program = f"""
from itertools import count
from pathlib import Path
from sepolicyd.state.evidence_store import EvidenceStore, Batch
from tests.state.test_evidence import READ, OPEN, seen
store = EvidenceStore(Path({str(path)!r}), "jupyterhub")
for number in count():
    if Path({str(stop)!r}).exists():
        break
    both = Batch()
    for access in (READ, OPEN):
        both.add(access, "hub", seen(float(number), paths=(f"/{{number}}" + "x" * 3000,)))
    both.counts["lines"] += 1
    store.save(both, {{"offset": number}})
"""
    looks: set[Any] = set()
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as writer:
        try:
            while len(looks) < 30 and writer.poll() is None:
                got = read_evidence(path)
                if got.place:
                    assert (
                        got.evidence[READ].count == got.evidence[OPEN].count == got.counts["lines"] == got.place["offset"] + 1
                    )
                    looks.add(got.place["offset"])
        finally:
            stop.touch()
        assert writer.wait(60) == 0
    assert len(looks) == 30


def test_a_copy_made_while_a_commit_writes_its_pages_is_not_believed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy has page 1 of the commit and the pages behind it of the one before; both looks at the journal find it empty."""
    with closing(EvidenceStore(path, "jupyterhub")) as store:
        images = []
        for number in range(2):
            both = Batch()
            for access in (READ, OPEN):
                both.add(access, "hub", seen(float(number), paths=(f"/{number}" + "x" * 3000,)))
            both.counts["lines"] += 1
            store.save(both, {"offset": number})
            images.append(path.read_bytes())
    old, new = images
    path.write_bytes(old)
    read = evidence_reader._bytes
    torn: list[bytes] = []

    def during_a_commit(name: Path, limit: int = evidence_reader.MAX_BYTES) -> bytes:
        if name != path or limit <= 100 or torn:
            return read(name, limit)
        torn.append(new[:4096] + old[4096:])
        path.write_bytes(new)
        return torn[0]

    monkeypatch.setattr(evidence_reader, "_bytes", during_a_commit)
    got = read_evidence(path)
    assert torn
    assert got.place == {"offset": 1}
    assert got.evidence[READ].count == got.evidence[OPEN].count == got.counts["lines"] == 2


# what a hostile file may hold


def hostile(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


BODY = '{"count":1,"first":1.0,"last":1.0}'


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("a t", "b_t", "file", "read", "", BODY), "a name that is not a valid identifier"),
        (("a_t", "b_t;", "file", "read", "", BODY), "a name that is not a valid identifier"),
        (("a_t", "b_t", "file", "read }\nallow x y", "", BODY), "a name that is not a valid identifier"),
        (("a_t", "a_t", "file", "read", "", BODY), "target equals the source"),
        (("a_t", "b_t", "file", "read", "", "[" * 5000), "not JSON"),
        (("a_t", "b_t", "file", "read", "", '{"count":"1"}'), "field count"),
        (("a_t", "b_t", "file", "read", "", '{"count":1e400}'), "field count"),
        (("a_t", "b_t", "file", "read", "", '{"count":true}'), "field count"),
        (("a_t", "b_t", "file", "read", "", '{"count":0}'), "count is below one"),
        (("a_t", "b_t", "file", "read", "", '{"count":1,"paths":"/etc"}'), "field paths"),
        (("a_t", "b_t", "file", "read", "", '{"count":1,"paths":[1]}'), "field paths"),
        (("a_t", "b_t", "file", "read", "", '{"count":1,"times":[[5,3]]}'), "field times"),
        (("a_t", "b_t", "file", "read", "", '{"count":1,"ports":[["dest","x"]]}'), "field ports"),
        (("a_t", "b_t", "file", "read", "", '{"count":1,"last":NaN}'), "field last"),
        (("a_t", "b_t", "file", "read", "", '{"count":1,"__class__":1}'), "unknown field"),
        (("a_t", "b_t", "file", "read", "", f'{{"count":1,"paths":["{"x" * 9000}"]}}'), "field paths"),
        (("a_t", "b_t", "file", "read", "", "x" * (evidence_codec.MAX_READ_CHARS + 1)), "wrong type or size"),
        (("a_t", b"b_t", "file", "read", "", BODY), "wrong type or size"),
    ],
)
def test_a_row_that_the_daemon_never_writes_is_left_out_and_reported(
    store: EvidenceStore, path: Path, row: tuple[object, ...], reason: str
) -> None:
    store.save(batch(), {"offset": 1})
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO evidence(source,target,tclass,permission,role,body) VALUES (?,?,?,?,?,?)", row)
    got = read_evidence(path)
    assert set(got.evidence) == {READ}
    assert len(got.bad_rows) == 1
    assert reason in got.bad_rows[0]
    assert got.taints


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW x AS SELECT * FROM evidence",
        "CREATE TRIGGER x AFTER INSERT ON meta BEGIN DELETE FROM evidence; END",
        "CREATE TABLE more (x)",
        "ALTER TABLE evidence ADD COLUMN y TEXT GENERATED ALWAYS AS (zeroblob(1000000000)) VIRTUAL",
        "DROP TABLE ignored",
        "CREATE INDEX x ON evidence(hex(zeroblob(1000)))",
    ],
)
def test_a_schema_that_is_not_ours_is_refused(store: EvidenceStore, path: Path, statement: str) -> None:
    hostile(path, statement)
    with pytest.raises(StateError, match="is not a database written by sepolicyd"):
        read_evidence(path)


def test_links_pipes_and_other_files_are_refused(store: EvidenceStore, path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with pytest.raises(StateError, match=r"link\.db cannot be read"):
        read_evidence(link)
    os.mkfifo(tmp_path / "pipe.db")
    with pytest.raises(StateError, match="not a regular file"):
        read_evidence(tmp_path / "pipe.db")
    (tmp_path / "text.db").write_bytes(b"no database " * 100)
    with pytest.raises(StateError, match="not a database"):
        read_evidence(tmp_path / "text.db")
    with (tmp_path / "huge.db").open("wb") as huge:
        huge.truncate(evidence_reader.MAX_BYTES + 1)
    with pytest.raises(StateError, match="larger than"):
        read_evidence(tmp_path / "huge.db")


@hypothesis_settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_a_sentence_or_fewer_rows_never_a_traceback(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "evidence.db"
        with closing(EvidenceStore(path, "jupyterhub")) as store:
            for number in range(5):
                store.save(batch(Access("a_t", f"b{number}_t", "file", "read"), samples=("x" * 900,)), {"offset": number})
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 30))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2, 5000, 50]))])
        try:
            got = read_evidence(path)
        except StateError as error:
            assert str(path) in error.what
        else:
            assert all(isinstance(found, Evidence) for found in got.evidence.values())


def test_a_file_that_others_may_not_read_is_a_sentence() -> None:
    if os.geteuid() != 0:
        pytest.skip("root gives up its rights here")
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        path = Path(directory) / "evidence.db"
        EvidenceStore(path, "jupyterhub").close()
        path.chmod(0o600)
        os.seteuid(65534)
        try:
            with pytest.raises(StateError, match="cannot be read: Permission denied") as caught:
                read_evidence(path)
        finally:
            os.seteuid(0)
    assert "run this as root or as the daemon's user" in caught.value.hint


# bounds


def test_a_flood_of_names_is_cut_and_shown(store: EvidenceStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_store, "MAX_ACCESSES", 10)
    for start in (0, 8):
        flood = Batch()
        for number in range(start, start + 8):
            flood.add(Access("a_t", f"b{number}_t", "file", "read"), "", seen(1.0))
        store.save(flood, {"offset": start})
    got = read_evidence(path)
    assert len(got.evidence) == 10
    assert got.counts["overflow"] == 6
    assert "6 denials of new accesses were dropped" in got.taints[0]


def test_a_flood_of_one_domain_displaces_no_other(store: EvidenceStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are shared: the domain with most rows gives its newest to one with fewer, and what is lost is told by domain."""
    monkeypatch.setattr(evidence_store, "MAX_ACCESSES", 12)
    for source, number in (("student_t", 30), ("hub_t", 5), ("student_t", 30), ("proxy_t", 2)):
        part = Batch()
        for index in range(number):
            part.add(Access(source, f"b{index}_t", "file", "read"), "", seen(1.0))
        store.save(part, {"offset": 1})
    got = read_evidence(path)
    kept = Counter(access.source for access in got.evidence)
    assert kept == {"student_t": 5, "hub_t": 5, "proxy_t": 2}
    assert Access("student_t", "b0_t", "file", "read") in got.evidence
    assert got.overflow.keys() == {"student_t"}
    # 12 of the first thirty and the last five of these, which were seen once more, were kept for a while
    assert got.counts["overflow"] == got.overflow["student_t"]
    assert sum(one.count for one in got.evidence.values()) + got.overflow["student_t"] == 67
    assert "of student_t" in got.taints[0]


def test_many_long_rows_stay_below_what_the_reader_takes(
    store: EvidenceStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_store, "BODIES_CHARS", 200_000)
    long = tuple(f"/{n}" + "x" * 900 for n in range(24))
    for start in range(0, 200, 50):
        part = Batch()
        for number in range(start, start + 50):
            part.add(Access("a_t", f"b{number}_t", "file", "read"), "", replace(seen(1.0), paths=long, samples=("y" * 4000,)))
        store.save(part, {"offset": start})
    assert path.stat().st_size < 1_500_000
    got = read_evidence(path)
    assert len(got.evidence) == 200
    assert got.bad_rows == ()


def test_a_file_with_more_text_than_the_daemon_keeps_is_read_in_part(
    store: EvidenceStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Batch()
    for number in range(50):
        part.add(Access("a_t", f"b{number}_t", "file", "read"), "", seen(1.0))
    store.save(part, {"offset": 1})
    monkeypatch.setattr(evidence_reader, "MAX_BODIES_CHARS", 1000)
    got = read_evidence(path)
    assert 0 < len(got.evidence) < 50
    assert "the rest was skipped" in got.bad_rows[0]


def test_attempts_and_unreadable_lines_do_not_displace_each_other(
    store: EvidenceStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_store, "MAX_UNPARSED", 3)
    reasons = [UnparsedReason.CUT] * 9 + [UnparsedReason.CONTEXTS_TWICE] * 9
    for _ in range(2):
        part = Batch(counts=Counter(attempts=9))
        part.keep_unparsed([Unparsed(number, reason, f"line {number}") for number, reason in enumerate(reasons)])
        assert len(part.unparsed) == 6
        store.save(part, {"offset": 1})
    got = read_evidence(path)
    assert Counter(reason for reason, _ in got.unparsed) == {
        UnparsedReason.CUT.value: 3,
        UnparsedReason.CONTEXTS_TWICE.value: 3,
    }
    assert "18 lines look like attempts to forge a record" in " ".join(got.taints)


def test_a_long_row_loses_samples_before_anything_else() -> None:
    long = Evidence(
        count=3, first=1.0, last=2.0, paths=tuple(f"/{n}" + "x" * 900 for n in range(24)), samples=("y" * 4000,) * 3
    )
    kept = evidence_codec.parse(evidence_codec.render(long))
    assert kept.paths == long.paths
    assert len(kept.samples) == 1
    longer = Evidence(count=3, first=1.0, last=2.0, paths=tuple(f"/{n}" + "x" * 3900 for n in range(24)))
    cut = evidence_codec.render(longer)
    assert len(cut) <= evidence_codec.MAX_BODY_CHARS
    assert evidence_codec.parse(cut).count == 3


@hypothesis_settings(deadline=None)
@given(st.text(max_size=40), st.floats(0, 1e10), st.integers(0, 2**31), st.binary(max_size=20))
def test_what_is_rendered_is_parsed_back(text: str, at: float, number: int, raw: bytes) -> None:
    odd = raw.decode("utf-8", "surrogateescape")
    given_evidence = Evidence(
        count=1,
        first=at,
        last=at,
        comms=(text,),
        paths=(odd,),
        pids=(number,),
        ports=((text, number),),
        contexts=((text, odd),),
        times=((number, 1),),
        samples=(text,),
    )
    assert evidence_codec.parse(evidence_codec.render(given_evidence)) == given_evidence
    assert json.loads(evidence_codec.render(given_evidence))


# exercises


def test_exercises_are_told_by_the_times_of_the_sightings() -> None:
    early = seen(12.7).merge(seen(30.0))
    late = seen(31.0)
    marks = [ExerciseMark(name, epoch, "hub", "x") for name, epoch in (("start", 20.0), ("log in", 12.3), ("stop", 40.0))]
    got = assign_exercises({READ: early, OPEN: late}, marks)
    assert got[READ].exercises == ("log in", "start")
    assert got[OPEN].exercises == ("start",)
    assert assign_exercises({READ: early}, [])[READ].exercises == ()
    assert assign_exercises({READ: seen(50.0)}, marks)[READ].exercises == ("stop",)
    assert assign_exercises({READ: seen(12.1)}, marks)[READ].exercises == ()


def test_times_stay_few_and_still_tell_exercises_apart() -> None:
    often = Evidence()
    for second in range(4000):
        often = often.merge(seen(1000.0 + second))
    assert len(often.times) <= 64
    marks = [ExerciseMark(f"exercise {number}", 1000.0 + 1000 * number, "hub", "x") for number in range(6)]
    assert assign_exercises({READ: often}, marks)[READ].exercises == tuple(f"exercise {number}" for number in range(4))


def test_fields_of_evidence_are_all_checked() -> None:
    """A field that is added to Evidence without a check of its own would be taken for a list of texts."""
    texts = {"comms", "exes", "paths", "names", "syscalls", "kinds", "roles", "reasons", "nodes", "exercises", "taints"}
    others = {"count", "first", "last", "enforced", "hosts", "pids", "ports", "ioctls", "contexts", "times", "samples"}
    assert set(evidence_codec._CHECKS) == texts | others == set(Evidence.__dataclass_fields__)
