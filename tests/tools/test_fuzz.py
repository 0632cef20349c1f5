"""The fuzzer reads logs and reports differences between readers."""

from __future__ import annotations

from collections import Counter

import pytest

from tools import fuzz


def test_a_few_hundred_logs_agree() -> None:
    logs, wrong, _ = fuzz.run(60.0, 7, most=300)
    assert (logs, wrong) == (300, "")


def test_a_reader_that_loses_a_denial_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "rows", lambda _: Counter())
    _, wrong, log = fuzz.run(60.0, 7, most=50)
    assert wrong.startswith("whole: ")
    assert b"avc:" in log


def test_a_forged_access_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "OF_THE_WRITER", set())
    assert fuzz.run(60.0, 7, most=50)[1].startswith("forged: ")
