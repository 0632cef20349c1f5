"""The `doctor` command: JSON schema, documented exit codes, and escaped process names."""

from __future__ import annotations

import json

import pytest

from sepolicyd.cli import doctor
from sepolicyd.problems import Problem, Severity
from sepolicyd.rollout.doctor.baseline import BaselineCheck
from sepolicyd.rollout.doctor.baseline_facts import BaselineFacts, ServiceProcess
from sepolicyd.rollout.doctor.codes import DoctorCode
from tests.cli.conftest import Runner
from tests.paths import POLICIES

EVIL = ServiceProcess("hub.service", 7, "evil\x1b[2J\nname", "unconfined_service_t")


def check_schema(text: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((POLICIES / "schema/doctor.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate(json.loads(text))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, BaselineFacts]:
    facts = {"facts": BaselineFacts()}
    monkeypatch.setattr(doctor, "gather_baseline", lambda settings: facts["facts"])
    return facts


@pytest.mark.parametrize(
    ("facts", "code", "result"),
    [
        (BaselineFacts(), 0, "pass"),
        (BaselineFacts(processes=(EVIL,)), 1, "fail"),
        (BaselineFacts(processes=None), 3, "unknown"),
        (BaselineFacts(processes=(EVIL,), permissive=None), 1, "fail"),
    ],
)
def test_exit_codes_of_the_baseline(
    sepolicyd: Runner, machine: dict[str, BaselineFacts], facts: BaselineFacts, code: int, result: str
) -> None:
    machine["facts"] = facts
    ran = sepolicyd("doctor", "--baseline", "--json")
    assert ran.code == code
    check_schema(ran.out)
    assert json.loads(ran.out)["result"] == result
    assert sepolicyd("doctor", "--baseline").code == code


def test_one_check_alone(sepolicyd: Runner, machine: dict[str, BaselineFacts]) -> None:
    machine["facts"] = BaselineFacts(processes=(EVIL,))
    assert sepolicyd("doctor", "--check", "auditd").code == 0
    ran = sepolicyd("doctor", "--check", "unconfined-services", "--check", "auditd", "--json")
    assert [one["check"] for one in json.loads(ran.out)["checks"]] == ["unconfined-services", "auditd"]
    assert ran.code == 1
    assert sepolicyd("doctor", "--check", "nonsense").code == 2


def test_a_process_cannot_write_to_the_terminal(sepolicyd: Runner, machine: dict[str, BaselineFacts]) -> None:
    machine["facts"] = BaselineFacts(processes=(EVIL,))
    out = sepolicyd("doctor", "--baseline").out
    assert "\x1b" not in out
    assert len(out.splitlines()) == len(BaselineCheck) + 1


def test_problems_fit_the_schema(sepolicyd: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [
        Problem(Severity.STOP, DoctorCode.AUDITD, "auditd is off", "start it"),
        Problem(Severity.NOTE, "D-UNASKED", "x"),
    ]
    monkeypatch.setattr("sepolicyd.rollout.doctor.examine.examine", lambda settings, profile: problems)
    ran = sepolicyd("doctor", "--json")
    assert ran.code == 1
    check_schema(ran.out)
    assert [one["level"] for one in json.loads(ran.out)["problems"]] == ["stop", "note"]
    monkeypatch.setattr("sepolicyd.rollout.doctor.examine.examine", lambda settings, profile: problems[1:])
    assert sepolicyd("doctor", "--json").code == 0


def test_the_schema_knows_every_check() -> None:
    schema = json.loads((POLICIES / "schema/doctor.schema.json").read_text(encoding="utf-8"))
    known = schema["definitions"]["baseline"]["properties"]["checks"]["items"]["properties"]["check"]["enum"]
    assert known == [check.value for check in BaselineCheck]
