"""The `analyze` command: counts, keys, policy text, and messages for input that is not a log."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import DATA, Runner

KEYS = {"lines", "denials", "granted", "unparsed", "candidates", "foreign", "notices", "other", "policy_note"}
CANDIDATE_KEYS = {
    "id", "revision", "source", "target", "class", "permissions", "level", "findings", "fix", "alternatives", "evidence",
    "opens", "sentence", "approvable", "why_not", "roles",
}  # fmt: skip
HOSTILE = (
    b"type=AVC msg=audit(1700000000.123:7): avc:  denied  { read } for  pid=7 comm=1B5B33316D name=1B5D303B0A78 dev=vda ino=1 "
    b"scontext=system_u:system_r:jupyterhub_t:s0 tcontext=system_u:object_r:etc_t:s0 tclass=file permissive=1\n"
)


def accesses(document: dict[str, list[dict[str, object]]]) -> set[tuple[object, ...]]:
    return {
        (one["source"], one["target"], one["class"], permission)
        for one in document["candidates"]
        for permission in one["permissions"]  # type: ignore[attr-defined]
    }


def test_the_log_of_one_domain_holds_exactly_396_accesses(sepolicyd: Runner) -> None:
    ran = sepolicyd("analyze", "--all", "--json", next(DATA.glob("02-*")))
    document = json.loads(ran.out)
    assert ran.code == 0
    assert document.keys() >= KEYS
    assert document["denials"] == 524
    assert document["unparsed"] == []
    assert len(accesses(document)) == 396
    assert all(one.keys() >= CANDIDATE_KEYS for one in document["candidates"])


def test_the_profile_leaves_other_services_out(sepolicyd: Runner, log: Path) -> None:
    everything = json.loads(sepolicyd("analyze", "--all", "--json", log).out)
    ours = json.loads(sepolicyd("analyze", "--json", log).out)
    assert accesses(ours) < accesses(everything)
    assert ours["foreign"] > 0
    assert {source for source, *_ in accesses(ours)} >= {"jupyterhub_t", "jupyterhub_user_t", "systemd_logind_t"}
    assert "systemd_tmpfiles_t" not in {source for source, *_ in accesses(ours)}


def test_ids_do_not_depend_on_the_order_of_the_lines(sepolicyd: Runner, log: Path, tmp_path: Path) -> None:
    other = tmp_path / "reversed.log"
    other.write_bytes(b"".join(reversed(log.read_bytes().splitlines(keepends=True))))
    first, second = (json.loads(sepolicyd("analyze", "--all", "--json", path).out) for path in (log, other))
    assert {one["id"] for one in first["candidates"]} == {one["id"] for one in second["candidates"]}


@pytest.mark.toolchain
@pytest.mark.parametrize("number", ["01", "02", "03", "04"])
def test_te_is_what_checkmodule_accepts(sepolicyd: Runner, tmp_path: Path, number: str) -> None:
    ran = sepolicyd("analyze", "--all", "--te", next(DATA.glob(f"{number}-*")))
    source = tmp_path / "local_candidates.te"
    source.write_text(ran.out, encoding="utf-8")
    assert ran.code == 0
    subprocess.run(["checkmodule", "-M", "-m", "-o", source.with_suffix(".mod"), source], check=True, capture_output=True)
    # refused: never in a rule; it stands in a comment with its fix
    lines = [text for text in ran.out.splitlines() if "shadow_t" in text]
    assert all(text.startswith("#") for text in lines)


def test_standard_input_and_gzip(sepolicyd: Runner, log: Path, tmp_path: Path) -> None:
    packed = tmp_path / "audit.log.1"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert accesses(json.loads(sepolicyd("analyze", "--json", packed).out)) == accesses(
        json.loads(sepolicyd("analyze", "--json", log).out)
    )
    script = shutil.which("sepolicyd", path=str(Path(__import__("sys").executable).parent))
    assert script is not None
    done = subprocess.run([script, "analyze", "--json", "-"], input=log.read_bytes(), capture_output=True, check=True)
    assert json.loads(done.stdout)["denials"] == 572


def test_nothing_of_the_log_reaches_the_terminal_as_it_is(sepolicyd: Runner, tmp_path: Path) -> None:
    path = tmp_path / "hostile.log"
    path.write_bytes(HOSTILE)
    for arguments in ((), ("--details",), ("--json",), ("--te",)):
        ran = sepolicyd("analyze", *arguments, path)
        assert ran.code == 0
        assert "\x1b" not in ran.out + ran.err
    assert "\\x1b[31m" in sepolicyd("analyze", "--details", path).out


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, 2), (b"", 0), (bytes(range(256)) * 64, 1), (b"\x1f\x8b\x08\x00rubbish", 1)],
    ids=["missing", "empty", "binary", "broken-gzip"],
)
def test_input_that_is_no_log(sepolicyd: Runner, tmp_path: Path, content: bytes, code: int) -> None:
    path = tmp_path / "input"
    if content is not None:
        path.write_bytes(content)
    ran = sepolicyd("analyze", "--json", path)
    assert ran.code == code
    assert "Traceback" not in ran.err
    if code:
        assert str(path) in ran.err
    else:
        assert json.loads(ran.out)["candidates"] == []


def test_a_truncated_gzip_gives_what_was_in_it_and_says_so(sepolicyd: Runner, log: Path, tmp_path: Path) -> None:
    path = tmp_path / "audit.log.2.gz"
    path.write_bytes(gzip.compress(log.read_bytes())[:-2000])
    document = json.loads(sepolicyd("analyze", "--json", path).out)
    assert document["candidates"]
    assert any("truncated" in line["reason"] for line in document["unparsed"])


@pytest.mark.parametrize(("text", "told"), [(b"nothing of auditd's\n", True), (b"", False)])
def test_a_file_without_a_single_record_is_asked_about(sepolicyd: Runner, tmp_path: Path, text: bytes, told: bool) -> None:
    path = tmp_path / "input"
    path.write_bytes(text)
    ran = sepolicyd("analyze", "--grouped", path)
    assert ran.code == int(told)
    assert ("none of the lines is an audit record" in ran.err) is told


def test_a_directory_is_no_log(sepolicyd: Runner, tmp_path: Path) -> None:
    ran = sepolicyd("analyze", tmp_path)
    assert ran.code == 2
    assert "is a directory" in ran.err


def test_an_unknown_profile_names_those_that_exist(sepolicyd: Runner, log: Path) -> None:
    ran = sepolicyd("analyze", "--profile", "nosuch", log)
    assert ran.code == 2
    assert "jupyterhub" in ran.err


def test_every_mistake_of_a_profile_is_told_at_once(sepolicyd: Runner, log: Path, tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text("name: x\nroles: 7\nunits: {a: b}\nnosuchkey: 1\n")
    ran = sepolicyd("analyze", "--profile", path, log)
    assert ran.code == 2
    for number in (2, 3, 4):
        assert f"{path}:{number}:" in ran.err


def test_a_policy_that_is_none(sepolicyd: Runner, log: Path, tmp_path: Path) -> None:
    path = tmp_path / "policy.33"
    path.write_bytes(b"not a policy")
    ran = sepolicyd("analyze", "--policy", path, log)
    assert ran.code in (2, 3)
    assert str(path) in ran.err
    assert "Traceback" not in ran.err


def test_text_that_is_not_auditds_is_said_to_prove_nothing(sepolicyd: Runner, log: Path, tmp_path: Path) -> None:
    """On stderr and in JSON; never for a log of auditd."""
    quoted = tmp_path / "mail"
    quoted.write_bytes(b"".join(b"> " + line for line in log.read_bytes().splitlines(keepends=True)))
    for path, said in ((quoted, True), (log, False)):
        ran = sepolicyd("analyze", "--grouped", "--json", path)
        notes = json.loads(ran.out)["input_notes"]
        assert any("origin is unproven" in note for note in notes) is said
        assert ("origin is unproven" in ran.err) is said
        assert ran.code == 0


def test_a_report_without_records_ends_with_what_to_give_instead(sepolicyd: Runner, tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_text("At 08:53:15 11/14/22 system, acting as root, unsuccessfully violated-policy menu using kiosk\n")
    for options in (("--grouped",), ("--grouped", "--json"), ("--te",)):
        ran = sepolicyd("analyze", *options, path)
        assert ran.code == 1
        assert "ausearch --raw -m AVC" in ran.err


def test_an_attempt_is_counted_and_listed(sepolicyd: Runner, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_text(
        "type=USER_AVC msg=audit(1795377193.100:300): pid=1 uid=0 auid=1 subj=u:r:init_t:s0 msg='avc:  denied  { status } "
        'for auid=n/a uid=1 gid=1 cmdline="scontext=u:r:jupyterhub_t:s0" scontext=u:r:x_t:s0 tcontext=u:r:init_t:s0 '
        'tclass=system exe="/usr/lib/systemd/systemd" sauid=0 hostname=? addr=? terminal=?\'\n'
    )
    ran = sepolicyd("analyze", "--grouped", "--json", path)
    document = json.loads(ran.out)
    assert document["candidates"] == []
    assert [line["attempt"] for line in document["unparsed"]] == [True]
    assert "attempts to forge" in ran.err
