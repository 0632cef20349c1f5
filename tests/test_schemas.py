"""The JSON Schemas of guard.yaml and profile.yaml have the loaders' keys, and the shipped files validate."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sepolicyd import profiles
from sepolicyd.errors import InputError
from sepolicyd.rules.guard.rule import parse_rules
from tests.paths import POLICIES

GUARD = """
zzz: 1
rules:
  - {code: X, level: note, title: t, reason: r, source: s, zzz: 1, match: [{zzz: 1}], statements: [{kind: allow, zzz: 1}]}
"""
PROFILE = """
zzz: 1
description: d
roles: [{name: a, domains: [a_t], zzz: 1}]
answering: [{domain: b_t, classes: [file], zzz: 1}]
ports: [{name: p, number: 1, type: p_t, zzz: 1}]
paths: [{pattern: /x, type: x_t, zzz: 1}]
exercises: [{name: e, zzz: 1}]
"""
UNKNOWN = re.compile(r": ([\w\[\].]*)zzz: unknown key; known here: (.*)")


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((POLICIES / "schema" / f"{name}.schema.json").read_text(encoding="utf-8"))
    return loaded


def keys_of_schema(part: dict[str, Any], at: str) -> set[str]:
    for name in re.findall(r"\w+(?=\[\d+\])", at):
        part = part["properties"][name]["items"]
    return set(part["properties"])


@pytest.mark.parametrize(
    ("name", "text", "load", "sections"), [("guard", GUARD, parse_rules, 4), ("profile", PROFILE, profiles.parse, 6)]
)
def test_schema_and_loader_know_the_same_keys(
    name: str, text: str, load: Callable[[Path], object], sections: int, tmp_path: Path
) -> None:
    file = tmp_path / f"{name}.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        load(file)
    found = UNKNOWN.findall(str(error.value))
    assert len(found) == sections, str(error.value)
    for at, known in found:
        assert keys_of_schema(schema(name), at) == set(known.split(", ")), at


FILES = [("guard", POLICIES / "guard.yaml"), *(("profile", path) for path in sorted(POLICIES.glob("*/profile.yaml")))]


@pytest.mark.parametrize(("name", "file"), FILES, ids=lambda value: value.parent.name if isinstance(value, Path) else value)
def test_the_shipped_files_fit_their_schema(name: str, file: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft7Validator(schema(name))
    assert [error.message for error in validator.iter_errors(yaml.safe_load(file.read_text(encoding="utf-8")))] == []
