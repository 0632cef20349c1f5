"""Public logs: every ``avc:`` mark is accounted for, and no access found by audit2allow is missed, with listed exceptions.

Runs where the corpus is present: SEPOLICYD_CORPUS, or ../shared/corpus beside the repository.
"""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import pytest

from sepolicyd.access import SELF
from sepolicyd.audit.model import ErrorOperation
from sepolicyd.audit.parse.denial import denials_of_line
from sepolicyd.audit.scan.scan_files import ScanResult
from tests.audit.parse.reading import read_file, read_text
from tests.audit.scan.reference import messages
from tests.paths import ROOT

CORPUS = Path(os.environ.get("SEPOLICYD_CORPUS", ROOT.parent / "shared" / "corpus"))
FLOORS = sorted(CORPUS.rglob("*.audit2allow")) if CORPUS.is_dir() else []
FLOOR_NAMES = [str(path.relative_to(CORPUS)).replace(".audit2allow", "") for path in FLOORS]
JUPYTERHUB = ROOT / "tests" / "data" / "jupyterhub"
present = pytest.mark.skipif(not FLOORS, reason="the corpus is not here")

AccessRow = tuple[str, str, str, str]
# Where audit2allow is wrong, and why.
EXCEPTIONS: dict[AccessRow, str] = {
    ("healthd", SELF, "capability2", "0x10"): "a permission that the kernel could not name; no policy can hold it",
    ("nfc", "drmserver_service", "service_manage", "find"): "the class name is cut (service_manager)",
    ("pcs_snmp_agent_t", "init_t", "s", "status"): "the class name is cut (service or system)",
    ("ntpd_t", "chronyd_unit_t", "service", "disable"): "the message is cut, and what stands last may be the client's text",
    ("accounts", "var_log_t", "dir", "watch"): "a blank has broken the type in two (accounts _t)",
    ("init_t", "lastlog_t", "file", "add_name"): "two records glued on one line, merged into one rule",
}
_RULE = re.compile(r"^\s*allow\s+(\S+)\s+([^\s:]+)\s*:\s*(\S+)\s+(?:\{([^}]*)\}|(\S+?))\s*;", re.MULTILINE)
_ROLE = re.compile(r"^\s*role\s+(\S+)\s+types\s+(\S+)\s*;", re.MULTILINE)


def floor_of(path: Path) -> tuple[set[AccessRow], set[tuple[str, str]]]:
    """The accesses and (role, type) pairs of audit2allow's output."""
    text = path.read_text(errors="replace")
    rules = {(m[1], m[2], m[3], permission) for m in _RULE.finditer(text) for permission in (m[4] or m[5]).split()}
    return rules, {(m[1], m[2]) for m in _ROLE.finditer(text)}


def accesses_of(result: ScanResult) -> set[AccessRow]:
    return {
        (one.source, one.target, one.tclass, one.permission)
        for sighting in result.sightings
        for one in sighting.denial.accesses()
        if ErrorOperation.of(one.permission) is None
    }


@present
@pytest.mark.parametrize("floor", FLOORS, ids=FLOOR_NAMES)
def test_accesses_contain_those_of_audit2allow(floor: Path) -> None:
    result = read_file(floor.with_suffix(""))
    rules, roles = floor_of(floor)
    missing = rules - accesses_of(result) - EXCEPTIONS.keys()
    assert not missing
    invalid = {
        (one.denial.tcontext.role, one.denial.tcontext.type)
        for one in result.sightings
        if ErrorOperation.COMPUTE_SID.value in one.denial.permissions
    }
    assert roles <= invalid


@present
def test_every_exception_is_still_needed() -> None:
    found: set[AccessRow] = set()
    for floor in FLOORS:
        found |= floor_of(floor)[0] - accesses_of(read_file(floor.with_suffix("")))
    assert found == EXCEPTIONS.keys()


@present
@pytest.mark.parametrize("floor", FLOORS, ids=FLOOR_NAMES)
def test_every_line_with_a_mark_is_accounted_for(floor: Path) -> None:
    log = floor.with_suffix("")
    for number, line in enumerate(log.read_bytes().splitlines(keepends=True), 1):
        if b"avc:" in line:
            found = denials_of_line(line, number)
            said = len(found.denials) + len(found.granted) + len(found.notices) + found.other + len(found.unparsed)
            assert said, line
            assert all(one.line == number and one.reason for one in found.unparsed)


@present
@pytest.mark.parametrize("floor", FLOORS, ids=FLOOR_NAMES)
def test_whole_files_lose_no_mark(floor: Path) -> None:
    log = floor.with_suffix("")
    result = read_file(log)
    said = result.denials + result.granted + result.notices + result.other + result.unparsed_count
    # a record that stands twice in its event counts once; without a header it cannot be told and counts each time
    marked = [line for line in log.read_bytes().split(b"\n") if b"avc:" in line]
    alone = [line for line in marked if b"audit(" not in line]
    assert said >= len({line[line.find(b"audit(") :].strip() for line in marked if b"audit(" in line}) + len(alone)
    assert messages(result) == result.denials


@present
def test_peculiarities_are_each_read_or_explained() -> None:
    rows = [line.split("\t", 2) for line in (CORPUS / "PECULIARITIES.tsv").read_text(errors="replace").split("\n")[1:]]
    rows = [row for row in rows if len(row) == 3]
    assert len(rows) > 90
    unread = {}
    for name, _note, raw in rows:
        found = read_text(raw.encode())
        if not (found.denials or found.granted or found.notices or found.errors or found.other):
            unread[name] = [one.message for one in found.unparsed]
    assert unread == UNREAD


# What is not read, and what is said of it; [] where the line holds no mark at all.
UNREAD: dict[str, list[str]] = {
    "bare-avc": ["a value is broken in two: a2dp_host dev_ashmem_file tclass=chr_file"],
    "typo-keys": ["a field is missing: scontext="],
    "tclass-null": ["no object manager in user space writes such a message: ?: tclass=(null)"],
    "user-avc-systemd": ["the record is cut"],
    "trunc-tclass": ["class name is cut: tcp_s"],
    "trunc-tcontext": ["a field is missing: tclass="],
    "glob": ['a value is broken in two: * comm="lsblk" * scontext=system_u:system_r:bootupd_t:s0 tcontext=system_u:objec'],
    "kernel-ring-syslog": ["an AVC record without avc:"],
    "unknown-n": [],
    "sealert-sorted": ["a field is missing: scontext="],
    "sepgsql": [],
}


def test_the_rich_session_holds_396_accesses(tmp_path: Path) -> None:
    """Distinct (source type, target type or self, class, permission) of 515 AVC and 9 USER_AVC lines."""
    log = tmp_path / "audit.log"
    packed = JUPYTERHUB / "02-jupyterhub_t-permissive-domain-enforcing-system.log.gz"
    log.write_bytes(gzip.decompress(packed.read_bytes()))
    for path in (packed, log):
        result = read_file(path)
        assert len(accesses_of(result)) == 396
        assert (result.lines, result.denials, result.unparsed_count) == (1498, 524, 0)
