"""The wheel contains every policy file and unit."""

from __future__ import annotations

import re

from tests.paths import ROOT

PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_templates_of_the_report_are_package_data() -> None:
    patterns = re.findall(r'"([^"]+)"', re.search(r"^sepolicyd = \[(.*)\]$", PYPROJECT, re.MULTILINE)[1])  # type: ignore[index]
    carried = {path for pattern in patterns for path in (ROOT / "sepolicyd").glob(pattern)}
    assert {path for path in (ROOT / "sepolicyd").rglob("templates/*") if path.is_file()} <= carried
    assert len(carried) > 2


def test_every_policy_file_and_unit_is_in_the_wheel() -> None:
    text = (
        (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[tool.setuptools.data-files]")[2].partition("\n[")[0]
    )
    entries = re.findall(r'^"share/sepolicyd/([^"]+)" = \["([^"]+)"\]$', text, re.MULTILINE)
    carried = {path for target, pattern in entries for path in ROOT.glob(pattern) if target == pattern.rpartition("/")[0]}
    wanted = {path for place in ("policies", "systemd") for path in (ROOT / place).rglob("*") if path.is_file()}
    assert len(wanted) > 20
    assert sorted(str(path) for path in wanted - carried) == []
