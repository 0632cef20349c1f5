"""status --hosts reads what status --json of this version writes."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Runner


def test_the_command_reads_what_it_has_written(learned: Runner, prepared: Path, tmp_path: Path) -> None:
    place = tmp_path / "hosts"
    place.mkdir()
    written = learned("status", "--root", prepared, "--json")
    (place / "this.json").write_text(written.out, encoding="utf-8")
    ran = learned("status", "--hosts", place, "--json")
    (shown,) = json.loads(ran.out)["hosts"]
    given = json.loads(written.out)
    assert (shown["state"], shown["pending"], shown["base_policy"]) == (given["state"], given["pending"], given["base_policy"])
    assert len(given["base_policy"]) == 64
