"""Accesses that the broker must and must not have in the kernel policy that `init` builds, and the guard's findings."""

from __future__ import annotations

import re

import pytest

from sepolicyd.access import Access
from sepolicyd.module.store import Store
from sepolicyd.policy import delta
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import FileContexts, Ports
from sepolicyd.profiles import Profile
from sepolicyd.rules.assess.assess import assess
from sepolicyd.rules.fixes import known_denials
from sepolicyd.rules.guard import policy_delta
from sepolicyd.rules.guard.guard import load_guard
from tests.paths import POLICIES
from tests.policies import base
from tests.policies.jupyterhub.conftest import Inited
from tests.rules.lines import candidates_from, line

pytestmark = pytest.mark.toolchain

BROKER = "mosquitto_t"
CONTENT = ("read", "open", "write", "append", "create", "unlink", "rename", "setattr", "map", "execute")
CHANGE = ("write", "append", "create", "unlink", "rename", "setattr", "relabelto", "relabelfrom")
# Booleans of the base policy that are given to every domain, and off in both families
OTHERS_BOOLEANS = {"allow_ypbind", "nis_enabled", "domain_can_mmap_files", "domain_fd_use"}

# Fedora lets every daemon append to a file in a home that it was started with
INHERITED = {("user_home_t", "append")}

# Name of the fact, target, class, permissions; none of them may be allowed, under no boolean
NEVER = [
    ("it does not change its program", "mosquitto_exec_t", "file", CHANGE),
    ("it does not change its configuration", "mosquitto_etc_t", "file", CHANGE),
    ("it does not change keys and passwords", "mosquitto_secret_t", "file", CHANGE),
    ("it neither shortens nor removes its log", "mosquitto_log_t", "file", ("write", "unlink", "rename")),
    ("it runs nothing that it can write", "mosquitto_var_lib_t", "file", ("execute", "execute_no_trans", "map")),
    ("it starts no shell", "shell_exec_t", "file", ("execute_no_trans",)),
    ("it does not read the passwords of the system", "shadow_t", "file", CONTENT),
    ("it reads no home", "user_home_t", "file", CONTENT),
    ("it writes to no home", "user_home_dir_t", "dir", ("write", "add_name", "read")),
    ("it writes no temporary file", "tmp_t", "dir", ("write", "add_name")),
    ("it connects to no mail server", "smtp_port_t", "tcp_socket", ("name_connect",)),
    ("it connects to no ssh server", "ssh_port_t", "tcp_socket", ("name_connect",)),
    ("it connects to no port without an owner", "unreserved_port_t", "tcp_socket", ("name_connect",)),
    ("it listens on no port without an owner", "unreserved_port_t", "tcp_socket", ("name_bind",)),
    ("it traces nobody", "self", "process", ("ptrace", "setexec", "execmem", "setcurrent")),
    ("it gets round no mode of a file", "self", "capability", ("dac_override", "dac_read_search", "fowner", "chown")),
    ("it changes no network", "self", "capability", ("net_admin", "net_raw", "sys_admin", "sys_module", "sys_ptrace")),
]
MUST = [
    ("systemd starts it", "init_t", BROKER, "process", ("transition",)),
    ("it listens", BROKER, "mosquitto_port_t", "tcp_socket", ("name_bind",)),
    ("it becomes its user", BROKER, BROKER, "capability", ("setuid", "setgid")),
    ("it keeps messages", BROKER, "mosquitto_var_lib_t", "file", ("create", "write", "rename", "unlink")),
    ("systemd empties RuntimeDirectory", "init_t", "mosquitto_runtime_t", "dir", ("read", "remove_name", "rmdir")),
    ("logrotate turns its log", "logrotate_t", "mosquitto_log_t", "file", ("rename", "create", "unlink", "setattr")),
]
BOOLEANS = {
    "mosquitto_connect_brokers": Access.of(BROKER, "mosquitto_bridge_port_t", "tcp_socket", "name_connect"),
    "mosquitto_connect_web": Access.of(BROKER, "http_port_t", "tcp_socket", "name_connect"),
    "mosquitto_connect_db": Access.of(BROKER, "mysqld_port_t", "tcp_socket", "name_connect"),
    "mosquitto_bind_http": Access.of(BROKER, "http_port_t", "tcp_socket", "name_bind"),
    "mosquitto_behind_httpd": Access.of("httpd_t", "mosquitto_port_t", "tcp_socket", "name_connect"),
}


@pytest.mark.parametrize(("target", "tclass", "permissions"), [row[1:] for row in NEVER], ids=[row[0] for row in NEVER])
def test_never(policy: PolicyIndex, target: str, tclass: str, permissions: tuple[str, ...]) -> None:
    for permission in permissions:
        verdict = policy.allowed(Access.of(BROKER, target, tclass, permission))
        assert not verdict.unknown
        if base.is_fedoras(policy) and (target, permission) in INHERITED:
            continue
        assert not verdict.allowed, permission
        assert all(set(condition.booleans) <= OTHERS_BOOLEANS for condition in verdict.conditions), permission


@pytest.mark.parametrize(("source", "target", "tclass", "permissions"), [row[1:] for row in MUST], ids=[row[0] for row in MUST])
def test_must(policy: PolicyIndex, source: str, target: str, tclass: str, permissions: tuple[str, ...]) -> None:
    for permission in permissions:
        assert policy.allowed(Access.of(source, target, tclass, permission)).allowed, permission


@pytest.mark.parametrize("name", sorted(BOOLEANS))
def test_each_boolean_opens_what_it_says(policy: PolicyIndex, name: str) -> None:
    conditions = policy.allowed(BOOLEANS[name]).conditions
    states = dict.fromkeys(policy.booleans, False)
    assert not any(condition.active(states) for condition in conditions if set(condition.booleans) == {name})
    assert any(condition.active({**states, name: True}) for condition in conditions if name in condition.booleans)


def test_the_table_has_every_boolean() -> None:
    text = (POLICIES / "mosquitto/mosquitto.te").read_text(encoding="utf-8")
    assert set(re.findall(r"^gen_tunable\((\w+), false\)", text, re.MULTILINE)) == set(BOOLEANS)


def test_nobody_enters_the_domain_but_by_the_broker(policy: PolicyIndex) -> None:
    entries = {name for name in policy.types if policy.allowed(Access.of(BROKER, name, "file", "entrypoint")).allowed}
    assert entries == {"mosquitto_exec_t"}
    assert policy.transition("init_t", "mosquitto_exec_t", "process") == BROKER


def test_init_made_labels_ports_and_the_boolean(inited: Inited, policy: PolicyIndex) -> None:
    store = Store(inited.settings.root)
    contexts = FileContexts.load(store.etc / store.kind / "contexts/files/file_contexts")
    for label in inited.plan.labels:
        assert contexts.lookup(label.path, "dir" if label.tree else "file") == label.type
    table = Ports.from_policy(policy)
    assert {number: table.owner("tcp", number) for number in (1883, 8883, 9001, 2883)} == {
        1883: "mosquitto_port_t",
        8883: "mosquitto_port_t",
        9001: "mosquitto_port_t",
        2883: "mosquitto_bridge_port_t",
    }
    assert policy.booleans["mosquitto_connect_brokers"] is True
    assert inited.done.restart == "systemctl restart mosquitto.service"


def test_the_guard_finds_nothing_to_refuse_in_the_module(policy: PolicyIndex, profile: Profile) -> None:
    difference = delta.difference(Store(base.ROOT).policy(), policy)
    gained = [access for access in difference.gained if access.source == BROKER]
    held = [access for access in gained if not policy_delta.given_to_all(difference, access)]
    # a bound, so that an interface that opens a thousand doors is seen
    assert 200 < len(held) < 1500, len(held)
    assert policy_delta.base(difference, load_guard([POLICIES]), profile) == []


@pytest.mark.parametrize(
    ("access", "level"),
    [
        (Access.of(BROKER, "shadow_t", "file", "read"), "refuse"),
        (Access.of(BROKER, "mosquitto_exec_t", "file", "write"), "refuse"),
        (Access.of("httpd_t", "mosquitto_secret_t", "file", "read"), "refuse"),
        (Access.of(BROKER, "mosquitto_etc_t", "file", "write"), "review"),
        (Access.of(BROKER, "unreserved_port_t", "tcp_socket", "name_connect"), "note"),
    ],
    ids=str,
)
def test_the_guard_knows_the_service_by_its_profile(policy: PolicyIndex, profile: Profile, access: Access, level: str) -> None:
    findings = load_guard([POLICIES]).judge([access], profile, policy)[access]
    assert findings[0].level == level, findings


@pytest.mark.parametrize(
    ("path", "target", "permission", "name", "fix"),
    [
        ("/etc/letsencrypt/live/h/privkey.pem", "cert_t", "read", "letsencrypt", "deploy hook"),
        ("/etc/mosquitto/users.json.new", "mosquitto_etc_t", "create", "dynamic-security", "/var/lib/mosquitto/"),
    ],
)
def test_a_known_denial_has_its_answer(
    profile: Profile, policy: PolicyIndex, path: str, target: str, permission: str, name: str, fix: str
) -> None:
    text = line(permission, BROKER, target, "file", pid=3, comm="mosquitto", path=path)
    (item,) = assess(candidates_from([text]), profile=profile, guard=load_guard([POLICIES]), policy_index=policy)
    first = known_denials.matching(known_denials.load(POLICIES / "mosquitto"), item.candidate, profile, policy)[0]
    assert first.name == name
    assert item.fix.kind == "application"
    assert fix in f"{item.fix.text} {item.fix.commands}"
    assert item.level == "review"
