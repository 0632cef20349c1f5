"""Level none depends on the installed policy: kinds of access to types that no list names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sepolicyd.access import Access
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.index_store import IndexPlace
from sepolicyd.policy.type_owners import SUFFIX, module_directory, type_owners
from sepolicyd.rules.guard.generic_profile import neutral_profile
from sepolicyd.rules.guard.level import GuardLevel, worst
from sepolicyd.rules.guard.type_facts import facts_of_policy
from tests.rules.lines import GUARD, PROFILE

HUB, USER = "jupyterhub_t", "jupyterhub_user_t"
KINDS = [
    ("a host key", "read", "sshd_key_t", "file", GuardLevel.REFUSE),
    ("the database of another service", "read", "mysqld_db_t", "file", GuardLevel.REFUSE),
    ("a unit", "write", "systemd_transient_unit_t", "file", GuardLevel.REFUSE),
    ("a crontab", "create", "user_cron_spool_t", "file", GuardLevel.REFUSE),
    ("the audit rules", "write", "auditd_etc_t", "file", GuardLevel.REFUSE),
    ("becoming another", "dyntransition", "sshd_t", "process", GuardLevel.REFUSE),
    ("the journal", "write", "systemd_journal_t", "file", GuardLevel.REFUSE),
    ("the audit trail", "unlink", "auditd_log_t", "file", GuardLevel.REFUSE),
    ("dumps of memory", "read", "systemd_coredump_var_lib_t", "file", GuardLevel.REFUSE),
    ("memory of a crashed kernel", "read", "crash_device_t", "chr_file", GuardLevel.REFUSE),
    ("the database of Kerberos", "read", "krb5kdc_principal_t", "file", GuardLevel.REFUSE),
    ("another shell for a user", "chsh", HUB, "passwd", GuardLevel.REFUSE),
    ("the journal", "read", "systemd_journal_t", "file", GuardLevel.REVIEW),
    ("a log of others", "read", "var_log_t", "file", GuardLevel.REVIEW),
    ("the memory map of another's process", "read", "sshd_t", "file", GuardLevel.REVIEW),
    ("firmware settings", "read", "efivarfs_t", "file", GuardLevel.REVIEW),
    ("state of another service", "write", "chronyd_var_lib_t", "file", GuardLevel.REVIEW),
    ("state of another service", "read", "chronyd_var_lib_t", "file", GuardLevel.REVIEW),
    ("a socket of another service", "connectto", "sshd_t", "unix_stream_socket", GuardLevel.REVIEW),
    ("a datagram to another service", "sendto", "sshd_t", "unix_dgram_socket", GuardLevel.REVIEW),
    ("a process of another service", "sigkill", "sshd_t", "process", GuardLevel.REVIEW),
    ("a device", "read", "usb_device_t", "chr_file", GuardLevel.REVIEW),
    ("raw packets", "create", HUB, "packet_socket", GuardLevel.REVIEW),
    ("only a look", "search", "chronyd_var_lib_t", "dir", GuardLevel.NOTE),
    ("its own state", "write", "jupyterhub_var_lib_t", "file", GuardLevel.NONE),
    ("its own pipe", "write", HUB, "fifo_file", GuardLevel.NONE),
    ("what every service reads", "read", "etc_t", "file", GuardLevel.NONE),
    ("random numbers", "read", "urandom_device_t", "chr_file", GuardLevel.NONE),
    ("a kernel setting", "read", "sysctl_net_t", "file", GuardLevel.NONE),
    ("a program's size", "getattr", "evolution_exec_t", "file", GuardLevel.NONE),
]


@pytest.mark.parametrize(("what", "permission", "target", "tclass", "level"), KINDS, ids=[f"{k[0]}-{k[1]}" for k in KINDS])
def test_a_kind_of_access_has_its_level(
    what: str, permission: str, target: str, tclass: str, level: GuardLevel, policy_index: PolicyIndex
) -> None:
    found = GUARD.judge_access(Access.of(HUB, target, tclass, permission), PROFILE, policy_index)
    assert worst(finding.level for finding in found) is level, (what, found)


@pytest.mark.parametrize("target", ["sepolicyd_conf_t", "sepolicyd_var_lib_t", "sepolicyd_exec_t"])
@pytest.mark.parametrize("permission", ["read", "write"])
def test_sepolicyds_own_types_are_refused_to_everyone_else(target: str, permission: str) -> None:
    codes = {finding.code for finding in GUARD.judge_access(Access.of(USER, target, "file", permission), PROFILE)}
    assert "R-034" in codes
    own = GUARD.judge_access(Access.of("sepolicyd_t", target, "file", permission))
    assert "R-034" not in {finding.code for finding in own}


def test_a_policy_tells_kin_from_strangers(policy_index: PolicyIndex) -> None:
    facts = facts_of_policy(policy_index)
    assert facts is not None
    assert facts.service_of("sshd_key_t") == facts.service_of("sshd_t")
    assert facts.are_kin("mysqld_t", "mysqld_db_t") and not facts.are_kin("mysqld_t", "sshd_key_t")
    assert facts.is_common(Access.of(HUB, "etc_t", "file", "read"))
    assert not facts.is_common(Access.of(HUB, "sshd_key_t", "file", "read"))


def put_module(modules: Path, priority: int, name: str, *types: str) -> Path:
    place = modules / str(priority) / name
    place.mkdir(parents=True)
    (place / "cil").write_text("".join(f"(type {one})\n(roletype object_r {one})\n" for one in types))
    return place / "cil"


def test_the_module_of_the_highest_priority_owns_a_type_and_a_disabled_one_owns_none(tmp_path: Path) -> None:
    put_module(tmp_path, 100, "ssh", "sshd_t", "old_t")
    put_module(tmp_path, 400, "ssh", "sshd_t", "new_t")
    put_module(tmp_path, 100, "off", "off_t")
    (tmp_path / "disabled").mkdir()
    (tmp_path / "disabled" / "off").touch()
    assert type_owners(tmp_path) == {"sshd_t": "ssh", "new_t": "ssh"}


def test_the_cache_is_read_only_when_no_other_could_have_written_it(tmp_path: Path) -> None:
    modules, place = tmp_path / "modules", IndexPlace(tmp_path / "cache", tmp_path)
    file = put_module(modules, 100, "ssh", "sshd_t")
    assert type_owners(modules, place) == {"sshd_t": "ssh"}
    mark = file.stat()
    file.write_text(file.read_text().replace("sshd_t", "sshx_t"))
    os.utime(file, ns=(mark.st_atime_ns, mark.st_mtime_ns))  # only the kept answer still knows the old name
    assert type_owners(modules, place) == {"sshd_t": "ssh"}
    (kept,) = place.directory.glob(f"*{SUFFIX}")
    kept.chmod(0o666)
    assert type_owners(modules, place) == {"sshx_t": "ssh"}
    (kept,) = place.directory.glob(f"*{SUFFIX}")
    kept.write_bytes(kept.read_bytes().replace(b'"ssh"', b'"bad"'))
    assert type_owners(modules, place) == {"sshx_t": "ssh"}  # its checksum is wrong
    put_module(modules, 100, "mysql", "mysqld_t")
    assert type_owners(modules, place) == {"sshx_t": "ssh", "mysqld_t": "mysql"}


def test_a_policy_file_outside_of_a_store_has_no_modules(tmp_path: Path) -> None:
    assert module_directory(tmp_path / "policy.33") is None
    assert module_directory(tmp_path / "etc/selinux/x/policy/policy.33") is None


@pytest.mark.parametrize("source", ["sshd_t", "chronyd_t", "named_t"])
def test_a_neutral_profile_judges_a_source_for_what_it_is(source: str, policy_index: PolicyIndex) -> None:
    profile = neutral_profile(source, facts_of_policy(policy_index))
    assert profile.domains == (source,) and source in profile.own_types
    foreign = GUARD.judge_access(Access.of(source, "etc_t", "file", "read"), PROFILE, policy_index)
    assert "R-017" in {finding.code for finding in foreign}
    assert GUARD.judge_access(Access.of(source, "etc_t", "file", "read"), profile, policy_index) == []
    other = GUARD.judge_access(Access.of(source, "mysqld_db_t", "file", "read"), profile, policy_index)
    assert worst(finding.level for finding in other) is GuardLevel.REFUSE
