"""The template of a base module: conditional blocks and placeholders."""

from __future__ import annotations

from pathlib import Path

import pytest

from sepolicyd.errors import InputError
from sepolicyd.rollout.setup.new_profile_text import BLOCK, read_template, render_te
from sepolicyd.rollout.setup.unit_facts import Service
from sepolicyd.services.discovery import Label
from sepolicyd.services.unit_file import Unit, parse
from tests.paths import POLICIES


def service(kinds: tuple[str, ...], user: str) -> Service:
    unit = Unit("book.service", values=parse([f"[Service]\nExecStart=/x\nUser={user}\n"]))
    return Service("book", unit, "/x", tuple(Label(f"/{kind}", f"book_{kind}_t") for kind in kinds), ())


def test_each_kind_of_file_brings_its_type_and_its_rules() -> None:
    template = read_template([POLICIES])
    kinds = {block[1] for block in BLOCK.finditer(template)} - {"root"}
    assert {"etc", "var_lib", "log", "runtime"} <= kinds
    for kind in kinds:
        text = render_te(service((kind,), "book"), template)
        assert f"type book_{kind}_t;" in text
        assert f"book_{kind}_t, book_{kind}_t)" in text
        assert "@" not in text
        assert not any(f"book_{other}_t" in text for other in kinds - {kind})


def test_a_unit_of_root_is_told_so() -> None:
    template = read_template([POLICIES])
    assert "starts as root" in render_te(service((), "root"), template)
    assert "starts as root" not in render_te(service((), "book"), template)


def test_without_a_template_it_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no templates/service"):
        read_template([tmp_path])
