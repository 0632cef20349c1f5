"""Profiles are loaded, or all their errors are reported at once with file, line and key path."""

from __future__ import annotations

from pathlib import Path

import pytest

from sepolicyd import profiles
from sepolicyd.errors import InputError, UsageError
from tests.paths import ROOT

POLICIES = ROOT / "policies"

SMALL = """
name: webapp
description: a small service
units: webapp.service
roles:
  - {name: app, domains: [webapp_t], programs: gunicorn}
"""


def write(directory: Path, text: str, name: str = "webapp") -> Path:
    file = directory / name / "profile.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_the_shipped_profile_is_whole() -> None:
    profile = profiles.load("jupyterhub", [POLICIES])
    assert profile.owner("jupyterhub_t").name == "hub"
    assert profile.owner("jupyterhub_proxy_t").name == "proxy"
    assert profile.user_domains == {"jupyterhub_user_t"}
    assert profile.service_domains == {"jupyterhub_t", "jupyterhub_proxy_t"}
    assert set(profile.domains) <= profile.own_types, "the base module declares the profile's domains"
    assert set(profile.secrets) | set(profile.code) <= profile.own_types
    assert {port.type for port in profile.ports} <= profile.own_types
    assert {path.type for path in profile.paths} <= profile.own_types
    assert {"systemd_logind_t", "init_t"} <= set(profile.targets)
    assert {"load_policy_t", "setfiles_t", "semanage_t"} <= set(profile.noise)
    assert [exercise.name for exercise in profile.exercises]


def test_a_small_profile_of_a_users_own_needs_little(tmp_path: Path) -> None:
    write(tmp_path, SMALL)
    profile = profiles.load("webapp", [tmp_path])
    assert profile.units == ("webapp.service",)
    assert profile.roles[0].programs == ("gunicorn",)
    assert profile.noise == profiles.TOOL_NOISE
    assert profiles.load(str(tmp_path / "webapp"), []) == profile
    assert profiles.load(str(tmp_path / "webapp" / "profile.yaml"), []) == profile


def test_the_first_directory_wins(tmp_path: Path) -> None:
    write(tmp_path / "a", SMALL)
    write(tmp_path / "b", SMALL.replace("small", "other"))
    assert profiles.load("webapp", [tmp_path / "a", tmp_path / "b"]).description == "a small service"
    assert profiles.load("webapp", [tmp_path / "none", tmp_path / "b"]).description == "a other service"


def test_all_mistakes_at_once_with_line_and_key_path(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """name: x y
units: jup
bogus: 1
roles:
  - {name: a, domains: [a b, c_t], nme: x}
  - {name: a, user_code: maybe, exes: [bin]}
ports:
  - {name: p, number: 99999, type: "1"}
  - {name: q, number: 80, protocol: icmp, type: q_t}
paths:
  - {pattern: "x(", type: t}
answering:
  - {domain: x}
noise: [c_t]
modules: [nothing.te]
""",
    )
    with pytest.raises(InputError) as error:
        profiles.load(str(file), [])
    text = str(error.value)
    for mistake in (
        f"{file}:1: description: is missing",
        f"{file}:1: name: 'x y' is not a valid module name",
        f"{file}:3: bogus: unknown key",
        f"{file}:5: roles[0].domains[0]: 'a b' is not a valid type name",
        f"{file}:5: roles[0].nme: unknown key",
        f"{file}:5: roles: the role 'a' is defined twice",
        f"{file}:6: roles[1].user_code: must be true or false",
        f"{file}:6: roles[1].exes[0]: 'bin' must begin with /",
        f"{file}:8: ports[0].number: must be a number from 1 to 65535",
        f"{file}:8: ports[0].type: '1' is not a valid type name",
        f"{file}:9: ports[1].protocol: is 'icmp'",
        f"{file}:11: paths[0].pattern: 'x(' is not a regular expression",
        f"{file}:13: answering[0].classes: is missing",
        f"{file}:14: noise: c_t is a domain of the service",
        f"{file}:15: modules: {file.parent} contains no file nothing.te",
    ):
        assert mistake in text, text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("a: [", ":1 is not YAML"),
        ("name: x\n\tdescription: y", "is not YAML"),
        ("- a\n- b\n", "must be a mapping"),
        ("name: &a [*a]\n", "is not YAML"),
        ("name: x\nname: y\ndescription: z\nroles: []\n", "is a duplicate"),
        ("description: x\nroles: 7\n", "roles: must be a list"),
        ("description: {a: 1}\nroles: []\n", "description: must be a text"),
        ("description:\nroles:\n  -\n", "description: has no value"),
    ],
)
def test_broken_yaml_is_one_error_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(InputError) as error:
        profiles.load(str(file), [])
    assert said in str(error.value)
    assert str(file) in str(error.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = write(tmp_path, "x")
    file.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(InputError, match="not UTF-8"):
        profiles.load(str(file), [])


def test_a_file_that_is_too_large_is_not_read_into_objects(tmp_path: Path) -> None:
    file = write(tmp_path, "#" + "x" * (1 << 21))
    with pytest.raises(InputError, match="bytes"):
        profiles.load(str(file), [])


def test_an_unknown_profile_lists_those_that_exist(tmp_path: Path) -> None:
    write(tmp_path, SMALL)
    with pytest.raises(UsageError) as error:
        profiles.load("nope", [tmp_path, POLICIES])
    assert "jupyterhub, mosquitto, webapp" in str(error.value)
    for name in ("", ".", "..", "../webapp", "/no/such/place"):
        with pytest.raises(UsageError):
            profiles.load(name, [tmp_path])


def test_without_a_name_the_directory_names_it(tmp_path: Path) -> None:
    write(tmp_path, SMALL.replace("name: webapp\n", ""), "guestbook")
    assert profiles.load("guestbook", [tmp_path]).name == "guestbook"
    write(tmp_path, SMALL.replace("name: webapp\n", ""), "Not A Name")
    with pytest.raises(InputError, match="is not a valid module name"):
        profiles.load(str(tmp_path / "Not A Name"), [])
