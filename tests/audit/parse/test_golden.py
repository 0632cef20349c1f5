"""Golden cases: one folder each, with audit.log (purpose in its first line) and expected.json.

UPDATE_GOLDEN=1 rewrites what is expected; the difference is then for a person to read.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from sepolicyd.audit.model import Context, EventId
from tests.audit.parse.reading import read_file

CASES = sorted(path for path in (Path(__file__).parent / "golden").iterdir() if path.is_dir())


def plain(value: Any) -> Any:
    """Dataclasses as JSON, without what is empty and without the raw lines."""
    if isinstance(value, Context):
        return str(value)
    if isinstance(value, EventId):
        return f"{value.node} {value.time}:{value.serial}".strip()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {
            spec.name: plain(getattr(value, spec.name))
            for spec in dataclasses.fields(value)
            if spec.name not in ("raw", "text")
        }
        return {key: one for key, one in found.items() if one not in ("", None, [])}
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    return getattr(value, "value", value)


def read(log: Path) -> dict[str, Any]:
    result = read_file(log)
    return {
        "counts": {
            name: getattr(result, name)
            for name in ("lines", "denials", "granted", "notices", "other", "unparsed_count")
            if getattr(result, name)
        },
        "denials": [{**plain(one.denial), "count": one.count} for one in result.sightings],
        "granted": [{**plain(one.denial), "count": one.count} for one in result.granted_sightings],
        "notices": plain(result.notice_list),
        "errors": plain(result.errors),
        "unparsed": [f"{one.line}: {one.message}" for one in result.unparsed],
    }


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_golden(case: Path) -> None:
    assert (case / "audit.log").read_bytes().startswith(b"# ")
    found = json.dumps(read(case / "audit.log"), indent=1, ensure_ascii=False) + "\n"
    expected = case / "expected.json"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(found)
    assert found == expected.read_text()


def test_there_are_cases() -> None:
    assert len(CASES) >= 34
