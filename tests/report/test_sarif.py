"""SARIF of analyze and preview: valid by the standard's schema, and every result leads to its line of the log."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any, Callable
from urllib.parse import unquote

import jsonschema
import pytest

from sepolicyd.report.log_lines import LogPlace, find_lines
from sepolicyd.report.sarif import LEVELS, message, previewed, uri_of
from sepolicyd.rules.guard.guard import load_guard
from sepolicyd.rules.guard.level import GuardLevel
from sepolicyd.settings import policy_dirs
from sepolicyd.state.decisions import AnswerKind
from tests.cli.conftest import Ran, Runner
from tests.paths import DATA
from tests.report.test_collect import decide, session_of
from tests.rollout.apply.world import OPEN, READ, World, world

SCHEMA = json.loads((DATA / "sarif/sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8"))


def checked(text: str) -> dict[str, Any]:
    """The only run of a log that is valid by the schema and by what it says of itself."""
    found = json.loads(text)
    jsonschema.Draft4Validator(SCHEMA).validate(found)
    assert found["version"] == "2.1.0"
    (run,) = found["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(rules) == len(set(rules))
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert (result["level"] == "none") is (result["kind"] == "informational")
    return dict(run)


def test_the_schema_refuses_what_is_no_sarif() -> None:
    for wrong in ({"version": "2.1.0"}, {"version": "2.0.0", "runs": []}, {"version": "2.1.0", "runs": [{"results": []}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft4Validator(SCHEMA).validate(wrong)


def analyzed(sepolicyd: Runner, *files: object) -> dict[str, Any]:
    ran: Ran = sepolicyd("analyze", "--sarif", "--root", "/nonexistent-root", *files)
    return checked(ran.out)


def test_each_result_names_a_line_that_holds_its_denial(sepolicyd: Runner, log: Path) -> None:
    run = analyzed(sepolicyd, log)
    lines = log.read_bytes().split(b"\n")
    assert len(run["results"]) > 20
    for result in run["results"]:
        place = result["locations"][0]["physicalLocation"]
        assert unquote(place["artifactLocation"]["uri"]) == f"file://{log}"
        line = lines[place["region"]["startLine"] - 1].decode()
        source, pair = result["properties"]["accesses"][0].split()[:2]
        assert f":{source}:" in line
        assert f"tclass={pair.rpartition(':')[2]}" in line


def test_ids_and_levels_are_those_of_the_guard(sepolicyd: Runner, log: Path) -> None:
    run = analyzed(sepolicyd, log)
    told = json.loads(sepolicyd("analyze", "--json", "--root", "/nonexistent-root", log).out)["candidates"]
    levels = {one["id"]: LEVELS[GuardLevel(one["level"])] for one in told}
    found = {one["partialFingerprints"]["sepolicydCandidate/v1"]: one for one in run["results"]}
    assert {key: one["level"] for key, one in found.items()} == levels
    codes = set(load_guard(policy_dirs()).codes) | {"S-DENIED"}
    assert {one["ruleId"] for one in run["results"]} <= codes
    again = analyzed(sepolicyd, log)
    assert again == run


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_lines_of_packed_logs_are_those_of_their_text(
    sepolicyd: Runner,
    log: Path,
    tmp_path: Path,
    pack: Callable[[bytes], bytes],
) -> None:
    packed = tmp_path / "audit.log.1"
    packed.write_bytes(pack(log.read_bytes()))

    def places(file: Path) -> list[int]:
        return [one["locations"][0]["physicalLocation"]["region"]["startLine"] for one in analyzed(sepolicyd, file)["results"]]

    assert places(packed) == places(log)


def test_the_file_is_named_among_several(sepolicyd: Runner, log: Path, tmp_path: Path) -> None:
    text = log.read_bytes().splitlines(keepends=True)
    first, second = tmp_path / "a b.log", tmp_path / "\u00e9\udcff.log"
    first.write_bytes(b"".join(text[: len(text) // 2]))
    second.write_bytes(b"".join(text[len(text) // 2 :]))
    uris = {
        one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for one in analyzed(sepolicyd, first, second)["results"]
    }
    assert uris <= {uri_of(first), uri_of(second)}
    assert len(uris) == 2
    assert all(uri.isascii() and " " not in uri for uri in uris)


def test_without_a_place_there_is_none(sepolicyd: Runner, tmp_path: Path) -> None:
    pasted = tmp_path / "mail.txt"
    pasted.write_text(
        'avc: denied { read } for pid=7 comm="jupyterhub" name="[x](http://evil) {0}" '
        "scontext=system_u:system_r:jupyterhub_t:s0 tcontext=system_u:object_r:etc_t:s0 tclass=file\n"
    )
    run = analyzed(sepolicyd, pasted)
    (result,) = run["results"]
    assert "locations" not in result
    assert run["invocations"][0]["toolExecutionNotifications"]


def test_grouped_candidates_have_no_sarif(sepolicyd: Runner, log: Path) -> None:
    ran = sepolicyd("analyze", "--grouped", "--sarif", log)
    assert ran.code == 2
    assert "--grouped" in ran.err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{ open read }", "{{ open read }}"),
        ("[text](http://evil)", "\\[text\\](http://evil)"),
        ("a\u202eb\x1b\n", "a\\u202eb\\x1b\\x0a"),
    ],
)
def test_text_of_a_log_is_neither_link_nor_placeholder(text: str, shown: str) -> None:
    assert message(text) == shown


def test_relative_paths_stay_relative() -> None:
    assert uri_of(Path("logs/audit.log")) == "logs/audit.log"
    assert uri_of(Path("/var/log/a#b?.log")) == "file:///var/log/a%23b%3F.log"


def test_the_right_record_of_an_event_is_found(tmp_path: Path) -> None:
    line = 'type=AVC msg=audit(1700000000.123:45): avc:  denied  {{ {} }} for pid=1 comm="x" tclass=file'
    path = tmp_path / "log"
    path.write_text(
        "\n".join(["noise", line.format("read"), "type=SYSCALL msg=audit(1700000000.123:45): x", line.format("open"), ""])
    )
    found = find_lines(
        [tmp_path / "missing", path], {"a": [line.format("open") + "\ntype=SYSCALL ..."], "b": [line.format("lock")]}
    )
    assert found == {"a": LogPlace(path, 4)}


# -- preview ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path) -> World:
    return world(tmp_path)


@pytest.mark.toolchain
def test_preview_names_each_gain_with_its_decision_and_lines(here: World) -> None:
    decide(here, AnswerKind.ALLOW, READ, OPEN, by="<b>", reason="{x}")
    store = session_of(here).decisions()
    plan = here.plan(store.decided())
    store.close()
    place = LogPlace(Path("/var/log/audit/audit.log"), 7)
    run = checked(json.dumps(previewed(plan, {str(READ): place}, load_guard(policy_dirs()))))
    read = next(one for one in run["results"] if one["properties"]["access"] == str(READ))
    opened = next(one for one in run["results"] if one["properties"]["access"] == str(OPEN))
    assert read["locations"][0]["physicalLocation"]["region"]["startLine"] == 7
    te = run["artifacts"][0]["contents"]["text"].split("\n")
    for where in (read["relatedLocations"][0], opened["locations"][0]):
        assert te[where["physicalLocation"]["region"]["startLine"] - 1].startswith("\tallow svc_t svc_data_t:file") or te[
            where["physicalLocation"]["region"]["startLine"] - 1
        ].startswith("allow svc_t svc_data_t:file")
    assert {one["ruleId"] for one in run["results"]} == {"S-GAINED"}
    assert "decision 1" in read["message"]["text"]


@pytest.mark.toolchain
def test_preview_reports_what_the_guard_refuses_as_an_error(here: World) -> None:
    from sepolicyd.access import Access

    decide(here, AnswerKind.ALLOW, Access.of("svc_t", "shadow_t", "file", "write"))
    decide(here, AnswerKind.ALLOW, Access.of("svc_t", "missing_t", "file", "read"))
    store = session_of(here).decisions()
    plan = here.plan(store.decided())
    store.close()
    run = checked(json.dumps(previewed(plan, {}, load_guard(policy_dirs()))))
    assert [(one["ruleId"], one["level"]) for one in run["results"]] == [("R-002", "error"), ("S-LEFT-OUT", "warning")]
