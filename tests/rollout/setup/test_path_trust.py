"""Files that `init` refuses to read or relabel, and warnings, with real owners, modes and links."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sepolicyd.problems import Problem, Severity
from sepolicyd.profiles import Profile
from sepolicyd.rollout.setup.path_trust import obeyed, relabelled
from sepolicyd.services.discovery import Found, Label
from sepolicyd.services.unit_file import Unit
from sepolicyd.settings import Settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
PERSON, SERVICE, SYSTEM = 1000, 1777, 130
STATE, CONFIG, UNIT = "/var/lib/hub", "/etc/hub/hub_config.py", "/etc/systemd/system/hub.service"
LABELS = (Label(STATE, "hub_var_lib_t", tree=True), Label("/opt/hub/bin/hub", "hub_exec_t"), Label("/run/hub", "hub_run_t"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (f"{STATE}/db", CONFIG, UNIT, "/opt/hub/bin/hub", "/etc/shadow"):
        place = tmp_path / name[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("x")
        place.chmod(0o644)
    (tmp_path / "etc/passwd").write_text(f"root:x:0:0::/:/bin/sh\nhub:x:{SERVICE}:{SERVICE}::/:/bin/sh\n")
    return tmp_path


def found(root: Path, user: str = "root") -> Found:
    unit = Unit("hub.service", (root / UNIT[1:],), {"Service.User": (user,)})
    return Found(unit, LABELS, configuration=(CONFIG,))


def judged(root: Path, user: str = "root") -> list[Problem]:
    settings = Settings(root=root, state=root / "state", config=root / "none.yaml")
    profile = Profile("hub", "a hub", Path("/nonexistent"), (), ())
    what = found(root, user)
    return [*obeyed(settings, profile, root / "no-headers", what), *relabelled(root, LABELS, what)]


def worst(root: Path, user: str = "root") -> Severity:
    return max((one.level for one in judged(root, user)), default=Severity.NOTE)


def give(path: Path, owner: int) -> None:
    os.chown(path, owner, owner, follow_symlinks=False)


def tree(root: Path, owner: int) -> None:
    for place in (root / STATE[1:], root / f"{STATE[1:]}/db"):
        give(place, owner)


def test_a_machine_of_root_says_nothing(root: Path) -> None:
    assert judged(root) == []


@pytest.mark.parametrize(("owner", "user"), [(SYSTEM, "root"), (SERVICE, "hub")])
def test_what_the_service_owns_is_a_warning(root: Path, owner: int, user: str) -> None:
    tree(root, owner)
    give(root / "opt/hub", owner)
    give(root / CONFIG[1:], owner)
    found = judged(root, user)
    assert {one.level for one in found} == {Severity.WARN}
    assert any("/opt/hub is owned by user" in one.what for one in found)


def _hard_link(root: Path) -> None:
    tree(root, SERVICE)
    os.link(root / "etc/shadow", root / STATE[1:] / "innocent")


def _link_of_a_person(root: Path) -> None:
    (root / STATE[1:] / "data").symlink_to("/etc")
    give(root / STATE[1:] / "data", PERSON)


def _service_and_everybody(root: Path) -> None:
    give(root / CONFIG[1:], SERVICE)
    (root / CONFIG[1:]).chmod(0o666)


REFUSED: dict[str, Callable[[Path], object]] = {
    "tree of a person": lambda root: tree(root, PERSON),
    "parent of a person": lambda root: give(root / "opt", PERSON),
    "tree for everybody": lambda root: (root / STATE[1:]).chmod(0o777),
    "parent for everybody": lambda root: (root / "var").chmod(0o757),
    "program of a person": lambda root: give(root / "opt/hub/bin/hub", PERSON),
    "unit of the service": lambda root: give(root / UNIT[1:], SERVICE),
    "directory of units of a system account": lambda root: give((root / UNIT[1:]).parent, SYSTEM),
    "configuration of a person": lambda root: give(root / CONFIG[1:], PERSON),
    "configuration for everybody": lambda root: (root / CONFIG[1:]).chmod(0o666),
    "the service's, and for everybody": _service_and_everybody,
    "hard link to a file outside": _hard_link,
    "symbolic link of a person": _link_of_a_person,
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_root_would_not_trust_stops_the_plan(root: Path, how: str) -> None:
    REFUSED[how](root)
    stopped = [one for one in judged(root, "hub") if one.level is Severity.STOP]
    assert stopped
    assert all(str(root) in one.what for one in stopped)
    assert all(str(root) in one.hint or "more such" in one.what for one in stopped)


def test_links_of_root_are_no_more_than_a_warning(root: Path) -> None:
    """uv and conda make hard links to their caches, an administrator moves a directory to a larger disk."""
    os.link(root / STATE[1:] / "db", root / "cached")
    assert worst(root) is Severity.WARN
    (root / "opt/hub").rename(root / "data")
    (root / "opt/hub").symlink_to("/data")
    assert worst(root) is Severity.WARN


def test_a_profile_and_headers_of_another_are_not_obeyed(root: Path, tmp_path: Path) -> None:
    headers, profile = tmp_path / "devel", tmp_path / "policies/hub"
    (headers / "include/kernel").mkdir(parents=True)
    (headers / "Makefile").write_text("all:\n")
    interface = headers / "include/kernel/files.if"
    interface.write_text("")
    profile.mkdir(parents=True)
    (profile / "hub.te").write_text("policy_module(hub, 1.0)\n")
    settings = Settings(root=root, config=root / "none.yaml", policy_dirs=(profile.parent,))

    def told() -> list[Problem]:
        return obeyed(settings, Profile("hub", "a hub", profile, (), ()), headers, Found())

    assert told() == []
    for path, verb in ((profile / "hub.te", "loads"), (interface, "compiles"), (headers / "Makefile", "runs")):
        give(path, SYSTEM)
        (problem,) = told()
        assert (problem.level, verb in problem.what, str(path) in problem.hint) == (Severity.STOP, True, True)
        give(path, 0)


def test_many_links_are_counted(root: Path) -> None:
    tree(root, PERSON)
    for number in range(20):
        (root / STATE[1:] / f"link{number}").symlink_to("/etc")
    links = [one for one in judged(root) if one.code == "I-link"]
    assert len(links) == 4
    assert "17 more" in links[-1].what
