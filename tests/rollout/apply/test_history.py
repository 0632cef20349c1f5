"""The history's hash chain detects changed, missing, moved and truncated lines, and accepts traces of a crash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sepolicyd.errors import StateError
from sepolicyd.rollout.apply.journal import ApplyJournal, Outcome, Step
from sepolicyd.rollout.history import FILE, HEAD, Entry, History, HistoryEvent
from sepolicyd.storage import hashchain
from sepolicyd.storage.hashchain import digest_of


@pytest.fixture
def history(tmp_path: Path) -> History:
    book = History(tmp_path)
    for number in range(1, 6):
        book.add(
            Entry(HistoryEvent.APPLY, "alice", 1.5 + number, "sepolicyd_svc", number, f"op{number}", {"gained": ["a b:c d"]})
        )
    return book


def lines(book: History) -> list[str]:
    return book.path.read_text().splitlines()


def put(book: History, changed: list[str]) -> None:
    book.path.write_text("".join(line + "\n" for line in changed))


def test_a_whole_history_has_no_problems(history: History) -> None:
    assert history.verify() == []
    assert [entry.version for entry in history.entries()] == [1, 2, 3, 4, 5]


def test_an_empty_one_neither(tmp_path: Path) -> None:
    assert History(tmp_path).verify() == []
    assert History(tmp_path).entries() == []


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize(
    "field", ["who", "what", "at", "module", "version", "operation", "details", "number", "previous", "hash"]
)
def test_a_changed_field_is_found(history: History, place: int, field: str) -> None:
    found = lines(history)
    values = json.loads(found[place])
    values[field] = {"x": 1} if field == "details" else 77 if field in ("at", "version", "number") else "mallory"
    found[place] = json.dumps(values)
    put(history, found)
    assert any(str(place + 1) in problem for problem in history.verify())


@pytest.mark.parametrize("place", range(5))
def test_a_missing_line_is_found(history: History, place: int) -> None:
    found = lines(history)
    put(history, found[:place] + found[place + 1 :])
    assert history.verify()


@pytest.mark.parametrize("kept", range(5))
def test_a_cut_off_end_is_found(history: History, kept: int) -> None:
    put(history, lines(history)[:kept])
    assert any("the end is missing" in problem for problem in history.verify())


def test_lines_in_another_order_are_found(history: History) -> None:
    found = lines(history)
    put(history, [found[0], found[2], found[1], *found[3:]])
    assert history.verify()


def test_a_line_made_new_with_its_own_hash_is_found(history: History) -> None:
    """A forger who recomputes one line's hash breaks the chain at the next, or at the head."""
    for place in range(5):
        found = lines(history)
        kept = list(found)
        values = json.loads(found[place])
        entry = history.entries()[place]
        del values["hash"]
        values["who"] = "mallory"
        assert entry.digest != digest_of(values)
        found[place] = json.dumps({**values, "hash": digest_of(values)})
        put(history, found)
        assert history.verify(), place
        put(history, kept)


def test_rubbish_between_is_found(history: History) -> None:
    found = lines(history)
    put(history, [*found[:2], "rubbish", *found[2:]])
    assert history.verify() == ["line 3 cannot be read"]


def test_lines_that_we_did_not_write_are_found(history: History, tmp_path: Path) -> None:
    head = (tmp_path / HEAD).read_bytes()
    history.add(Entry(HistoryEvent.APPLY, "mallory", 9.0, operation="x"))
    history.add(Entry(HistoryEvent.APPLY, "mallory", 9.0, operation="y"))
    (tmp_path / HEAD).write_bytes(head)
    assert any("were not written by sepolicyd" in problem for problem in history.verify())


def test_the_head_alone_missing_is_found(history: History, tmp_path: Path) -> None:
    (tmp_path / HEAD).unlink()
    assert history.verify()


def test_one_line_of_another_hand_at_the_end_is_found(history: History, tmp_path: Path) -> None:
    head = (tmp_path / HEAD).read_bytes()
    history.add(Entry(HistoryEvent.APPLY, "mallory", 9.0, operation="x"))
    (tmp_path / HEAD).write_bytes(head)
    assert history.verify() == ["the lines after number 5 were not written by sepolicyd"]


@pytest.mark.parametrize("kept", [0, 3, 4])
def test_what_was_cut_off_is_not_forgotten_with_the_next_line(history: History, kept: int) -> None:
    put(history, lines(history)[:kept])
    history.add(Entry(HistoryEvent.APPLY, "bob", 9.0, operation="next"))
    assert any("is missing or was moved" in problem for problem in history.verify())


def test_a_head_that_was_removed_is_not_forgotten_with_the_next_line(history: History) -> None:
    history.head_path.unlink()
    history.add(Entry(HistoryEvent.APPLY, "bob", 9.0, operation="next"))
    assert any("is missing or was moved" in problem for problem in history.verify())


def crash(history: History, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """One entry is added, and the disk takes this many of its three writes: head, line, head."""
    left = [writes]

    def full(real):  # type: ignore[no-untyped-def]
        def write(*arguments):  # type: ignore[no-untyped-def]
            left[0] -= 1
            if left[0] < 0:
                raise StateError("No space left on device")
            real(*arguments)

        return write

    with monkeypatch.context() as patch, pytest.raises(StateError):
        patch.setattr(hashchain, "write_whole", full(hashchain.write_whole))  # type: ignore[attr-defined]
        patch.setattr(hashchain, "append_json", full(hashchain.append_json))  # type: ignore[attr-defined]
        history.add(Entry(HistoryEvent.APPLY, "bob", 9.0, operation="cut"))


@pytest.mark.parametrize("writes", [0, 1, 2])
@pytest.mark.parametrize("then", ["the same", "another"])
def test_a_crash_at_each_write_is_no_accusation(
    history: History, monkeypatch: pytest.MonkeyPatch, writes: int, then: str
) -> None:
    crash(history, monkeypatch, writes)
    assert history.verify() == []
    crash(history, monkeypatch, 0)
    assert history.verify() == []
    history.add(Entry(HistoryEvent.APPLY, "bob", 9.0, operation="cut" if then == "the same" else "next"))
    assert history.verify() == []
    assert len(history.entries()) == (7 if writes == 2 and then == "another" else 6)
    put(history, lines(history)[:-1])  # whoever was allowed to be ahead or behind for a moment is not so for ever
    assert history.verify()


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_half_a_line_of_a_crash_is_passed_over(history: History, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    whole = history.path.read_bytes()
    crash(history, monkeypatch, 2)
    line = history.path.read_bytes()[len(whole) :]
    history.path.write_bytes(whole + line[:cut])
    assert history.verify() == []
    history.add(Entry(HistoryEvent.APPLY, "bob", 10.0, operation="next"))
    assert history.verify() == []
    assert history.path.name == FILE


def test_the_journal_knows_what_is_open(tmp_path: Path) -> None:
    journal = ApplyJournal(tmp_path)
    journal.plan("a", 1.0, {"kind": "apply"})
    journal.step("a", 2.0, Step.KEPT)
    journal.plan("b", 3.0, {"kind": "rollback"})
    journal.end("a", 4.0, Outcome.DONE)
    [operation] = journal.open()
    assert (operation.id, operation.details["kind"]) == ("b", "rollback")
    with journal.path.open("ab") as file:
        file.write(b'{"op": "b", "event": "do')
    assert [item.id for item in journal.open()] == ["b"]
    journal.end("b", 5.0, Outcome.UNDONE)
    assert journal.open() == []
    assert [(item.id, item.end) for item in journal.operations()] == [("a", "done"), ("b", "undone")]
