"""Policy headers and a base policy with those differences of Fedora's policy that affect the base module.

Its sources (fedora-selinux/selinux-policy, policy/modules) say of these names what the tables in policies/jupyterhub/README.md
repeat; tests/data/fedora/facts.yaml holds what policies built from them say, and both this stand-in and a real policy are asked
(test_fedora_facts.py). This makes Debian's headers lack, call otherwise or hold more than the
reference policy's, and gives the linked policy the rules that Fedora has for every domain. Facts are repeated, no text.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.paths import HEADERS

MISSING = (
    "auth_use_pam_motd_dynamic",
    "files_watch_etc_dirs",
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
ADDED = {
    "system/init.if": """
interface(`init_nnp_daemon_domain',`
	gen_require(`
		type init_t;
		class process2 { nnp_transition nosuid_transition };
	')

	allow init_t $1:process2 { nnp_transition nosuid_transition };
')
""",
    "system/userdomain.if": """
interface(`userdom_search_user_tmp_dirs',`
	gen_require(`
		type user_tmp_t;
	')

	allow $1 user_tmp_t:dir search_dir_perms;
')
""",
    "system/authlogin.if": """
interface(`auth_read_passwd',`
	gen_require(`
		type passwd_file_t;
	')

	allow $1 passwd_file_t:file read_file_perms;
	init_dbus_chat($1)
')
""",
}
# What Fedora's has another body for. A daemon gets its role, and init_t the right to start it, from the attribute; who looks
# names up is on the bus (its rules there are the attribute's, in authlogin.te); the login helper is not alone.
BODIES = {
    "init_daemon_domain": """
	gen_require(`
		attribute daemon, direct_init_entry, initrc_domain;
	')

	typeattribute $1 daemon;
	typeattribute $2 direct_init_entry;
	domain_type($1)
	domain_entry_file($1, $2)
	type_transition initrc_domain $2:process $1;
""",
    "auth_use_nsswitch": """
	gen_require(`
		attribute nsswitch_domain;
	')

	typeattribute $1 nsswitch_domain;
	auth_read_passwd($1)
	dbus_system_bus_client($1)
""",
}
# Of each domain transition; Fedora has one rule for every domain (kernel/domain.te).
AT_TRANSITION = "\tdontaudit $1 $3:process { noatsecure siginh rlimitinh };\n"
MORE = {"auth_domtrans_chk_passwd": "\tauth_domtrans_upd_passwd($1)\n"}
FEDORA_TYPES = (
    "ephemeral_port_t",
    "cache_home_t",
    "config_home_t",
    "data_home_t",
    "home_bin_t",
    "passwd_file_t",
    "unconfined_service_t",
    "abrt_helper_t",
    "vmtools_unconfined_t",
)
# system/init.te: what init_daemon_domain() gives in the reference policy is the attribute's here
ATTRIBUTES = """
(typeattribute direct_init_entry)
(typeattribute initrc_domain)
(typeattributeset initrc_domain (init_t initrc_t))
(roletype system_r daemon)
(allow initrc_domain daemon (process (transition)))
(allow daemon initrc_domain (fd (use)))
(allow daemon initrc_domain (process (sigchld)))
(allow initrc_domain direct_init_entry (file (getattr open read execute map)))
(allow daemon init_t (unix_dgram_socket (sendto)))
"""
# kernel/domain.te, system/application.te, system/init.te: what every domain, application and daemon may
RULES = """
(booleanif domain_fd_use (true (allow domain domain (fd (use)))))
(boolean domain_fd_use true)
(booleanif domain_can_mmap_files (true (allow domain file_type (file (map)))))
(boolean domain_can_mmap_files false)
(dontaudit domain domain (process (noatsecure rlimitinh siginh)))
(allow domain domain (key (link search)))
(allow domain tmpfile (file (getattr read ioctl lock append)))
(allow domain init_t (process (sigchld signull)))
(allow domain abrt_helper_t (process (transition)))
(booleanif domain_kernel_load_modules (true (allow domain kernel_t (system (module_request)))))
(boolean domain_kernel_load_modules true)
(allow domain systemd_resolved_t (dbus (send_msg)))
(allow domain vmtools_unconfined_t (dbus (send_msg)))
(typeattributeset exec_type (nfs_t cifs_t usr_t))
(typeattributeset entry_type (nfs_t cifs_t usr_t))
(typeattribute base_ro_file_type)
(typeattributeset base_ro_file_type (bin_t boot_t src_t usr_t))
(allow domain base_ro_file_type (file (getattr open read)))
(typeattributeset domain (unconfined_service_t abrt_helper_t vmtools_unconfined_t))
(roletype system_r unconfined_service_t)
(allow application_domain_type logfile (file (getattr append)))
(allow application_domain_type user_home_t (file (getattr append)))
(allow daemon logfile (file (getattr append)))
(allow daemon user_home_t (file (getattr append)))
"""
NAMES_CIL = ATTRIBUTES + "".join(f"(type {name})\n(roletype object_r {name})\n" for name in FEDORA_TYPES)


def make_headers(place: Path) -> Path:
    """A copy of the installed headers in which these names are Fedora's."""
    shutil.copytree(HEADERS, place)
    for name in MISSING_FILES:
        (place / "include" / name).unlink()
    patterns = place / "include/support/misc_patterns.spt"
    patterns.write_text(patterns.read_text(encoding="utf-8").replace(AT_TRANSITION, ""), encoding="utf-8")
    for path in sorted((place / "include").glob("*/*.if")):
        text = path.read_text(encoding="utf-8")
        changed = _changed(text) + ADDED.get(f"{path.parent.name}/{path.name}", "")
        if changed != text:
            path.write_text(changed, encoding="utf-8")
    return place


def _changed(text: str) -> str:
    for name in MISSING:
        text = _interface(name).sub("", text)
    for old, new in RENAMED.items():
        text = re.sub(rf"\b{old}\b", new, text)
    for name, body in BODIES.items():
        text = _interface(name).sub(lambda _, name=name, body=body: f"interface(`{name}',`{body}')", text)  # type: ignore[misc]
    for name, line in MORE.items():
        text = _interface(name).sub(lambda found, line=line: f"{found.group()[:-2]}{line}')", text)  # type: ignore[misc]
    return text


def _interface(name: str) -> re.Pattern[str]:
    return re.compile(rf"^interface\(`{name}',.*?^'\)$", re.MULTILINE | re.DOTALL)
