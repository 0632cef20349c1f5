"""Root's decisions are durable and exact, rows are never changed, and the answer in force follows from the rows."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sepolicyd.access import Access
from sepolicyd.errors import RefusedError, StateError
from sepolicyd.rollout.apply.desired_policy import desired_policy
from sepolicyd.rules.fixes.detail import (
    NO_DETAIL,
    BooleanSetting,
    BooleanSettings,
    ConfigurationLine,
    CreatedLabel,
    DomainTransition,
    FixDetail,
    InterfaceCall,
    LabelledPort,
    LabelledPorts,
    NewLabels,
    OnlyPermissions,
    OwnType,
    PathLabel,
)
from sepolicyd.rules.fixes.fix import FixKind
from sepolicyd.state import fix_codec
from sepolicyd.state.decisions import AnswerKind, Decision, DecisionStore, allowed, pending
from tests.paths import ROOT

READ = Access("jupyterhub_t", "etc_t", "file", "read")
OPEN = Access("jupyterhub_t", "etc_t", "file", "open")
PORTS = LabelledPorts((LabelledPort("tcp", 8000, "x_port_t", "y_port_t"),))
IOCTL = Access("jupyterhub_t", "tty_device_t", "chr_file", "ioctl", ((0x5401, 0x5403),))


def decision(answer: AnswerKind = AnswerKind.ALLOW, *accesses: Access, by: str = "root", at: float = 1.0) -> Decision:
    return Decision(answer, accesses or (READ,), by, at, "because", "abcd")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "decisions" / "decisions.db"


@pytest.fixture
def store(path: Path) -> Iterator[DecisionStore]:
    made = DecisionStore(path)
    yield made
    made.close()


def test_reading_makes_no_file(store: DecisionStore, path: Path) -> None:
    assert (store.all(), store.decided(), store.history()) == ([], {}, [])
    assert store.undo_last("root", 1.0) is None
    assert not path.parent.exists()


def test_an_answer_is_there_for_the_next_process(store: DecisionStore, path: Path) -> None:
    given_decision = Decision(AnswerKind.ALLOW, (READ, IOCTL), "root", 7.5, "needed \udcff", "abcd", FixKind.PORT, PORTS, 6.5)
    stored = store.add(given_decision)
    assert stored.id == 1
    with closing(DecisionStore(path)) as again:
        (found,) = again.all()
    assert found.accesses == (READ, IOCTL)
    assert (found.answer, found.by, found.at, found.candidate_id) == (AnswerKind.ALLOW, "root", 7.5, "abcd")
    assert (found.fix_kind, found.fix_detail, found.last_seen) == (FixKind.PORT, PORTS, 6.5)
    assert found.reason == "needed \\udcff"


def test_files_are_roots_alone(store: DecisionStore, path: Path) -> None:
    store.add(decision())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("which", ["file", "directory"])
def test_a_file_that_others_can_write_is_refused(store: DecisionStore, path: Path, which: str) -> None:
    store.add(decision())
    store.close()
    os.chmod(path if which == "file" else path.parent, 0o777)  # noqa: S103
    with pytest.raises(RefusedError, match="is writable by other users"):
        DecisionStore(path)


def test_a_file_of_another_user_is_refused(store: DecisionStore, path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a file away")
    store.add(decision())
    store.close()
    os.chown(path, 65534, 65534)
    with pytest.raises(RefusedError, match="belongs to user 65534"):
        DecisionStore(path)


def test_a_link_is_not_followed(store: DecisionStore, path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(RefusedError, match="not a regular file"):
        DecisionStore(path)
    with pytest.raises(StateError, match="cannot be opened for writing"):
        store.add(decision())
    assert not (tmp_path / "elsewhere.db").exists()


def test_the_latest_answer_stands_and_reset_asks_again(store: DecisionStore) -> None:
    store.add(decision(AnswerKind.ALLOW, READ, OPEN))
    store.add(decision(AnswerKind.DENY, READ))
    assert {access: made.answer for access, made in store.decided().items()} == {READ: "deny", OPEN: "allow"}
    assert allowed(store.decided()) == [OPEN]
    store.add(decision(AnswerKind.RESET, READ, OPEN))
    assert store.decided() == {}
    assert len(store.history()) == 3


def test_undo_takes_back_ones_own_last_answer_and_then_the_one_before(store: DecisionStore) -> None:
    store.add(decision(AnswerKind.ALLOW, READ, by="alice"))
    store.add(decision(AnswerKind.DENY, READ, by="alice"))
    store.add(decision(AnswerKind.ALLOW, OPEN, by="bob"))
    undone = store.undo_last("alice", 5.0)
    assert undone is not None
    assert undone.answer == AnswerKind.DENY
    assert {access: made.answer for access, made in store.decided().items()} == {READ: "allow", OPEN: "allow"}
    store.undo_last("alice", 6.0)
    assert set(store.decided()) == {OPEN}
    assert store.undo_last("alice", 7.0) is None
    assert [taken_back for _, taken_back in store.history()] == [True, True, False]


def test_rows_can_neither_be_changed_nor_deleted(store: DecisionStore, path: Path) -> None:
    store.add(decision())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in ("UPDATE decisions SET answer='deny'", "DELETE FROM decisions"):
            with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
                connection.execute(statement)


@pytest.mark.parametrize("name", ["a b", "x;", "", "x\ny", "x" * 200, "1x"])
def test_a_name_that_no_policy_can_hold_is_never_stored(store: DecisionStore, path: Path, name: str) -> None:
    with pytest.raises(RefusedError, match="is not a valid name in a policy"):
        store.add(decision(AnswerKind.ALLOW, Access("a_t", name, "file", "read")))
    with pytest.raises(RefusedError, match="at least one access"):
        store.add(Decision(AnswerKind.ALLOW, (), "root", 1.0))
    assert not path.exists()


def test_a_new_permission_in_a_decided_group_is_a_new_question(store: DecisionStore) -> None:
    store.add(decision(AnswerKind.ALLOW, READ))
    assert pending({READ: 1, OPEN: 2}, store.decided()) == {OPEN: 2}
    store.add(decision(AnswerKind.DENY, OPEN))
    assert pending({READ: 1, OPEN: 2}, store.decided()) == {}


def test_a_full_disk_stores_nothing_and_says_so(store: DecisionStore) -> None:
    store.add(decision())
    connection = store._connection
    assert connection is not None
    connection.execute(f"PRAGMA max_page_count={connection.execute('PRAGMA page_count').fetchone()[0]}")
    many = tuple(Access("a_t", f"b{number}_t", "file", "read") for number in range(500))
    with pytest.raises(StateError, match="full"):
        store.add(decision(AnswerKind.ALLOW, *many))
    assert len(store.all()) == 1


def test_an_answer_is_on_the_disk_when_the_call_returns(path: Path) -> None:
    """kill -9 right after: SQLite is set to sync the file and its directory at each commit, and the row is there."""
    program = f"""
import os
from pathlib import Path
from sepolicyd.state.decisions import DecisionStore
from tests.state.test_decisions import decision
store = DecisionStore(Path({str(path)!r}))
store.add(decision())
assert store._connection.execute("PRAGMA synchronous").fetchone() == (3,)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert done.returncode == -9
    with closing(DecisionStore(path)) as again:
        assert set(again.decided()) == {READ}


ANSWERS = st.lists(
    st.tuples(st.sampled_from([*AnswerKind, "undo"]), st.sets(st.sampled_from([READ, OPEN, IOCTL]), min_size=1)), max_size=12
)


@hypothesis_settings(max_examples=40, deadline=None)
@given(ANSWERS)
def test_the_standing_answer_is_that_of_a_list_of_answers_with_the_undone_struck_out(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[object, set[Access]]]
) -> None:
    model: list[tuple[AnswerKind, set[Access]]] = []
    with closing(DecisionStore(tmp_path_factory.mktemp("d") / "x" / "decisions.db")) as store:
        for number, (answer, accesses) in enumerate(steps):
            if answer == "undo":
                store.undo_last("root", float(number))
                model = model[:-1]
            else:
                assert isinstance(answer, AnswerKind)
                store.add(decision(answer, *accesses, at=float(number)))
                model.append((answer, accesses))
        standing: dict[Access, AnswerKind] = {}
        for kind, accesses in model:
            for access in accesses:
                standing[access] = kind
        expected = {access: kind for access, kind in standing.items() if kind != AnswerKind.RESET}
        assert {access: made.answer for access, made in store.decided().items()} == expected


LATER = {FixKind.CONTEXT, FixKind.OWNER}  # kinds that the first release did not have
STORED = Path(__file__).parent / "data" / "decisions-2026-11-25"


def test_decisions_of_the_first_release_mean_what_they_meant(tmp_path: Path) -> None:
    """The file and what `apply` made of it then, both written by the commit before fix details became dataclasses."""
    copy = tmp_path / "decisions" / "decisions.db"
    copy.parent.mkdir(mode=0o700)
    copy.write_bytes(STORED.with_suffix(".db").read_bytes())
    copy.chmod(0o600)
    with closing(DecisionStore(copy)) as store:
        asked = desired_policy(store.decided())
        stored = store.all()
    expected = json.loads(STORED.with_suffix(".json").read_text())
    assert [f"{rule.kind} {rule.access}" for rule in asked.rules] == expected["rules"]
    assert [f"{one.pattern} {one.kind} {one.type}" for one in asked.contexts] == expected["contexts"]
    assert list(map(str, asked.transitions)) == expected["transitions"]
    assert [f"{one.protocol} {one.number} {one.type}" for one in asked.ports] == expected["ports"]
    assert [f"{one.name} {one.on}" for one in asked.booleans] == expected["booleans"]
    assert (list(asked.paths), list(asked.manual)) == (expected["paths"], expected["manual"])
    kinds = {one.fix_kind for one in stored}
    assert kinds == {None, *FixKind} - {FixKind.REFUSE, FixKind.UNKNOWN, *LATER}
    assert all(one.last_seen for one in stored if one.fix_kind)


DETAILS = (
    NO_DETAIL, PORTS, LabelledPorts(), ConfigurationLine("a.conf", "x=1"),
    NewLabels(("/a",), (PathLabel("/a(/.*)?", "a_t", "-d"),)),
    OwnType(NewLabels(("/a",)), (CreatedLabel("a_t", "tmp_t", "file", "b_t"),), ("write",)), BooleanSetting("x", False),
    BooleanSettings((BooleanSetting("x", True), BooleanSetting("y", False))),
    DomainTransition("x_exec_t", "x_t"), InterfaceCall("x(a_t)"), OnlyPermissions(("read",)),
)  # fmt: skip


def test_every_detail_is_read_as_it_was_stored() -> None:
    assert {type(detail) for detail in DETAILS} == set(get_args(FixDetail))
    for detail in DETAILS:
        assert fix_codec.decode(json.loads(json.dumps(fix_codec.encode(detail)))) == detail


@pytest.mark.parametrize(
    "stored", ["[]", '{"ports": [{"protocol": "tcp"}]}', '{"paths": 7}', '{"boolean": "x"}', '{"only": [1]}']
)
def test_a_stored_fix_of_another_shape_is_named(store: DecisionStore, path: Path, stored: str) -> None:
    store.add(decision())
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("DROP TRIGGER decisions_stay")
        raw.execute("UPDATE decisions SET fix_detail = ?", (stored,))
    with pytest.raises(StateError, match="decision 1 cannot be read"):
        store.all()
