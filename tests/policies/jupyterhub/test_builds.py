"""The policy builds with the distribution's headers, without headers, and with Fedora's names; SELint and neverallow pass."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from sepolicyd import process, settings
from sepolicyd.access import Access
from sepolicyd.errors import ToolError, ToolMissingError
from sepolicyd.module import base_module
from sepolicyd.module.store import Store, create_store
from sepolicyd.policy import delta
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.profiles import Profile
from tests.paths import HEADERS
from tests.policies import base
from tests.policies.jupyterhub import fedora
from tests.policies.jupyterhub.conftest import Inited, need_toolchain
from tests.services.jupyterhub.machines import put

pytestmark = pytest.mark.toolchain
OURS = ("jupyterhub_t", "jupyterhub_proxy_t", "jupyterhub_user_t")
LEFT_OUT = frozenset(
    """
    etc_t init_runtime_t init_t init_tmpfs_t initrc_t pam_motd_runtime_t proc_t sysctl_t sysctl_vm_overcommit_t sysctl_vm_t
    systemd_socket_proxyd_t
    systemd_userdbd_runtime_t user_runtime_root_t user_runtime_t var_run_t xdg_cache_t xdg_config_t xdg_data_t
    xdg_documents_t xdg_downloads_t xdg_pictures_t
    """.split()  # noqa: SIM905 a list of names reads better in lines
)
# SELint: W-012 means that use_nfs_home_dirs and use_samba_home_dirs are unknown to it; the base policy of both families
# declares them, and outside a policy's source tree there is no way to tell SELint. Require blocks (S-001) are argued where
# they stand: a type that only one family has, and no interface for it in both.
ACCEPTED = ("W-012",)


def test_selint_is_clean(profile: Profile) -> None:
    if process.which("selint") is None:
        pytest.skip("selint is not installed")
    files = [str(profile.file(suffix)) for suffix in (".te", ".if", ".fc")]
    words = [word for code in ACCEPTED for word in ("-d", code)]
    done = process.run(["selint", "-F", *words, *files], ok=(0, 64, 65, 70))
    findings = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("Note:")]
    assert findings == []


def test_selint_sees_mistakes(profile: Profile, tmp_path: Path) -> None:
    if process.which("selint") is None:
        pytest.skip("selint is not installed")
    bad = profile.file(".te").read_text(encoding="utf-8") + "\nallow jupyterhub_t self:file *;\n"
    place = put(tmp_path, "jupyterhub.te", bad)
    with pytest.raises(ToolError):
        process.run(["selint", "-F", "-d", "W-012", str(place)])


def test_the_plain_text_is_up_to_date(profile: Profile, tmp_path: Path) -> None:
    """Mend with: python -m tests.policies.jupyterhub.regenerate"""
    need_toolchain()
    made = base_module.expand(profile.file(".te").read_text(encoding="utf-8"), "jupyterhub", tmp_path, headers=HEADERS)
    assert made == (profile.directory / "generated/jupyterhub.te").read_text(encoding="utf-8")


def checking_store(place: Path) -> Store:
    """A store in which secilc checks neverallow, which semanage.conf of both families has switched off (expand-check=0)."""
    store = create_store(place)
    config = store.etc / "semanage.conf"
    text = config.read_text(encoding="utf-8")
    assert "expand-check=0" in text
    config.write_text(text.replace("expand-check=0", "expand-check=1"), encoding="utf-8")
    return store


def test_without_headers_the_same_policy_comes_out_and_neverallow_passes(
    inited: Inited, policy: PolicyIndex, profile: Profile, tmp_path: Path
) -> None:
    contexts = base_module.contexts_of(profile.file(".fc").read_text(encoding="utf-8"))
    assert len(contexts) > 10
    package = base_module.build_base(profile, contexts, tmp_path, headers=tmp_path / "none")
    store = checking_store(tmp_path / "root")
    store.install([package], inited.plan.priority)
    difference = delta.difference(policy, store.policy())
    assert not difference.gained
    assert not difference.lost
    bad = put(tmp_path, "bad.cil", "(allow jupyterhub_user_t shadow_t (file (read)))\n")
    with pytest.raises(ToolError, match="neverallow"):
        store.install([bad], 360)


def test_without_headers_and_without_the_plain_text_it_says_so(profile: Profile, tmp_path: Path) -> None:
    for path in profile.directory.glob("*.*"):
        shutil.copy(path, tmp_path)
    from sepolicyd import profiles

    bare = profiles.load(str(tmp_path), [])
    with pytest.raises(ToolMissingError, match="headers") as error:
        base_module.build_base(bare, (), tmp_path, headers=tmp_path / "none")
    assert "selinux-policy-devel" in error.value.hint


def test_with_fedoras_names_each_guard_takes_its_other_way(fedora_policy: PolicyIndex) -> None:
    def may(source: str, target: str, tclass: str, permission: str) -> bool:
        return fedora_policy.allowed(Access.of(source, target, tclass, permission)).allowed

    assert may("jupyterhub_user_t", "ephemeral_port_t", "tcp_socket", "name_connect")
    assert may("jupyterhub_t", "ephemeral_port_t", "tcp_socket", "name_connect")
    assert may("jupyterhub_user_t", "data_home_t", "file", "write")
    assert may("jupyterhub_user_t", "gconf_home_t", "dir", "add_name")
    assert may("jupyterhub_t", "user_tmp_t", "dir", "search")
    assert may("init_t", "jupyterhub_t", "process2", "nnp_transition")
    assert may("jupyterhub_t", "chkpwd_t", "process", "transition")
    assert may("jupyterhub_t", "systemd_userdbd_runtime_t", "sock_file", "write")
    assert not may("jupyterhub_t", "etc_t", "dir", "watch")
    assert not may("jupyterhub_user_t", "xdg_data_t", "file", "write")


def test_fedoras_names_change_nothing_else(policy: PolicyIndex, fedora_names: PolicyIndex) -> None:
    """What the guards leave out where an interface is missing is this much and no more."""
    difference = delta.difference(policy, fedora_names)
    # node and the students look names up without the attribute; all that they lose by that is the hub's on Debian
    lost = {access for access in difference.lost if access.source in OURS}
    through_names = {each for each in lost if each.source != "jupyterhub_t" and holds(policy, "jupyterhub_t", each)}
    foreign = {access.target for access in lost - through_names}
    assert foreign <= LEFT_OUT, sorted(foreign - LEFT_OUT)
    gained = {access.target for access in difference.gained if access.source in OURS}
    more = {"gconf_home_t", "user_tmp_t", "self", "sssd_t", "sssd_var_lib_t", "sssd_public_t", "init_t", "initrc_t"}
    assert gained <= {*fedora.FEDORA_TYPES, *more}, sorted(gained)


def holds(policy: PolicyIndex, source: str, access: Access) -> bool:
    answer = policy.allowed(Access.of(source, access.target, access.tclass, access.permission))
    return answer.allowed or bool(answer.conditions)


@pytest.mark.parametrize("source", ["jupyterhub_user_t", "jupyterhub_proxy_t"])
def test_names_are_looked_up_on_fedora_without_what_its_attribute_gives(fedora_policy: PolicyIndex, source: str) -> None:
    assert source not in fedora_policy.types_of("nsswitch_domain")
    for target, tclass, permission in (
        ("passwd_file_t", "file", "map"),
        ("dns_port_t", "tcp_socket", "name_connect"),
        ("net_conf_t", "file", "read"),
        ("sssd_t", "unix_stream_socket", "connectto"),
        ("sssd_public_t", "file", "read"),
        ("systemd_userdbd_runtime_t", "sock_file", "write"),
    ):
        assert fedora_policy.allowed(Access.of(source, target, tclass, permission)).allowed, target
    for target in ("system_dbusd_t", "init_t"):
        assert not fedora_policy.allowed(Access.of(source, target, "dbus", "send_msg")).allowed
    assert "jupyterhub_t" in fedora_policy.types_of("nsswitch_domain")


ROW = re.compile(r"^\| `(\w+)` \| (\S+) \| ([^|]+) \| ([^|]*) ?\|$", re.MULTILINE)
DEFINED = re.compile(r"^\s*(?:interface|template)\(`(\w+)'", re.MULTILINE)
CALL = re.compile(r"^\s*([a-z][a-z0-9_]*)\(", re.MULTILINE)
LANGUAGE = frozenset(("gen_tunable", "ifdef", "optional_policy", "tunable_policy", "gen_require", "policy_module"))


def test_the_table_of_interfaces_is_complete_and_right_about_debian(profile: Profile) -> None:
    need_toolchain()
    text = profile.file(".te").read_text(encoding="utf-8")
    table = (profile.directory / "README.md").read_text(encoding="utf-8").partition("| interface |")[2]
    rows = {name: (debian, guard) for name, debian, _, guard in ROW.findall(table)}
    include = HEADERS / "include"
    macros = "".join(path.read_text(encoding="utf-8") for path in sorted((include / "support").glob("*.spt")))
    called = {name for name in CALL.findall(text) if name not in LANGUAGE and f"define(`{name}'" not in macros}
    assert called == set(rows)
    for name, (debian, guard) in rows.items():
        if debian == "no":
            found = [path for path in include.glob("*/*.if") if f"interface(`{name}'" in path.read_text(encoding="utf-8")]
            assert found == []
            assert guard.strip()
        else:
            assert f"interface(`{name}'" in (include / debian).read_text(encoding="utf-8")
        assert ("asked for" in guard) == (f"ifdef(`{name}'" in text)


@pytest.mark.skipif(not base.REAL, reason="SEPOLICYD_POLICY_ROOT names no other policy")
def test_the_table_of_interfaces_is_right_about_fedora(policy: PolicyIndex, profile: Profile) -> None:
    if not base.is_fedoras(policy):
        pytest.skip(f"{base.ROOT} is not of Fedora's family")
    table = (profile.directory / "README.md").read_text(encoding="utf-8").partition("| interface |")[2]
    headers = sorted((base.ROOT / settings.HEADERS / "include").glob("*/*.if"))
    defined = {name for path in headers for name in DEFINED.findall(path.read_text(encoding="utf-8", errors="replace"))}
    rows = {name: fedora.startswith("yes") for name, _, fedora, _ in ROW.findall(table)}
    assert len(rows) > 100
    assert {name for name, said in rows.items() if said != (name in defined)} == set()
