"""The policy index on small policies with every kind of rule, and on the distribution's policy with known figures."""

from __future__ import annotations

import errno
import importlib
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sepolicyd.access import SELF, Access
from sepolicyd.errors import InputError, ToolMissingError
from sepolicyd.policy import policy_files, setools_adapter
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.model import VerdictKind, join_ranges, ranges_of, subtract_ranges
from sepolicyd.policy.policy_files import LIVE_POLICY, find_policy, identity_of
from sepolicyd.policy.selinux_config import selinux_type
from sepolicyd.rollout.session import open_policy
from sepolicyd.settings import Settings
from tests.policy.toys import compile_cil, needs_checkpolicy, needs_debian_12, needs_distribution, needs_secilc, types

# Types are named for what must be answered, in the way of setools' own tests: a query that returns a FAIL type is wrong.
TOY = (
    types(
        "src_t", "attr_t", "bool_t", "free_t", "open_t", "data_t", "wide_t", "child_t", "parent_t", "FAIL_t", "io_t", "quiet_t"
    )
    + """
(typealias src_alias)(typealiasactual src_alias src_t)
(typeattribute domain)(typeattributeset domain (src_t attr_t bool_t free_t child_t parent_t FAIL_t io_t quiet_t))
(typeattribute unconfined_domain_type)(typeattributeset unconfined_domain_type (free_t))
(typeattribute inner)(typeattributeset inner (attr_t))
(typeattribute outer)(typeattributeset outer (or inner wide_t))
(typeattribute rest)(typeattributeset rest (and domain (not (or FAIL_t free_t))))
; a plain rule, through a nested attribute, and on self through an attribute
(allow src_t data_t (file (read open)))
(allow outer data_t (file (write)))
(allow inner self (process (fork)))
; both branches, one of them active
(boolean on true)(boolean off false)
(booleanif off (true (allow bool_t data_t (file (execute)))) (false (allow bool_t data_t (file (append)))))
(booleanif (and on (not off)) (true (allow bool_t data_t (dir (read)))))
(booleanif (xor on off) (false (allow bool_t data_t (dir (write)))))
; hidden, also under a boolean
(dontaudit quiet_t data_t (file (read)))
(booleanif on (true (dontaudit quiet_t data_t (file (write)))))
; bounds: the parent has read alone
(typebounds parent_t child_t)
(allow child_t data_t (file (read write)))
(allow parent_t data_t (file (read)))
; ioctl filtered, by a driver range and by numbers; and by a dontauditx that allows nothing
(allow io_t data_t (file (ioctl)))
(allowx io_t data_t (ioctl file (range 0x5400 0x5410)))
(allowx io_t data_t (ioctl file (range 0x0600 0x07ff)))
(allow io_t data_t (tcp_socket (ioctl)))
(dontauditx io_t data_t (ioctl tcp_socket (0x5401)))
(allow FAIL_t data_t (file (open)))
(allow free_t domain (process (share ptrace sigkill)))
(allow free_t data_t (file (open)))
(typepermissive quiet_t)
(typetransition src_t data_t process attr_t)
(typetransition src_t data_t file "hub.pid" wide_t)
(typetransition src_t data_t file open_t)
"""
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> PolicyIndex:
    return PolicyIndex.load(compile_cil(TOY, tmp_path_factory.mktemp("toy") / "policy"))


FILE = ("data_t", "file")
NUMBER = ((0x5401, 0x5401),)


@pytest.mark.toolchain
@needs_secilc
@pytest.mark.parametrize(
    ("access", "kind"),
    [
        (Access("src_t", *FILE, "read"), VerdictKind.ALLOWED),
        (Access("src_alias", *FILE, "read"), VerdictKind.ALLOWED),
        (Access("src_t", *FILE, "write"), VerdictKind.NONE),
        (Access("attr_t", *FILE, "write"), VerdictKind.ALLOWED),
        (Access("wide_t", *FILE, "write"), VerdictKind.ALLOWED),
        (Access("attr_t", SELF, "process", "fork"), VerdictKind.ALLOWED),
        (Access("attr_t", "src_t", "process", "fork"), VerdictKind.NONE),
        (Access("bool_t", *FILE, "execute"), VerdictKind.BOOLEAN),
        (Access("bool_t", *FILE, "append"), VerdictKind.ALLOWED),
        (Access("bool_t", "data_t", "dir", "read"), VerdictKind.ALLOWED),
        (Access("bool_t", "data_t", "dir", "write"), VerdictKind.BOOLEAN),
        (Access("quiet_t", *FILE, "read"), VerdictKind.DONTAUDIT),
        (Access("quiet_t", *FILE, "write"), VerdictKind.DONTAUDIT),
        (Access("quiet_t", *FILE, "open"), VerdictKind.NONE),
        (Access("child_t", *FILE, "read"), VerdictKind.ALLOWED),
        (Access("child_t", *FILE, "write"), VerdictKind.BOUNDS),
        (Access("io_t", *FILE, "ioctl", NUMBER), VerdictKind.ALLOWED),
        (Access("io_t", *FILE, "ioctl", ((0x0650, 0x0750),)), VerdictKind.ALLOWED),
        (Access("io_t", *FILE, "ioctl", ((0x0650, 0x0850),)), VerdictKind.XPERM),
        (Access("io_t", *FILE, "ioctl", ((0x8901, 0x8901),)), VerdictKind.XPERM),
        (Access("io_t", *FILE, "ioctl"), VerdictKind.ALLOWED),
        (Access("io_t", "data_t", "tcp_socket", "ioctl"), VerdictKind.XPERM),
        (Access("nosuch_t", *FILE, "read"), VerdictKind.UNKNOWN),
        (Access("domain", *FILE, "read"), VerdictKind.UNKNOWN),
        (Access("src_t", "data_t", "nosuch", "read"), VerdictKind.UNKNOWN),
        (Access("src_t", *FILE, "nosuch"), VerdictKind.UNKNOWN),
    ],
    ids=str,
)
def test_answers(toy: PolicyIndex, access: Access, kind: VerdictKind) -> None:
    assert toy.allowed(access).kind is kind


@pytest.mark.toolchain
@needs_secilc
def test_what_an_answer_carries(toy: PolicyIndex) -> None:
    answer = toy.allowed(Access("bool_t", "data_t", "dir", "write"))
    assert [str(item) for item in answer.conditions] == ["!(on ^ off)"]
    assert answer.conditions[0].active({"on": True, "off": True})
    assert toy.allowed(Access("child_t", *FILE, "write")).bound == "parent_t"
    assert toy.allowed(Access("io_t", *FILE, "ioctl")).xperms == ((0x0600, 0x07FF), (0x5400, 0x5410))
    assert toy.missing_names(Access("nosuch_t", "domain", "nosuch", "x")) == [
        "type nosuch_t",
        "attribute, not a type: domain",
        "class nosuch",
    ]


@pytest.mark.toolchain
@needs_secilc
def test_names_and_sets(toy: PolicyIndex) -> None:
    assert toy.types_of("outer") == {"attr_t", "wide_t"}
    assert toy.types_of("src_alias") == {"src_t"}
    assert not toy.types_of("nosuch")
    assert toy.attributes_of("attr_t") >= {"domain", "outer"}  # secilc dissolves `inner`, which has one member
    assert "FAIL_t" not in toy.types_of("rest")
    assert toy.permissive_types == {"quiet_t"}
    assert toy.is_unconfined("free_t")
    assert not toy.is_unconfined("src_t")
    # both branches count, unconfined domains do not
    assert toy.holders("file", "execute", "data_t") == ["bool_t"]
    assert toy.holders("file", "open", "data_t") == ["FAIL_t", "src_t"]
    assert toy.holders("process", "fork", SELF) == ["attr_t"]
    assert [len(toy.tables.rules(kind)) for kind in ("dontaudit", "auditallow")] == [2, 0]
    assert toy.transition("src_t", "data_t", "file", "hub.pid") == "wide_t"
    assert toy.transition("src_t", "data_t", "file", "else") == "open_t"
    assert toy.transition("attr_t", "data_t", "file") == ""


@pytest.mark.toolchain
@needs_secilc
def test_unconfined_by_right_when_the_attribute_is_gone(tmp_path: Path) -> None:
    without = TOY.replace("unconfined_domain_type", "renamed_by_somebody")
    assert PolicyIndex.load(compile_cil(without, tmp_path / "policy")).unconfined == {"free_t"}


@pytest.mark.toolchain
@needs_secilc
@pytest.mark.parametrize("version", [24, 28, 30, 33])
def test_older_policy_versions_and_no_mls(tmp_path: Path, version: int) -> None:
    body = (
        TOY
        if version >= 30
        else "\n".join(line for line in TOY.splitlines() if not line.startswith(("(allowx", "(dontauditx")))
    )
    policy_index = PolicyIndex.load(compile_cil(body, tmp_path / "policy", mls=False, version=version))
    assert policy_index.version == version
    assert not policy_index.mls
    assert policy_index.allowed(Access("attr_t", *FILE, "write")).allowed
    assert policy_index.allowed(Access("attr_t", SELF, "process", "fork")).allowed


@pytest.mark.toolchain
@needs_secilc
def test_sensitivities_rank_by_order_not_by_name(tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(12)]
    extra = "".join(f"(sensitivity {name})" for name in names[2:])
    body = f"{extra}(sensitivityorder ({' '.join(names[1:])}))"
    policy_index = PolicyIndex.load(compile_cil(body, tmp_path / "policy"))
    assert sorted(policy_index.sensitivities, key=policy_index.sensitivities.__getitem__) == names


@pytest.mark.toolchain
@needs_checkpolicy
def test_a_policy_of_checkpolicy(tmp_path: Path) -> None:
    """A policy.conf in the way of setools' tests: attributes with subtraction, self with others, an unused class."""
    conf = """class file class process class unused
sid kernel
class file { read write } class process { fork } class unused { never }
attribute domain; type a_t, domain; type b_t, domain; type FAIL_t, domain; type obj_t;
allow { domain -FAIL_t } obj_t:file read;
allow domain self:process fork;
role r; role r types { a_t b_t FAIL_t obj_t };
user u roles r;
sid kernel u:r:a_t
"""
    source, binary = tmp_path / "policy.conf", tmp_path / "policy"
    source.write_text(conf)
    done = subprocess.run(
        ["checkpolicy", "-c", "31", "-o", str(binary), str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    policy_index = PolicyIndex.load(binary)
    assert policy_index.holders("file", "read", "obj_t") == ["a_t", "b_t"]
    assert policy_index.allowed(Access("FAIL_t", "obj_t", "file", "read")).kind is VerdictKind.NONE
    assert policy_index.allowed(Access("b_t", SELF, "process", "fork")).allowed
    assert policy_index.allowed(Access("b_t", "a_t", "process", "fork")).kind is VerdictKind.NONE


SINK = (
    types("a_t", "b_t", "c_t")
    + """
(typeattribute at)(typeattributeset at (a_t b_t))
(class infiniband_pkey (access))(class infiniband_endport (manage_subnet))(class netif (ingress))(class node (recvfrom))
(common fs (mount unmount))(class filesystem (quota))(classcommon filesystem fs)(class db_table (select))
(classorder (unordered infiniband_pkey infiniband_endport netif node filesystem db_table))
(allow at at (filesystem (mount quota)))
(allow a_t self (db_table (all)))
(neverallow a_t c_t (file (write)))
(auditallow a_t b_t (file (read)))
(ibpkeycon fe80:: (0 0x10) (u r a_t ((s0)(s0))))
(ibendportcon mlx4_0 1 (u r a_t ((s0)(s0))))
(nodecon (10.0.0.0) (255.0.0.0) (u r a_t ((s0)(s0))))
(nodecon (2001:db8::) (ffff:ffff::) (u r b_t ((s0)(s0))))
(netifcon eth0 (u r a_t ((s0)(s0))) (u r b_t ((s0)(s0))))
(portcon dccp 80 (u r a_t ((s0)(s0))))(portcon sctp (100 200) (u r a_t ((s0)(s0))))
(genfscon proc "/" (u r a_t ((s0)(s0))))(genfscon sysfs "/kernel" dir (u r a_t ((s0)(s0))))
(fsuse trans tmpfs (u r a_t ((s0)(s0))))(fsuse task pipefs (u r a_t ((s0)(s0))))
(defaultuser file source)(defaultrole dir target)(defaulttype process source)(defaultrange file target low-high)
(roletransition r a_t process q)(roleallow r q)
(rangetransition a_t b_t process ((s0)(s1 (range c0 c3))))
(typechange a_t b_t dir c_t)(typemember a_t b_t dir c_t)(typetransition a_t b_t file "x y" c_t)
(validatetrans file (or (eq u1 u2) (neq t3 at)))(mlsvalidatetrans file (dom h1 h2))
(constrain (file (read)) (or (eq r1 r2) (eq u1 (u v))))
(roleattribute ra)(roleattributeset ra (r q))(roletype ra c_t)
(boolean x1 true)
(booleanif (and x1 (not x1)) (true (typetransition a_t c_t file b_t)(auditallow a_t c_t (file (read)))))
(optional o1 (allow a_t nosuch_t (file (read))))
"""
)


@pytest.mark.toolchain
@needs_secilc
def test_every_statement_can_be_read(tmp_path: Path) -> None:
    policy_index = PolicyIndex.load(compile_cil(SINK, tmp_path / "policy"))
    counts = {kind: len(lines) for kind, lines in policy_index.statements.items()}
    assert counts == {
        "portcons": 2, "genfscons": 2, "fs_uses": 2, "nodecons": 2, "netifcons": 1, "initialsids": 1, "ibpkeycons": 1,
        "ibendportcons": 1, "rbacrules": 2, "mlsrules": 1, "defaults": 4, "polcaps": 1, "users": 2, "validatetrans": 2,
    }  # fmt: skip
    assert "ibpkeycon fe80:: 0x0-0x10 u:r:a_t:s0" in policy_index.statements["ibpkeycons"]
    assert [constraint.text for constraint in policy_index.constraints] == [
        "constrain file { read } ((r1 == r2) or (u1 == { u v }))"
    ]
    assert policy_index.roles["q"] == {"c_t"}
    assert policy_index.role_allows == {("r", "q")}
    assert policy_index.users["u"] == {"r", "q"}
    assert {rule.rule for rule in policy_index.transitions()} == {"type_change", "type_member", "type_transition"}
    for target, tclass in {(rule.target, rule.tclass) for rule in policy_index.transitions()}:
        of_both = {rule for rule in policy_index.transitions() if (rule.target, rule.tclass) == (target, tclass)}
        assert set(policy_index.transitions_on(target, tclass)) == of_both
    assert list(policy_index.transitions_on("no_such_t", "process")) == []
    assert policy_index.allowed(Access("a_t", "b_t", "filesystem", "mount")).allowed
    assert policy_index.allowed(Access("a_t", SELF, "db_table", "select")).allowed
    assert policy_index.missing_names(Access("a_t", "b_t", "filesystem", "unmount")) == []


# -- the distribution's policy ---------------------------------------------------------------------------------------------


@pytest.mark.toolchain
@needs_debian_12
@pytest.mark.parametrize(
    ("tclass", "permission", "target", "count"),
    [
        ("security", "load_policy", "security_t", 1),
        ("security", "setenforce", "security_t", 2),
        ("capability", "sys_module", SELF, 6),
        ("file", "write", "bin_t", 7),
        ("file", "write", "usr_t", 7),
        ("file", "append", "shadow_t", 8),
        ("file", "write", "var_lib_t", 10),
        ("process", "transition", "unconfined_t", 13),
        ("file", "write", "etc_t", 16),
        ("tcp_socket", "name_bind", "soundd_port_t", 25),
        ("file", "read", "shadow_t", 48),
        ("file", "read", "var_t", 54),
        ("process", "execmem", SELF, 58),
        ("capability", "sys_admin", SELF, 84),
        ("tcp_socket", "name_connect", "transproxy_port_t", 111),
        ("capability", "dac_read_search", SELF, 120),
        ("capability", "dac_override", SELF, 304),
        ("file", "read", "etc_t", 589),
    ],
)
def test_rarity(distribution: PolicyIndex, tclass: str, permission: str, target: str, count: int) -> None:
    """Figures measured independently, of refpolicy 2.20221101 in Debian 12: confined domains that hold the access."""
    assert len(distribution.holders(tclass, permission, target)) == count


@pytest.mark.toolchain
@needs_debian_12
def test_unconfined_domains_by_attribute_and_by_right_agree(distribution: PolicyIndex) -> None:
    named = distribution.types_of("unconfined_domain_type")
    assert len(named) == 24
    assert set(distribution.tables.names_of(distribution._unconfined_by_right())) == named
    assert len(distribution.domains) == 674


@pytest.mark.toolchain
@needs_distribution
def test_five_hundred_answers_as_setools_gives_them(distribution: PolicyIndex) -> None:
    """The index against an expansion by setools, for sources drawn at random; and the time it takes."""
    setools = pytest.importorskip("setools")
    chance = random.Random(5)
    domains, every = sorted(distribution.domains), sorted(distribution.types)
    classes = ["file", "dir", "process", "tcp_socket", "unix_stream_socket", "capability", "fd"]
    asked = []
    for _ in range(500):
        tclass = chance.choice(classes)
        permission = chance.choice(sorted(distribution.classes[tclass]))
        target = chance.choice(domains if tclass in {"process", "fd"} else every)
        asked.append(Access.of(chance.choice(domains), target, tclass, permission))
    started = time.process_time()
    answers = [distribution.allowed(access) for access in asked]
    assert time.process_time() - started < 3.0
    wanted: set[Access] = set()
    sources = {access.source for access in asked}
    for rule in setools.SELinuxPolicy(str(distribution.path)).terules():
        if str(rule.ruletype) == "allow" and rule.enabled():
            lefts = sources & {str(item) for item in rule.source.expand()}
            if lefts:
                rights = {str(item) for item in rule.target.expand()}
                wanted.update(
                    access
                    for access in asked
                    if access.source in lefts
                    and access.target_type in rights
                    and access.tclass == str(rule.tclass)
                    and access.permission in rule.perms
                )
    assert {access for access, answer in zip(asked, answers) if answer.allowed} == wanted
    assert wanted


# -- bad input -------------------------------------------------------------------------------------------------------------


def test_no_such_policy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"policy .*nothing cannot be read: No such file"):
        PolicyIndex.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a kernel policy"),
        (b"module x 1.0;", "not a kernel policy"),
        (struct.pack("<I", setools_adapter.MODULE_MAGIC) + bytes(60), "a policy module"),
        (struct.pack("<I", setools_adapter.PACKAGE_MAGIC), "a policy module"),
    ],
)
def test_not_a_kernel_policy(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "policy.33"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        PolicyIndex.load(path)


def test_a_directory_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory"):
        PolicyIndex.load(tmp_path)


@pytest.mark.toolchain
@needs_secilc
def test_a_newer_version_is_named(tmp_path: Path) -> None:
    path = compile_cil("", tmp_path / "policy")
    content = bytearray(path.read_bytes())
    (length,) = struct.unpack_from("<I", content, 4)
    struct.pack_into("<I", content, 8 + length, 99)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"version 99\) cannot be read by the installed libsepol"):
        PolicyIndex.load(path)


@pytest.mark.toolchain
@needs_secilc
def test_every_truncation_is_an_input_error(tmp_path: Path) -> None:
    whole = compile_cil(TOY, tmp_path / "policy").read_bytes()
    for length in (*range(80), *range(80, len(whole), max(1, len(whole) // 40))):
        path = tmp_path / "cut"
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            PolicyIndex.load(path)


def test_setools_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "setools", None)
    with pytest.raises(ToolMissingError, match="setools is not installed") as caught:
        PolicyIndex.load(_some_file(tmp_path))
    assert "python3-setools" in caught.value.hint


def test_the_speech_toolkit_is_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "setools").mkdir()
    (tmp_path / "setools/__init__.py").write_text('"""Speech Enhancement Tools"""\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "setools", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(ToolMissingError, match="another package of that name") as caught:
        PolicyIndex.load(_some_file(tmp_path))
    assert "pip uninstall setools" in caught.value.hint


def _some_file(folder: Path) -> Path:
    path = folder / "policy.33"
    path.write_bytes(struct.pack("<I", setools_adapter.KERNEL_MAGIC))  # type: ignore[attr-defined]
    return path


# -- where it lies, and when it is another ---------------------------------------------------------------------------------


@pytest.mark.toolchain
@needs_secilc
def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = compile_cil(TOY, tmp_path / "policy")
    policy_index, note = open_policy(Settings(), path)
    assert policy_index is not None and not note
    assert open_policy(Settings(), path)[0] is policy_index
    compile_cil(TOY + "(allow src_t data_t (file (append)))", path)
    os.utime(path, ns=(1, 1))
    fresh, _ = open_policy(Settings(), path)
    assert fresh is not None
    assert fresh.allowed(Access("src_t", *FILE, "append")).allowed
    assert not policy_index.allowed(Access("src_t", *FILE, "append")).allowed
    path.unlink()
    with pytest.raises(InputError):
        open_policy(Settings(), path)


def test_policy_of_a_root(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path)
    with pytest.raises(InputError, match="no policy in"):
        find_policy(settings)
    folder = tmp_path / "etc/selinux/mine/policy"
    folder.mkdir(parents=True)
    for name in ("policy.9", "policy.33", "policy.31", "policy.33.tmp", "policy.\u0663"):
        (folder / name).touch()
    assert selinux_type(tmp_path) == "mine"
    assert find_policy(settings) == folder / "policy.33"
    (tmp_path / "etc/selinux/config").write_text("# SELINUXTYPE=no\nSELINUX=enforcing\nSELINUXTYPE=other\n")
    assert selinux_type(tmp_path) == "other"


@pytest.mark.parametrize(("newest", "taken"), [(33, "policy.33"), (34, "policy.34"), (40, "policy.34"), (20, "policy.34")])
def test_of_two_policies_the_one_that_libselinux_would_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newest: int, taken: str
) -> None:
    folder = tmp_path / "etc/selinux/mine/policy"
    folder.mkdir(parents=True)
    for name in ("policy.33", "policy.34"):
        (folder / name).touch()
    monkeypatch.setattr(Settings, "live", True)
    settings = Settings(root=tmp_path)
    assert find_policy(settings, live=tmp_path / "none", newest=newest) == folder / taken
    monkeypatch.setattr(Settings, "live", False)  # another root: what will load it is not known
    assert find_policy(settings, newest=newest) == folder / "policy.34"


def test_the_newest_version_is_libsepols_or_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policyvers").write_text("99\n")
    monkeypatch.setattr(policy_files, "POLICY_VERSION", tmp_path / "none")
    libsepol = policy_files._newest_version()
    assert libsepol >= 33
    monkeypatch.setattr(policy_files, "POLICY_VERSION", tmp_path / "policyvers")
    assert policy_files._newest_version() == max(99, libsepol)


def test_the_kernels_own_policy_goes_first_on_the_machine_itself(tmp_path: Path) -> None:
    live = tmp_path / "policy"
    live.touch()
    assert find_policy(Settings(), live=live) == live
    assert LIVE_POLICY.is_absolute()


def test_the_kernels_policy_is_known_by_its_load_counter(tmp_path: Path) -> None:
    live, status = tmp_path / "policy", tmp_path / "status"
    live.touch()
    status.write_bytes(struct.pack("<5I", 1, 4, 1, 7, 0))
    first = identity_of(live, live=live, status=status)
    live.write_bytes(b"selinuxfs shows a size once the file was opened")
    status.write_bytes(struct.pack("<5I", 1, 6, 0, 7, 0))  # setenforce moves the sequence and not the counter
    assert identity_of(live, live=live, status=status) == first
    status.write_bytes(struct.pack("<5I", 1, 8, 0, 8, 0))
    assert identity_of(live, live=live, status=status) != first


@pytest.mark.toolchain
@needs_secilc
def test_the_kernels_policy_is_waited_for_while_another_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = compile_cil(TOY, tmp_path / "policy")
    opened = Path.open
    refusals = [OSError(errno.EBUSY, "Device or resource busy"), OSError(errno.EBUSY, "Device or resource busy")]

    def busy(self: Path, *arguments: object, **how: object) -> object:
        if self == path and refusals:
            raise refusals.pop()
        return opened(self, *arguments, **how)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", busy)
    monkeypatch.setattr(setools_adapter, "BUSY_PAUSES_S", (0.0, 0.0, 0.0))
    assert PolicyIndex.load(path).permissive_types == {"quiet_t"}
    assert not refusals


def test_ranges() -> None:
    assert ranges_of(frozenset((1, 2, 3, 7))) == ((1, 3), (7, 7))
    assert join_ranges(((5, 9),), ((1, 4), (20, 30)), ((8, 21),)) == ((1, 30),)
    assert subtract_ranges(((1, 30),), ((5, 6), (10, 40))) == ((1, 4), (7, 9))
    assert subtract_ranges((), ((1, 2),)) == ()
