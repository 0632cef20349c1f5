"""Messages to the journal: native protocol, fallback, and a catalog entry for each id."""

from __future__ import annotations

import re
import shutil
import socket
import struct
import subprocess
import syslog
from pathlib import Path

import pytest

from sepolicyd.kernel.journal import MessageId, Priority, send
from tests.paths import ROOT

CATALOG = ROOT / "systemd/sepolicyd.catalog"


def fields(datagram: bytes) -> dict[str, str]:
    """Parse the binary form of the native protocol."""
    found = {}
    while datagram:
        name, _, rest = datagram.partition(b"\n")
        (length,) = struct.unpack("<Q", rest[:8])
        found[name.decode()] = rest[8 : 8 + length].decode()
        assert rest[8 + length : 9 + length] == b"\n"
        datagram = rest[9 + length :]
    return found


def test_a_message_arrives_with_its_id_and_cannot_add_fields(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "socket"))
        text = "two lines\nMESSAGE_ID=0"
        send(text, Priority.CRITICAL, MessageId.LEASE_NOT_ENDED, profile="hub", path=str(tmp_path / "socket"))
        found = fields(journal.recv(1 << 16))
    assert found == {
        "MESSAGE": text,
        "PRIORITY": "2",
        "MESSAGE_ID": MessageId.LEASE_NOT_ENDED.value,
        "SYSLOG_IDENTIFIER": "sepolicyd",
        "SEPOLICYD_PROFILE": "hub",
    }


def test_without_a_journal_it_goes_to_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "syslog", lambda level, text: said.append((level, text)))
    send("text", Priority.NOTICE, MessageId.LEASE_OPENED, path=str(tmp_path / "none"))
    assert said == [(syslog.LOG_NOTICE, "text")]


def test_every_id_has_one_entry_with_what_to_do() -> None:
    entries = re.split(r"(?m)^-- ", CATALOG.read_text(encoding="utf-8"))[1:]
    assert sorted(entry[:32] for entry in entries) == sorted(message.value for message in MessageId)
    for entry in entries:
        head, _, body = entry.partition("\n\n")
        assert re.search(r"(?m)^Subject: .+$", head), entry
        assert "Defined-By: sepolicyd" in head
        assert body.strip()


@pytest.mark.skipif(shutil.which("journalctl") is None, reason="journalctl is not installed")
def test_systemd_compiles_the_catalog(tmp_path: Path) -> None:
    place = tmp_path / "usr/lib/systemd/catalog"
    place.mkdir(parents=True)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    shutil.copy(CATALOG, place)
    said = ""
    for words in (["--update-catalog"], ["--list-catalog"]):
        done = subprocess.run(["journalctl", "--root", str(tmp_path), *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said = done.stdout
    listed = {line.split()[0] for line in said.splitlines() if "sepolicyd: " in line}
    assert listed == {message.value for message in MessageId}
