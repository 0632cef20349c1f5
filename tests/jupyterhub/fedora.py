"""Headers and types as Fedora's differ from the reference policy's, where the base module asks which of them it has.

Fedora's policy is not on this machine. Its sources (fedora-selinux/selinux-policy, policy/modules) say of these names what
the tables in policies/jupyterhub/README.md repeat; this makes Debian's headers lack, or call otherwise, what Fedora does.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from sepolicyd.rollout.init_build import HEADERS

MISSING = (
    "auth_use_pam_motd_dynamic",
    "files_watch_etc_dirs",
    "fs_getattr_cgroup",
    "kernel_read_vm_overcommit_sysctl",
    "userdom_search_user_runtime",
    "userdom_search_user_runtime_root",
)
RENAMED = {
    "files_runtime_file": "files_pid_file",
    "files_runtime_filetrans": "files_pid_filetrans",
    "systemd_stream_connect_userdb": "systemd_userdbd_stream_connect",
}
MISSING_FILES = ("system/xdg.if",)
ADDED = """
interface(`init_nnp_daemon_domain',`
	gen_require(`
		type init_t;
		class process2 { nnp_transition nosuid_transition };
	')

	allow init_t $1:process2 { nnp_transition nosuid_transition };
')

interface(`userdom_search_user_tmp_dirs',`
	gen_require(`
		type user_tmp_t;
	')

	allow $1 user_tmp_t:dir search_dir_perms;
')
"""
FEDORA_TYPES = ("ephemeral_port_t", "cache_home_t", "config_home_t", "data_home_t", "home_bin_t")
TYPES_CIL = "".join(f"(type {name})\n(roletype object_r {name})\n" for name in FEDORA_TYPES)


def make_headers(place: Path) -> Path:
    """A copy of the installed headers in which these names are Fedora's."""
    shutil.copytree(HEADERS, place)
    for name in MISSING_FILES:
        (place / "include" / name).unlink()
    for path in sorted((place / "include").glob("*/*.if")):
        text = path.read_text(encoding="utf-8")
        changed = text
        for name in MISSING:
            changed = re.sub(rf"^interface\(`{name}',.*?^'\)$", "", changed, flags=re.MULTILINE | re.DOTALL)
        for old, new in RENAMED.items():
            changed = re.sub(rf"\b{old}\b", new, changed)
        if path.name == "init.if":
            changed += ADDED
        if changed != text:
            path.write_text(changed, encoding="utf-8")
    return place
