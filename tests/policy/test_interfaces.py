"""Interfaces of the reference policy: parsing, small test headers, and comparison with a linked module."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sepolicyd.access import Access
from sepolicyd.errors import InputError, ToolMissingError
from sepolicyd.policy import interfaces
from sepolicyd.policy.delta import difference
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.interface_parser import Names, UnusableError, parse_interface
from sepolicyd.policy.interfaces import Interfaces, one_argument_interfaces
from tests.policy.stores import link, package_with_interfaces
from tests.policy.toys import DEVEL, compile_cil, needs_distribution, needs_secilc, types

pytestmark = pytest.mark.toolchain
needs_m4 = pytest.mark.skipif(shutil.which("m4") is None, reason="m4 is not installed")

SUPPORT = """define(`gen_require',`require { $1 }')
define(`interface',` `define(`$1',` $2 '')')
define(`template',` `define(`$1',` $2 '')')
define(`optional_policy',`optional { $1 }')
define(`tunable_policy',`if ($1) { $2 }')
define(`read_file_perms',`{ read open }')
"""
HEADERS = """
## <summary>Not a parameter of it: $2</summary>
interface(`data_read',`
    gen_require(` type data_t; class file { read open }; ')
    # a comment; allow $1 data_t:file write;
    allow $1 data_t:file read_file_perms;
')
interface(`data_manage',`
    gen_require(` type data_t; ')
    allow $1 data_t:file { { read open } write append };
    allow $1 data_t:dir *;
    dontaudit $1 data_t:file execute;
')
interface(`data_all_but_secret',`
    gen_require(` attribute datas; type secret_t; ')
    allow $1 { datas -secret_t }:file ~{ write append execute entrypoint ioctl };
')
interface(`data_joins',` gen_require(` attribute datas; ') typeattribute $1 datas; allow $1 data_t:file { read open }; ')
interface(`data_tunable',` gen_require(` type data_t; ') tunable_policy(`maybe',` allow $1 data_t:file { read open }; ') ')
interface(`data_of_a_lost_type',` gen_require(` type lost_t; type data_t; ') allow $1 data_t:file { read open }; ')
interface(`data_if_there',`
    gen_require(` type data_t; ')
    allow $1 data_t:file { read open };
    optional_policy(` gen_require(` type lost_t; ') allow $1 lost_t:file { read open }; allow secret_t $1:process ptrace; ')
')
interface(`data_to_two',` allow $1 $2:file { read open }; ')
template(`data_template',` allow $1 data_t:file { read open }; ')
"""
POLICY = (
    types("app_t", "data_t", "secret_t")
    + "(typeattribute datas)(typeattributeset datas (data_t secret_t))(allow datas datas (dir (search)))"
)


@pytest.fixture
def include(tmp_path: Path) -> Path:
    folder = tmp_path / "include"
    (folder / "support").mkdir(parents=True)
    (folder / "support/macros.spt").write_text(SUPPORT)
    (folder / "system").mkdir()
    (folder / "system/data.if").write_text(HEADERS)
    (folder / "build.conf").write_text("TYPE ?= mcs\nDISTRO ?= debian\noverride UBAC := y\n")
    return folder


def accesses(*permissions: str, target: str = "data_t", tclass: str = "file") -> list[Access]:
    return [Access("app_t", target, tclass, permission) for permission in permissions]


@needs_secilc
@needs_m4
def test_offers_with_their_exact_surplus(tmp_path: Path, include: Path) -> None:
    policy_index = PolicyIndex.load(compile_cil(POLICY, tmp_path / "policy"))
    known = Interfaces.load(tmp_path / "cache", include)
    offers = known.covering(policy_index, accesses("read", "open"))
    assert [str(offer) for offer in offers] == ["data_read(app_t)", "data_all_but_secret(app_t)", "data_if_there(app_t)"]
    assert [offer.surplus for offer in offers] == [
        (),
        tuple(accesses("getattr")),
        (Access("secret_t", "app_t", "process", "ptrace"),),
    ]
    (manage,) = known.covering(policy_index, accesses("write"))
    wanted = [*accesses("add_name", "read", "search", "write", tclass="dir"), *accesses("append", "open", "read")]
    assert manage.surplus == tuple(wanted)
    assert manage.silences == tuple(accesses("execute"))


@needs_secilc
@needs_m4
def test_never_when_the_surplus_is_refused(tmp_path: Path, include: Path) -> None:
    policy_index = PolicyIndex.load(compile_cil(POLICY, tmp_path / "policy"))
    known = Interfaces.load(tmp_path / "cache", include)
    offers = known.covering(policy_index, accesses("read", "open"), refuses=lambda access: access.permission == "ptrace")
    assert [offer.interface for offer in offers] == ["data_read", "data_all_but_secret", "data_manage"]
    assert not known.covering(policy_index, accesses("write"), refuses=lambda access: access.permission == "execute")
    # what is asked for is not the interface's surplus, and what the policy allows already is none
    allowed = PolicyIndex.load(compile_cil(POLICY + "(allow app_t data_t (file (getattr)))", tmp_path / "more"))
    first, second, _ = known.covering(allowed, accesses("read"), refuses=lambda access: access.permission == "getattr")
    assert (first.interface, first.surplus) == ("data_all_but_secret", tuple(accesses("open")))
    assert (second.interface, second.surplus) == ("data_read", tuple(accesses("open")))


@needs_secilc
@needs_m4
def test_nothing_to_offer(tmp_path: Path, include: Path) -> None:
    policy_index = PolicyIndex.load(compile_cil(POLICY, tmp_path / "policy"))
    known = Interfaces.load(tmp_path / "cache", include)
    assert known.covering(policy_index, []) == []
    assert known.covering(policy_index, accesses("read", target="nosuch_t")) == []
    assert known.covering(policy_index, [*accesses("read"), Access("secret_t", "data_t", "file", "open")]) == []


@needs_m4
def test_the_cache_is_used_while_the_headers_are_the_same(
    tmp_path: Path, include: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = Interfaces.load(cache, include)
    (kept,) = cache.glob("interfaces-*.json")
    monkeypatch.setattr(interfaces, "expand", lambda *_: pytest.fail("expanded again"))
    assert len(Interfaces.load(cache, include)) == len(first) == 7
    monkeypatch.undo()
    kept.write_text("{ broken")
    assert len(Interfaces.load(cache, include)) == 7
    (include / "system/data.if").write_text(HEADERS + "interface(`data_more',` allow $1 self:process fork; ')\n")
    assert len(Interfaces.load(cache, include)) == 8
    assert len(list(cache.glob("interfaces-*"))) == 1


def test_no_headers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="interfaces are not in") as caught:
        Interfaces.load(tmp_path / "cache", tmp_path)
    assert "selinux-policy-devel" in caught.value.hint


def test_no_m4(tmp_path: Path, include: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPOLICYD_PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match="m4 is not installed"):
        Interfaces.load(tmp_path / "cache", include)


def test_which_interfaces_take_one_argument() -> None:
    assert one_argument_interfaces(HEADERS) == [
        "data_read", "data_manage", "data_all_but_secret", "data_joins", "data_tunable", "data_of_a_lost_type", "data_if_there",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "typeattribute a_t b;",
        "type_transition a_t b_t:process c_t;",
        "if (on) { allow a_t b_t:file read; }",
        "optional { allow a_t b_t:file read; } else { }",
        "optional { allow a_t b_t:file read;",
        "require { type a_t;",
        "allow a_t b_t:file",
        "allow a_t b_t file read;",
        "allow a_t { b_t:file read;",
        "allow a_t b_t:file { read ~write };",
        "role r types a_t;",
        "permissive a_t;",
        "allowxperm a_t b_t:file ioctl 0x5401;",
        "refpolicywarn",
        "allow ; ;",
        "}",
        "}}}{{{",
    ],
)
def test_what_cannot_be_offered(text: str) -> None:
    with pytest.raises(UnusableError):
        parse_interface(text)


def test_sets() -> None:
    every = frozenset("abcd")
    assert Names(frozenset("ab"), frozenset("b")).of(every) == {"a"}
    assert Names(frozenset("ab"), complement=True).of(every) == {"c", "d"}
    assert Names(frozenset("*"), frozenset("d")).of(every) == {"a", "b", "c"}
    (rule,) = parse_interface("allow a_t { { b_t c_t } -d_t self }:{ file dir } { read { open } };").rules
    assert rule.targets == Names(frozenset(("b_t", "c_t", "self")), frozenset(("d_t",)))
    assert rule.permissions.members == {"read", "open"}


PROBED = (
    "files_read_etc_files", "kernel_read_system_state", "corenet_tcp_bind_generic_node", "apache_manage_log",
    "systemd_dbus_chat_logind", "sysnet_dns_name_resolve", "miscfiles_read_localization", "logging_send_syslog_msg",
    "init_use_script_ptys", "corecmd_exec_bin", "nis_use_ypbind_uncond", "seutil_libselinux_linked",
)  # fmt: skip


@pytest.mark.slow
@needs_m4
@needs_distribution
@pytest.mark.skipif(not DEVEL.is_dir(), reason="the reference policy's headers are not installed")
def test_offers_are_what_a_linked_module_gains(tmp_path: Path, distribution: PolicyIndex) -> None:
    """Each interface on a type of its own, compiled by the headers' Makefile and linked in a copy of the store."""
    known = Interfaces.load(tmp_path / "cache")
    usable = [name for name in PROBED if known.text(name) is not None]
    assert len(usable) >= 8
    subjects = {name: f"probe{number}_t" for number, name in enumerate(usable)}
    lines = [f"type {subject};\n{name}({subject})" for name, subject in subjects.items()]
    new = link(
        tmp_path / "root", package_with_interfaces(tmp_path, "probes", "policy_module(probes, 1.0)\n" + "\n".join(lines))
    )
    gained = difference(distribution, new).gained
    for name, subject in subjects.items():
        mine = {access for access in gained if subject in (access.source, access.target_type)}
        text = known.text(name)
        assert text is not None, name
        given = interfaces._within(text, "allow", subject, distribution)
        assert given is not None, name
        # optional blocks are counted though what they need is not there: an offer never promises less than it brings
        assert mine <= given, (name, sorted(map(str, mine - given)))
        assert {access for access in given if not distribution.missing_names(access)[1:]} == mine, name
