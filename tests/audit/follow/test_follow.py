"""The follower on real files, for every way in which a log can change while it is read."""

from __future__ import annotations

import gzip
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from sepolicyd.audit.follow.event_boundary import Tail
from sepolicyd.audit.follow.follower import Doorbell, Follower
from sepolicyd.audit.follow.rotated_file import HEAD_BYTES, LogFile, LogPosition
from sepolicyd.errors import InputError
from tests.audit.follow.writer import Writer, event
from tests.paths import DATA

ROTATION = DATA / "jupyterhub" / "rotation"


class Reader:
    """A follower and a clock that is far enough on for nothing to be held back when asked so."""

    def __init__(self, log: Path, place: Optional[LogPosition] = None, since: Optional[float] = None) -> None:
        self.follower = Follower(log, place, since=since)
        self.clock = 0.0
        self.place = place

    def lines(self, *, final: bool = True) -> list[bytes]:
        """All lines that are there now, as a restarted reader would go on after them."""
        text = b""
        for _ in range(3):
            while self.follower.read():
                text += self._take(False)
        text += self._take(final)
        return text.splitlines(keepends=True)

    def _take(self, final: bool) -> bytes:
        chunk = self.follower.take(self.clock, final=final)
        if chunk is None:
            return b""
        self.place = chunk.place
        return chunk.text

    def again(self) -> Reader:
        self.follower.close()
        return Reader(self.follower.log, self.place and LogPosition.from_json(self.place.to_json()))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
def writer(log: Path) -> Iterator[Writer]:
    made = Writer(log)
    yield made
    made.close()


def test_a_half_line_is_left_until_it_is_whole(log: Path, writer: Writer) -> None:
    first, second = event(1)[:2]
    reader = Reader(log)
    writer.write(first + second[:40])
    assert reader.lines() == [first]
    writer.write(second[40:])
    assert reader.lines() == [second]


def test_a_half_first_line_is_left_too(log: Path, writer: Writer) -> None:
    line = event(1)[0]
    reader = Reader(log)
    writer.write(line[:30])
    assert reader.lines() == []
    writer.write(line[30:])
    assert reader.lines() == [line]


def test_an_event_that_may_go_on_is_held_back_and_let_go_in_time(log: Path, writer: Writer) -> None:
    reader = Reader(log)
    lines = event(1)
    writer.write(b"".join(lines[:2]))
    assert reader.lines(final=False) == []
    assert reader.follower.holding
    reader.clock += reader.follower.patience - 0.001
    assert reader.lines(final=False) == []
    writer.write(b"".join(lines[2:]))
    assert reader.lines(final=False) == lines, "PROCTITLE is the last record of an event"
    writer.write(event(2)[0])
    reader.lines(final=False)
    reader.clock += reader.follower.patience
    assert reader.lines(final=False) == event(2)[:1]


def test_a_user_space_message_waits_for_nothing(log: Path, writer: Writer) -> None:
    line = (
        b"type=USER_AVC msg=audit(1795373145.784:9): pid=1 uid=0 msg='avc:  denied  { send_msg } for  scontext=a tcontext=b'\n"
    )
    writer.write(line)
    assert Reader(log).lines(final=False) == [line]


def test_patience_counts_for_each_line_in_an_endless_trickle(log: Path, writer: Writer) -> None:
    reader = Reader(log)
    seen = []
    for serial in range(1, 40):
        writer.write(event(serial, records=1)[0])
        reader.clock += 0.02
        seen += reader.lines(final=False)
        late = [line for line in event(serial - 12, records=1) if serial > 12 and line not in seen]
        assert not late, "more than 0.24 s after it was written"


@pytest.mark.parametrize("how", ["rename", "copytruncate"])
def test_an_event_cut_in_two_by_a_rotation_comes_as_one_chunk(log: Path, writer: Writer, how: str) -> None:
    reader = Reader(log)
    lines = event(1)
    writer.write(b"".join(lines[:2]))
    reader.lines(final=False)
    getattr(writer, how)()
    writer.reopen()
    writer.write(b"".join(lines[2:]))
    while reader.follower.read():
        pass
    chunk = reader.follower.take(0.0)
    assert chunk is not None
    assert chunk.text == b"".join(lines)


def test_a_place_in_the_older_file_covers_the_first_half_of_a_cut_event(log: Path, writer: Writer) -> None:
    reader = Reader(log)
    whole, cut = event(1), event(2)
    writer.write(b"".join(whole + cut[:2]))
    assert reader.lines(final=False) == whole
    writer.rename()
    writer.reopen()
    assert reader.again().lines(final=False) == []
    writer.write(b"".join(cut[2:]))
    assert reader.again().lines(final=False) == cut


def test_a_writer_that_goes_on_in_the_renamed_file_is_read_to_its_end(log: Path, writer: Writer) -> None:
    reader = Reader(log)
    writer.write(b"".join(event(1)))
    reader.lines()
    writer.rename()
    assert reader.lines() == []
    writer.write(b"".join(event(2)))
    assert reader.lines() == event(2)
    writer.reopen()
    writer.write(b"".join(event(3)))
    assert reader.lines() == event(3)


def test_copytruncate_the_rest_is_read_from_the_copy_and_nothing_twice(log: Path, writer: Writer) -> None:
    reader = Reader(log)
    writer.write(b"".join(event(1)))
    assert reader.lines() == event(1)
    writer.write(b"".join(event(2)))
    writer.copytruncate()
    writer.write(b"".join(event(3) + event(4) + event(5)))  # beyond the old offset: the size alone tells nothing
    assert log.stat().st_size > len(b"".join(event(1)))
    assert reader.lines() == event(2) + event(3) + event(4) + event(5)
    assert not reader.follower.happenings


def test_truncated_without_a_copy_is_told(log: Path, writer: Writer) -> None:
    reader = Reader(log)
    writer.write(b"".join(event(1)))
    reader.lines()
    os.truncate(log, 0)
    writer.write(b"".join(event(2)))
    assert reader.lines() == event(2)
    assert [happening.kind for happening in reader.follower.happenings] == ["gap"]


@pytest.mark.parametrize("zeros", [100, 9_000, 300_000])
def test_zeros_that_a_crash_left_at_the_beginning_hide_nothing(log: Path, zeros: int) -> None:
    log.write_bytes(b"\0" * zeros + b"\n" + b"".join(event(1)))
    reader = Reader(log)
    assert [line for line in reader.lines(final=True) if line.strip()] == event(1)


def test_the_hole_under_a_writer_without_o_append(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    with log.open("wb", buffering=0) as file:  # keeps its offset over the truncation
        file.write(b"".join(event(1) * 3))
        reader = Reader(log)
        assert reader.lines() == event(1) * 3
        (tmp_path / "audit.log.1").write_bytes(log.read_bytes())
        os.truncate(log, 0)
        file.write(b"".join(event(2)))
    assert log.read_bytes().startswith(b"\0")
    assert reader.lines() == event(2)
    assert reader.again().lines() == []


def test_files_rotated_while_nobody_read_are_caught_up_on(log: Path, writer: Writer) -> None:
    reader = Reader(log)
    writer.write(b"".join(event(1)))
    assert reader.lines() == event(1)
    for serial in (2, 3, 4):
        writer.write(b"".join(event(serial)))
        writer.rename()
        writer.reopen()
    writer.compress(2)
    writer.compress(3)
    writer.write(b"".join(event(5)))
    assert sorted(path.name for path in log.parent.iterdir()) == [
        "audit.log",
        "audit.log.1",
        "audit.log.2.gz",
        "audit.log.3.gz",
    ]
    assert reader.again().lines() == event(2) + event(3) + event(4) + event(5)


def test_dated_files_are_read_in_the_order_of_their_dates(log: Path) -> None:
    log.with_name("audit.log-20261120.gz").write_bytes(gzip.compress(b"".join(event(1))))
    log.with_name("audit.log-20261121").write_bytes(b"".join(event(2)))
    log.with_name("audit.log.offset").write_bytes(b"not a log\n")
    log.write_bytes(b"".join(event(3)))
    assert Reader(log).lines() == event(1) + event(2) + event(3)


def test_a_reused_inode_is_a_new_file(log: Path, writer: Writer) -> None:
    reader = Reader(log)
    writer.write(b"".join(event(1)))
    reader.lines()
    place = reader.place
    assert place is not None
    reader.follower.close()
    log.write_bytes(b"".join(event(2) + event(3)))  # the same inode, longer than before
    assert log.stat().st_ino == place.inode
    assert log.stat().st_size > place.offset
    assert Reader(log, place).lines() == event(2) + event(3)


def test_the_same_first_line_is_not_the_same_file_where_the_rest_differs(log: Path) -> None:
    log.write_bytes(b"".join(event(1) + event(2)))
    reader = Reader(log)
    reader.lines()
    log.write_bytes(event(1)[0] + b"".join(event(3) + event(4)))
    lines = reader.lines()
    assert [line for line in event(3) + event(4) if line not in lines] == []
    os.truncate(log, len(event(1)[0]))
    assert reader.lines() == []
    with log.open("ab") as file:
        file.write(b"".join(event(5)))
    assert reader.lines() == event(5)
    assert {happening.kind for happening in reader.follower.happenings} == {"gap"}


def test_a_place_that_was_rotated_away_is_told_as_a_gap(log: Path, writer: Writer) -> None:
    reader = Reader(log)
    writer.write(b"".join(event(1)))
    reader.lines()
    for serial in (2, 3, 4, 5):
        writer.rename()
        writer.reopen()
        writer.write(b"".join(event(serial)))
    for number in (3, 4):
        log.with_name(f"audit.log.{number}").unlink()
    again = reader.again()
    assert again.lines() == event(3) + event(4) + event(5)
    assert [happening.kind for happening in again.follower.happenings] == ["gap"]


def test_a_vanished_file_that_comes_back_is_read_on(log: Path, writer: Writer) -> None:
    reader = Reader(log)
    writer.write(b"".join(event(1)))
    reader.lines()
    writer.vanish()
    assert reader.lines() == []
    writer.write(b"".join(event(2)))
    assert reader.lines() == event(2), "the writer still has it open, and so have we"
    writer.return_()
    writer.write(b"".join(event(3)))
    assert reader.lines() == event(3)
    assert not reader.follower.happenings


def test_a_log_that_does_not_exist_yet(log: Path) -> None:
    reader = Reader(log)
    assert reader.lines() == []
    log.write_bytes(b"".join(event(1)))
    assert reader.lines() == event(1)


def test_since_passes_over_what_is_older_in_every_file(log: Path) -> None:
    old, middle, new = (b"".join(event(serial)) for serial in (100, 700, 1900))
    log.with_name("audit.log.2").write_bytes(old)
    os.utime(log.with_name("audit.log.2"), (1795373146, 1795373146))
    log.with_name("audit.log.1").write_bytes(b"".join(event(699)) + middle)
    log.write_bytes(new)
    reader = Reader(log, since=1795373145 + 7.0)
    assert reader.lines() == event(700) + event(1900)
    assert reader.place is not None
    assert reader.place.since is None
    assert reader.again().lines() == []


def test_since_holds_over_a_restart_before_it_was_reached(log: Path, writer: Writer) -> None:
    reader = Reader(log, since=1795373145 + 7.0)
    writer.write(b"".join(event(1)))
    assert reader.lines() == []
    again = reader.again()
    writer.write(b"".join(event(2) + event(700)))
    assert again.lines() == event(700)


@pytest.mark.parametrize("size", [0.3, 0.7, 0.99])
def test_a_truncated_gz_gives_what_is_in_it_and_is_told(log: Path, size: float) -> None:
    packed = gzip.compress(b"".join(b"".join(event(serial)) for serial in range(1, 200)))
    log.with_name("audit.log.1.gz").write_bytes(packed[: int(len(packed) * size)])
    log.write_bytes(b"".join(event(300)))
    reader = Reader(log)
    lines = reader.lines()
    assert lines[-5:] == event(300)
    assert len(lines) > 20
    assert [happening.kind for happening in reader.follower.happenings] == ["damaged"]


def test_a_gz_of_several_members_and_a_place_in_it(log: Path, writer: Writer) -> None:
    writer.write(b"".join(b"".join(event(serial)) for serial in range(1, 3000)))
    reader = Reader(log)
    assert reader.lines(final=False)
    place = reader.place
    assert place is not None
    text = log.read_bytes()
    half = len(text) // 2
    log.with_name("audit.log.1.gz").write_bytes(gzip.compress(text[:half]) + gzip.compress(text[half:] + b"".join(event(3000))))
    log.write_bytes(b"".join(event(3001)))
    assert Reader(log, place).lines() == event(3000) + event(3001)


def test_a_line_without_end_does_not_fill_the_memory(log: Path) -> None:
    log.write_bytes(b"x" * (5 << 20))
    reader = Reader(log)
    assert sum(map(len, reader.lines())) >= 4 << 20
    with log.open("ab") as file:
        file.write(b"\n" + b"".join(event(1)))
    assert reader.lines()[-5:] == event(1)


def test_a_directory_or_a_pipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "audit.log").mkdir()
    with pytest.raises(InputError, match=r"audit\.log cannot be read: it is not a regular file"):
        Follower(tmp_path / "audit.log").check()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        Follower(tmp_path / "pipe").check()
    with pytest.raises(InputError, match="does not exist"):
        Follower(tmp_path / "none").check()


def test_the_head_is_the_first_line_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(event(1)[0])
    before = LogFile(path, live=True)
    with path.open("ab") as file:
        file.write(event(2)[0])
    after = LogFile(path, live=True)
    assert before.head == after.head != ""
    path.write_bytes(b"y" * HEAD_BYTES)
    long = LogFile(path, live=True)
    assert long.head not in ("", before.head)
    for opened in (before, after, long):
        opened.close()


def test_the_captured_rotation_read_as_it_happened(tmp_path: Path) -> None:
    """auditd cut an event at each of the four boundaries; a reader restarted at each of them sees every line once."""
    names = [*(f"audit.log.{number}.gz" for number in (4, 3, 2, 1)), "audit.log.gz"]
    texts = [gzip.decompress((ROTATION / name).read_bytes()) for name in names]
    log = tmp_path / "audit.log"
    writer = Writer(log)
    reader = Reader(log)
    seen: list[bytes] = []
    for number, text in enumerate(texts):
        if number:
            writer.rename()
            writer.reopen()
        writer.write(text)
        seen += reader.lines(final=False)
        reader = reader.again()
    seen += reader.lines()
    writer.close()
    assert b"".join(seen) == b"".join(texts)


def test_the_bell_rings_for_an_append_and_for_a_new_file(tmp_path: Path) -> None:
    bell = Doorbell(tmp_path)
    try:
        assert not bell.failure
        assert not bell.wait(0.05)
        for content in (b"", b"x\n"):
            (tmp_path / "audit.log").write_bytes(content)
            start = time.monotonic()
            assert bell.wait(5.0)
            assert time.monotonic() - start < 2.0
            time.sleep(0.1)
            bell.wait(0.0)
    finally:
        bell.close()


def test_no_bell_is_no_failure(tmp_path: Path) -> None:
    bell = Doorbell(tmp_path / "missing")
    assert bell.failure
    start = time.monotonic()
    assert not bell.wait(0.05)
    assert 0.04 < time.monotonic() - start < 2.0
    bell.close()


def test_a_directory_that_may_be_entered_but_not_listed() -> None:
    if os.geteuid() != 0:
        pytest.skip("root gives up its rights here")
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "audit.log"
        log.with_name("audit.log.1").write_bytes(b"".join(event(1)))
        log.write_bytes(b"".join(event(2)))
        os.chmod(directory, 0o711)  # noqa: S103
        os.seteuid(65534)
        try:
            assert Reader(log).lines() == event(1) + event(2)
        finally:
            os.seteuid(0)


def test_a_rotated_file_that_may_not_be_read_is_told_and_the_others_are_read() -> None:
    if os.geteuid() != 0:
        pytest.skip("root gives up its rights here")
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "audit.log"
        for number, name in enumerate(("audit.log.2", "audit.log.1", "audit.log")):
            log.with_name(name).write_bytes(b"".join(event(number)))
        log.with_name("audit.log.1").chmod(0o400)
        os.chmod(directory, 0o755)  # noqa: S103
        os.seteuid(65534)
        try:
            reader = Reader(log)
            assert reader.lines() == event(0) + event(2)
            (happening,) = reader.follower.happenings
        finally:
            os.seteuid(0)
    assert (happening.kind, happening.text) == ("unreadable", f"{directory}/audit.log.1: Permission denied")


def test_a_carriage_return_ends_no_line() -> None:
    """systemd writes a client's command line as it is: behind a carriage return it may hold the header of a record."""
    tail = Tail(LogPosition())
    tail.open("head", 1, 0, b"")
    line = b"type=USER_AVC msg=audit(1795377193.100:300): pid=1 msg='x\rtype=AVC msg=audit(1795377193.100:300): avc:'\n"
    tail.add(line + b"type=SYSCALL msg=audit(1795377193.100:301): x\n")
    chunk = tail.take(0.0)
    assert chunk is not None
    assert chunk.text == line
