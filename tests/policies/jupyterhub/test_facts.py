"""Accesses that each domain must and must not have in the kernel policy that `init` builds."""

from __future__ import annotations

import re

import pytest

from sepolicyd.access import Access
from sepolicyd.audit.model import Context
from sepolicyd.policy.explain import explain
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import Ports
from sepolicyd.rollout.setup import base_dontaudit
from tests.paths import POLICIES
from tests.policies.base import is_fedoras

pytestmark = pytest.mark.toolchain

HUB, PROXY, USER = "jupyterhub_t", "jupyterhub_proxy_t", "jupyterhub_user_t"
SECRETS = ("jupyterhub_secret_t", "jupyterhub_tls_t", "jupyterhub_var_lib_t")
CODE = ("jupyterhub_exec_t", "jupyterhub_proxy_exec_t", "jupyterhub_user_exec_t", "bin_t", "lib_t", "usr_t")
OPEN = ("read", "open", "write", "append", "create", "unlink", "rename", "setattr", "map", "execute")
CHANGE = ("write", "append", "create", "unlink", "rename", "setattr", "relabelto", "relabelfrom", "mounton")
PORTS = ("jupyterhub_port_t", "jupyterhub_hub_port_t", "jupyterhub_proxy_port_t")
_POWERS = """
chown dac_override dac_read_search fowner fsetid ipc_lock kill linux_immutable mknod net_admin net_bind_service net_raw
setgid setpcap setuid sys_admin sys_boot sys_chroot sys_module sys_nice sys_ptrace sys_rawio sys_resource sys_time
audit_control audit_write setfcap
"""
POWERS = tuple(_POWERS.split())
# the base policy's own, off in both: for every domain that looks names up, and NIS is gone from both families; Fedora's for
# every domain, which lets it map what it may open
OTHERS_BOOLEANS = {"allow_ypbind", "domain_can_mmap_files"}
# Fedora lets every daemon append to a log in a home that it was started with (userdom_inherit_append_user_home_content_files)
INHERITED = {("jupyterhub_proxy_t", "user_home_t", "append")}

# Name of the fact, source, targets, class, permissions: none of them may be allowed, under no boolean. "a_t|b_t": what the
# families call differently, of which one must be there. "a_t@fedora": a type of that family alone. A type that is missing
# otherwise fails the table.
NEVER = [
    ("a student reads or writes no secret and no state", USER, SECRETS, "file", OPEN),
    ("a student does not even list where they lie", USER, SECRETS, "dir", ("read", "open", "search", "write")),
    ("a student does not read the configuration", USER, ("jupyterhub_etc_t",), "file", OPEN),
    ("a student signals nobody of the service", USER, (HUB, PROXY), "process", ("signal", "sigkill", "sigstop", "signull")),
    ("a student traces nobody, not even himself", USER, (HUB, PROXY, USER, "init_t"), "process", ("ptrace",)),
    ("a student reads nobody's memory", USER, (HUB, PROXY), "file", OPEN),
    ("a student binds none of the hub's ports", USER, PORTS, "tcp_socket", ("name_bind",)),
    ("a student binds no fixed port", USER, ("unreserved_port_t", "http_port_t"), "tcp_socket", ("name_bind",)),
    ("a student does not speak to the proxy's API", USER, ("jupyterhub_proxy_port_t",), "tcp_socket", ("name_connect",)),
    ("a student has no power that is root's", USER, (USER,), "capability", POWERS),
    (
        "a student becomes nobody else",
        USER,
        (HUB, PROXY, "initrc_t", "unconfined_t"),
        "process",
        ("transition", "dyntransition"),
    ),
    ("a student chooses no context", USER, (USER,), "process", ("setexec", "setfscreate", "setcurrent", "setsockcreate")),
    ("nobody writes code", USER, CODE, "file", CHANGE),
    ("nobody adds code", USER, ("bin_t", "lib_t", "usr_t"), "dir", ("write", "add_name", "remove_name")),
    ("the hub does not write code", HUB, CODE, "file", CHANGE),
    ("the hub does not add code", HUB, ("bin_t", "lib_t", "usr_t"), "dir", ("write", "add_name", "remove_name")),
    ("the hub does not write its configuration", HUB, ("jupyterhub_etc_t",), "file", CHANGE),
    ("the proxy does not write code", PROXY, CODE, "file", CHANGE),
    ("the proxy reads no state", PROXY, ("jupyterhub_var_lib_t", "jupyterhub_secret_t"), "file", OPEN),
    (
        "the proxy does not list state",
        PROXY,
        ("jupyterhub_var_lib_t", "jupyterhub_secret_t"),
        "dir",
        ("read", "search", "open"),
    ),
    ("the proxy reads no configuration", PROXY, ("jupyterhub_etc_t",), "file", OPEN),
    ("the proxy reads no home", PROXY, ("user_home_t", "user_home_dir_t"), "file", OPEN),
    ("the hub does not read shadow", HUB, ("shadow_t",), "file", OPEN),
    ("the proxy does not read shadow", PROXY, ("shadow_t",), "file", OPEN),
    ("a student does not read shadow", USER, ("shadow_t",), "file", OPEN),
    ("a student does not start the login helper", USER, ("chkpwd_exec_t",), "file", ("execute", "execute_no_trans")),
    (
        "a student starts neither sudo nor su nor mount",
        USER,
        ("sudo_exec_t", "su_exec_t", "mount_exec_t"),
        "file",
        ("execute",),
    ),
    ("a student reads no kernel log", USER, ("kernel_t",), "system", ("syslog_read", "syslog_mod", "module_request")),
    ("a student mounts nothing", USER, ("mnt_t", "fs_t", "proc_t"), "dir", ("mounton",)),
    ("a student has no raw socket", USER, (USER,), "rawip_socket", ("create",)),
    ("a student has no packet socket", USER, (USER,), "packet_socket", ("create",)),
    (
        "a student commands no unit",
        USER,
        ("init_t", "systemd_unit_t|systemd_unit_file_t"),
        "service",
        ("start", "stop", "status"),
    ),
    (
        "a student speaks to no bus and to nobody on it",
        USER,
        (
            *("system_dbusd_t", "systemd_logind_t", "init_t", "systemd_resolved_t", "unconfined_t", "devicekit_power_t"),
            "vmtools_unconfined_t@fedora",
        ),
        "dbus",
        ("send_msg",),
    ),
    ("a student asks for no kernel module", USER, ("kernel_t",), "system", ("module_request", "module_load")),
    ("a student starts no collector of crashes", USER, ("abrt_helper_t@fedora",), "process", ("transition", "dyntransition")),
    ("a student reads no kernel image", USER, ("boot_t",), "file", ("read", "open", "write", "execute")),
    ("a student reads no source of the system", USER, ("src_t",), "file", ("read", "open", "write")),
    (
        "a student changes no label",
        USER,
        ("user_home_t", "xdg_data_t|data_home_t", "jupyterhub_user_tmp_t"),
        "file",
        ("relabelfrom", "relabelto"),
    ),
    ("a student reads no log", USER, ("var_log_t", "auditd_log_t", "jupyterhub_log_t"), "file", ("read", "open", "write")),
    ("a student loads no policy", USER, ("security_t",), "security", ("load_policy", "setenforce", "setbool")),
    ("no log is shortened", HUB, ("jupyterhub_log_t",), "file", ("write", "unlink", "rename")),
    ("the hub traces nobody", HUB, (HUB, PROXY, USER), "process", ("ptrace",)),
    ("the hub changes no label", HUB, ("user_home_t", "etc_t", "jupyterhub_var_lib_t"), "file", ("relabelfrom", "relabelto")),
]

# what must be possible, with no boolean switched
MUST = [
    ("the hub binds its API", HUB, "jupyterhub_hub_port_t", "tcp_socket", ("name_bind",)),
    ("the proxy binds the public port", PROXY, "jupyterhub_port_t", "tcp_socket", ("name_bind",)),
    ("the proxy binds its API", PROXY, "jupyterhub_proxy_port_t", "tcp_socket", ("name_bind",)),
    ("the proxy reads the TLS key", PROXY, "jupyterhub_tls_t", "file", ("read", "open")),
    ("node compiles", PROXY, PROXY, "process", ("execmem",)),
    ("the hub asks the login helper", HUB, "chkpwd_t", "process", ("transition",)),
    ("the hub becomes the user", HUB, HUB, "capability", ("setuid", "setgid", "audit_write", "kill")),
    ("the hub starts a student's server", HUB, USER, "process", ("transition", "sigkill", "signal", "signull")),
    ("the hub starts the proxy", HUB, PROXY, "process", ("transition", "sigkill", "signal")),
    ("systemd starts the hub", "init_t", HUB, "process", ("transition",)),
    ("logind answers", "systemd_logind_t", HUB, "dbus", ("send_msg",)),
    ("logind looks", "systemd_logind_t", HUB, "dir", ("search",)),
    ("systemd answers", "init_t", HUB, "dbus", ("send_msg",)),
    ("a student writes his files", USER, "user_home_t", "file", ("create", "write", "unlink", "rename")),
    ("a student has a terminal", USER, "jupyterhub_user_devpts_t", "chr_file", ("read", "write", "open", "ioctl")),
    ("a student's server tells the hub", USER, "jupyterhub_hub_port_t", "tcp_socket", ("name_connect",)),
    ("kernels are reached", USER, "ephemeral_port_t|unreserved_port_t", "tcp_socket", ("name_connect",)),
    ("systemd opens the unit's log", "init_t", "jupyterhub_log_t", "file", ("open", "append", "write", "create", "getattr")),
    ("systemd opened it before", "init_t", "var_log_t", "file", ("open", "append", "create", "getattr")),
    ("systemd empties PrivateTmp", "init_t", "jupyterhub_tmp_t", "dir", ("search", "read", "remove_name", "rmdir")),
    ("systemd removes its files", "init_t", "jupyterhub_tmp_t", "file", ("unlink", "getattr")),
    ("systemd empties RuntimeDirectory", "init_t", "jupyterhub_runtime_t", "dir", ("read", "remove_name", "rmdir", "setattr")),
    ("systemd mounts over the configuration", "init_t", "jupyterhub_etc_t", "dir", ("mounton",)),
    ("systemd mounts over secrets", "init_t", "jupyterhub_secret_t", "dir", ("mounton",)),
    ("systemd mounts over one secret", "init_t", "jupyterhub_secret_t", "file", ("mounton",)),
    ("systemd mounts over keys", "init_t", "jupyterhub_tls_t", "dir", ("mounton",)),
    ("systemd mounts over state", "init_t", "jupyterhub_var_lib_t", "dir", ("mounton",)),
    ("logrotate turns the log", "logrotate_t", "jupyterhub_log_t", "file", ("rename", "create", "unlink", "setattr")),
    ("faillock makes its files", HUB, "faillog_t", "file", ("create", "open", "read", "write", "setattr")),
    ("faillock reaches its directory", HUB, "faillog_t", "dir", ("search", "write", "add_name")),
    ("a login shell asks for the host's name", USER, "hostname_exec_t", "file", ("execute", "execute_no_trans", "read")),
]

BOOLEANS = re.compile(r"^gen_tunable\((\w+), (true|false)\)", re.MULTILINE)


@pytest.mark.parametrize(
    ("source", "targets", "tclass", "permissions"), [row[1:] for row in NEVER], ids=[row[0] for row in NEVER]
)
def test_never(either: PolicyIndex, source: str, targets: tuple[str, ...], tclass: str, permissions: tuple[str, ...]) -> None:
    policy = either
    fedora = is_fedoras(policy)
    known = policy.classes[tclass]
    open_doors = []
    asked = 0
    present = [name for target in targets for name in in_policy(policy, target)]
    for target in present:
        for permission in permissions:
            if permission not in known:
                continue
            asked += 1
            answer = policy.allowed(Access.of(source, target, tclass, permission))
            assert not answer.unknown, answer
            if constrained(policy, Access.of(source, target, tclass, permission)):
                continue
            if answer.allowed and fedora and (source, target, permission) in INHERITED:
                continue
            if answer.allowed or any(not set(condition.booleans) <= OTHERS_BOOLEANS for condition in answer.conditions):
                open_doors.append((target, permission, answer.conditions))
    assert asked or not present
    assert open_doors == []


def in_policy(policy: PolicyIndex, target: str) -> list[str]:
    """The types that an entry of the table means in this policy; one that should be there and is not fails the table."""
    name, _, family = target.partition("@")
    found = [each for each in name.split("|") if each in policy.types]
    expected = not family or is_fedoras(policy)
    assert bool(found) == expected, f"{target}: {'missing' if expected else 'there'} in {policy.path}"
    return found


def constrained(policy: PolicyIndex, access: Access) -> bool:
    """Whether a constraint denies an access between a service's process and a file or process of the system."""
    role = "system_r" if access.target_type in policy.domains else "object_r"
    level = "s0" if policy.mls else ""
    contexts = Context("system_u", "system_r", access.source, level), Context("system_u", role, access.target_type, level)
    return bool(explain(policy, access, *contexts).constraints)


@pytest.mark.parametrize(("source", "target", "tclass", "permissions"), [row[1:] for row in MUST], ids=[row[0] for row in MUST])
def test_must(either: PolicyIndex, source: str, target: str, tclass: str, permissions: tuple[str, ...]) -> None:
    (name, *_) = in_policy(either, target)
    asked = [Access.of(source, name, tclass, each) for each in permissions]
    missing = [str(access) for access in asked if not either.allowed(access).allowed or constrained(either, access)]
    assert missing == []


def test_shadow_is_reached_through_the_helper_alone(either: PolicyIndex) -> None:
    readers = set(either.holders("file", "read", "shadow_t"))
    assert "chkpwd_t" in readers
    assert not readers & {HUB, PROXY, USER}
    # the neverallow of the base either still holds for them: none is exempt from it
    exempt = either.types_of("can_read_shadow_passwords")
    assert exempt
    assert not exempt & {HUB, PROXY, USER}
    # whom they may become, and who of those may touch it: in Fedora's policy unix_update is beside the helper
    for source in (HUB, PROXY, USER):
        becomes = {each for each in either.domains if either.allowed(Access.of(source, each, "process", "transition")).allowed}
        touching = {each for each in becomes for may in ("read", "write") if _may_file(either, each, "shadow_t", may)}
        assert touching == ({"chkpwd_t"} if source == HUB else set())


def _may_file(policy: PolicyIndex, source: str, target: str, permission: str) -> bool:
    return policy.allowed(Access.of(source, target, "file", permission)).allowed


def test_entry_only_through_the_own_scripts(either: PolicyIndex) -> None:
    for domain, script in ((HUB, "jupyterhub_exec_t"), (PROXY, "jupyterhub_proxy_exec_t"), (USER, "jupyterhub_user_exec_t")):
        entries = {target for target in either.types if either.allowed(Access.of(domain, target, "file", "entrypoint")).allowed}
        assert entries == {script}


def test_transitions_follow_the_script(either: PolicyIndex) -> None:
    assert either.transition("init_t", "jupyterhub_exec_t", "process") == HUB
    assert either.transition(HUB, "jupyterhub_proxy_exec_t", "process") == PROXY
    assert either.transition(HUB, "jupyterhub_user_exec_t", "process") == USER
    assert either.transition(HUB, "tmpfs_t", "file") == "jupyterhub_tmpfs_t"
    assert either.transition(HUB, "jupyterhub_var_lib_t", "file", "jupyterhub_cookie_secret") == "jupyterhub_secret_t"


@pytest.mark.parametrize(
    ("script", "label"),
    [
        ("jupyterhub", "jupyterhub_exec_t"),
        ("configurable-http-proxy", "jupyterhub_proxy_exec_t"),
        ("jupyterhub-singleuser", "jupyterhub_user_exec_t"),
        ("jupyter-labhub", "jupyterhub_user_exec_t"),
        ("jupyter", ""),
    ],
)
def test_an_upgrade_by_pip_or_npm_keeps_the_labels(policy: PolicyIndex, script: str, label: str) -> None:
    for who in ("unconfined_t", "initrc_t"):
        for directory in ("bin_t", "lib_t", "usr_t"):
            assert policy.transition(who, directory, "file", script) == label


def test_every_port_that_the_kernel_may_choose_can_be_reached(policy: PolicyIndex) -> None:
    """net.ipv4.ip_local_port_range's default; the hub asks a server, a server its kernels, at ports that bind(0) gave."""
    chosen = range(32768, 61000)
    ranges = [item for item in Ports.from_policy(policy).ranges if item.protocol == "tcp"]
    types = {item.type for item in ranges if item.low < chosen.stop and item.high >= chosen.start}
    assert "virt_migration_port_t" in types
    for domain in (HUB, PROXY, USER):
        denied = {kind for kind in types if not policy.allowed(Access.of(domain, kind, "tcp_socket", "name_connect")).allowed}
        assert not denied


def test_who_may_enter_the_students_domain(either: PolicyIndex) -> None:
    entering = {source for source in either.domains if either.allowed(Access.of(source, USER, "process", "transition")).allowed}
    assert entering - either.unconfined == {HUB}


def test_what_each_transition_asks_is_no_question_in_a_lease_without_dontaudit_rules(either: PolicyIndex) -> None:
    silent = base_dontaudit.silent_of(either, (HUB, PROXY, USER))
    asked = {Access.of(HUB, target, "process", each) for target in (PROXY, USER) for each in ("noatsecure", "siginh")}
    assert silent.among(asked, either) == asked
    # of a rule on an attribute nothing else is recorded: it may hide a need of this service
    assert not silent.among({Access.of(HUB, "init_t", "process", "ptrace")}, either)


def test_categories_hold_where_the_spawner_gives_them(either: PolicyIndex) -> None:
    assert USER in either.types_of("mcs_constrained_type")


def test_each_boolean_is_off_and_described(policy: PolicyIndex) -> None:
    text = (POLICIES / "jupyterhub/jupyterhub.te").read_text(encoding="utf-8")
    declared = dict(BOOLEANS.findall(text))
    assert len(declared) >= 10
    for name, default in declared.items():
        assert default == "false"
        assert policy.booleans[name] is False
        assert re.search(rf"## </desc>\ngen_tunable\({name},", text), f"{name} has no description"


def test_each_boolean_opens_something(policy: PolicyIndex) -> None:
    rules = [condition for found in policy.conditional_rules("allow").values() for _, condition in found]
    # where a rule without condition gives the access already, libsepol leaves the transition alone (optimize-policy)
    transitions = " ".join(transition.condition for transition in policy.transitions())
    named = {name for condition in rules for name in condition.booleans} | set(transitions.split())
    declared = {name for name in policy.booleans if name.startswith("jupyterhub_")}
    assert len(declared) >= 10
    assert declared <= named


@pytest.mark.parametrize("boolean", ["use_nfs_home_dirs", "use_samba_home_dirs"])
def test_homes_on_the_network_may_be_mounted_on_demand(policy: PolicyIndex, boolean: str) -> None:
    for domain in (HUB, USER):
        conditions = policy.allowed(Access.of(domain, "autofs_t", "dir", "search")).conditions
        assert any(condition.active({**policy.booleans, boolean: True}) for condition in conditions), domain
