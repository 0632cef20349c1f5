"""The bench's audit logs: the project's parser finds the same denials as the bench's own code, and loses no line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from sepolicyd.audit.scan.scan_files import scan_files
from tests.paths import DATA as DATA_ROOT
from tests.vm.bench import AVC

DATA = DATA_ROOT / "vm"
LOGS = sorted(DATA.glob("*.log.gz"))


@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.name)
def test_the_parser_sees_what_the_bench_sees(log: Path) -> None:
    text = gzip.decompress(log.read_bytes()).decode(errors="replace")
    wanted = {(match[2], match[3], match[4], permission) for match in AVC.finditer(text) for permission in match[1].split()}
    result = scan_files([log])
    found = {
        (denial.scontext.type, denial.tcontext.type, denial.tclass, permission)
        for denial in (sighting.denial for sighting in result.sightings)
        for permission in denial.permissions
    }
    assert wanted
    assert wanted <= found
    assert result.unparsed_count == 0
    assert result.lines == text.count("\n")  # splitlines() would part auditd's \x1d too


def test_each_log_is_explained() -> None:
    told = (DATA / "README.md").read_text(encoding="utf-8")
    assert len(LOGS) >= 7
    assert not [log.name for log in LOGS if f"| {log.name} |" not in told]
