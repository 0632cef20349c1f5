"""The bench's logic without a machine: package sources, denials, module text, table, exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import __main__ as runner
from tests.vm import image
from tests.vm.bench import AVC, Figures, Scenario, listed
from tests.vm.errors import CannotRun, Failed, Lost
from tests.vm.machine import Accelerator
from tests.vm.scenarios import ALL
from tests.vm.scenarios.hand import opened

DEB822 = """Types: deb
# a comment
URIs: http://archive.example/debian http://second.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://vendor.example/node
Suites: nodistro
Components: main

Enabled: no
Types: deb
URIs: http://archive.example/off
Suites: bookworm
Components: main
"""


def test_sources_of_this_release_are_taken_and_other_vendors_left(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://commented.example bookworm main\n"
        "deb [signed-by=/k.gpg arch=amd64] http://one.example/debian bookworm main\n"
        "deb http://vendor.example/apt cloud-sdk-bookworm main\n"
        "deb-src http://one.example/debian bookworm main\n"
    )
    (tmp_path / "sources.list.d/debian.sources").write_text(DEB822)
    (tmp_path / "sources.list.d/old.sources.disabled").write_text(DEB822.replace("archive", "disabled"))
    keyring = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    assert image.package_sources("bookworm", tmp_path).splitlines() == [
        "deb [signed-by=/k.gpg arch=amd64] http://one.example/debian bookworm main",
        f"deb {keyring} http://archive.example/debian bookworm main contrib",
        f"deb {keyring} http://second.example/debian bookworm main contrib",
        f"deb {keyring} http://archive.example/debian bookworm-updates main contrib",
        f"deb {keyring} http://second.example/debian bookworm-updates main contrib",
    ]


def test_no_source_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="has no package source for trixie"):
        image.package_sources("trixie", tmp_path)


@pytest.mark.parametrize(
    ("line", "access"),
    [
        (
            'type=AVC msg=audit(1.000:1): avc:  denied  { read open } for  pid=1 comm="a b" '
            "scontext=system_u:system_r:jupyterhub_t:s0-s0:c0.c1023 tcontext=system_u:object_r:shadow_t:s0 "
            "tclass=file permissive=1",
            ("read open", "jupyterhub_t", "shadow_t", "file", "1"),
        ),
        (
            "type=USER_AVC msg=audit(1.000:2): pid=9 msg='avc:  denied  { send_msg } for msgtype=method_return "
            "scontext=system_u:system_r:systemd_logind_t:s0 tcontext=system_u:system_r:jupyterhub_t:s0 "
            "tclass=dbus permissive=0",
            ("send_msg", "systemd_logind_t", "jupyterhub_t", "dbus", "0"),
        ),
    ],
    ids=["kernel", "user space"],
)
def test_a_denial_is_read(line: str, access: tuple[str, ...]) -> None:
    match = AVC.search(line)
    assert match is not None
    assert match.groups() == access


def test_granted_is_no_denial() -> None:
    assert AVC.search("avc:  granted  { read } for scontext=a:b:c_t:s0 tcontext=a:b:d_t:s0 tclass=file") is None


def test_rules_of_a_module_are_counted() -> None:
    te = "module x 1.0;\nallow a_t b_t:file { open read };\n#!!!! a remark\nallow a_t self:process execmem;\n"
    assert opened(te) == (2, 3)


def test_accesses_are_listed_as_rules() -> None:
    assert listed([("a", "b", "file", "read"), ("a", "b", "file", "open"), ("a", "c", "dir", "search")]) == (
        "a b:file { open read }; a c:dir { search }"
    )


def test_the_ways_a_run_ends_have_codes_of_their_own() -> None:
    assert {Failed.exit_code, CannotRun.exit_code, Lost.exit_code} == {1, 4, 5}


def test_the_table_shows_what_was_not_measured_and_a_second_start() -> None:
    scenario = Scenario("smoke", "slim", "", lambda context: None)
    figures = Figures(denials=12, new_denials=0)
    text = runner.table([runner.Outcome(scenario, "passed", 3.25, figures, again=True)])
    assert text.splitlines()[1].split() == ["smoke", "passed", "(second", "start)", "3.2", "12", "-", "-", "-", "0"]


@pytest.mark.parametrize(("cores", "jobs", "each"), [(2, 1, 2), (2, 2, 1), (1, 2, 1), (8, 2, 2), (8, 8, 1)])
def test_guests_together_have_no_more_processors_than_the_machine(
    monkeypatch: pytest.MonkeyPatch, cores: int, jobs: int, each: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert runner.processors(jobs) == each
    assert Accelerator("tcg", each).argv()[-2:] == ["-smp", str(each)]


def test_names_of_scenarios_are_distinct_and_unknown_ones_refused() -> None:
    assert len({scenario.name for scenario in ALL}) == len(ALL)
    with pytest.raises(CannotRun, match="there is no scenario nonsense"):
        runner.chosen(["nonsense"])
