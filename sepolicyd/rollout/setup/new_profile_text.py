"""A Service in, the text of its first profile.yaml, .te and .fc out; sorted, and nothing in it but checked words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sepolicyd.module.base_module import render_gen_fc
from sepolicyd.rollout.setup.labels import context_of

if TYPE_CHECKING:
    from sepolicyd.rollout.setup.service import Service

# kind -> declaration, rules of the domain; {n} is the service's name
KINDS: dict[str, tuple[str, str]] = {
    "etc": (
        "files_config_file({n}_etc_t)",
        "allow {n}_t {n}_etc_t:dir list_dir_perms;\nread_files_pattern({n}_t, {n}_etc_t, {n}_etc_t)\n"
        "read_lnk_files_pattern({n}_t, {n}_etc_t, {n}_etc_t)",
    ),
    "content": (
        "files_type({n}_content_t)",
        "allow {n}_t {n}_content_t:dir list_dir_perms;\nread_files_pattern({n}_t, {n}_content_t, {n}_content_t)\n"
        "read_lnk_files_pattern({n}_t, {n}_content_t, {n}_content_t)",
    ),
    "var_lib": (
        "files_type({n}_var_lib_t)",
        "manage_dirs_pattern({n}_t, {n}_var_lib_t, {n}_var_lib_t)\n"
        "manage_files_pattern({n}_t, {n}_var_lib_t, {n}_var_lib_t)\nfiles_search_var_lib({n}_t)",
    ),
    "log": (
        "logging_log_file({n}_log_t)",
        "append_files_pattern({n}_t, {n}_log_t, {n}_log_t)\ncreate_files_pattern({n}_t, {n}_log_t, {n}_log_t)\n"
        "setattr_files_pattern({n}_t, {n}_log_t, {n}_log_t)\nlogging_log_filetrans({n}_t, {n}_log_t, file)\n"
        "# systemd opens the file of StandardOutput=append: before it starts the program\n"
        "gen_require(` #selint-disable:S-001\n\ttype init_t;\n')\n"
        "append_files_pattern(init_t, {n}_log_t, {n}_log_t)\ncreate_files_pattern(init_t, {n}_log_t, {n}_log_t)\n"
        "write_files_pattern(init_t, {n}_log_t, {n}_log_t)",
    ),
    "runtime": (
        "ifdef(`files_runtime_file',`\n\tfiles_runtime_file({n}_runtime_t)\n',`\n\tfiles_pid_file({n}_runtime_t)\n')",
        "manage_dirs_pattern({n}_t, {n}_runtime_t, {n}_runtime_t)\n"
        "manage_files_pattern({n}_t, {n}_runtime_t, {n}_runtime_t)\n"
        "manage_sock_files_pattern({n}_t, {n}_runtime_t, {n}_runtime_t)",
    ),
}

HEAD = """\
policy_module({n}, 1.0.0)

# A first policy of {n}, written by `sepolicyd init --new` from its unit: what nearly every service needs, and the files that
# are its own. What this one needs beyond that, a rollout teaches.

########################################
#
# Declarations
#

type {n}_t;
type {n}_exec_t;
init_daemon_domain({n}_t, {n}_exec_t)
role system_r types {n}_t;
"""

TAIL = """
manage_dirs_pattern({n}_t, {n}_tmp_t, {n}_tmp_t)
manage_files_pattern({n}_t, {n}_tmp_t, {n}_tmp_t)
files_tmp_filetrans({n}_t, {n}_tmp_t, {{ dir file }})

allow {n}_t {n}_port_t:tcp_socket name_bind;

can_exec({n}_t, {n}_exec_t)

kernel_read_kernel_sysctls({n}_t)
kernel_read_system_state({n}_t)

corecmd_exec_bin({n}_t)

corenet_tcp_bind_generic_node({n}_t)

dev_read_rand({n}_t)
dev_read_sysfs({n}_t)
dev_read_urand({n}_t)

files_read_etc_files({n}_t)
files_read_usr_files({n}_t)

auth_use_nsswitch({n}_t)

init_rw_stream_sockets({n}_t)
init_use_fds({n}_t)

logging_send_syslog_msg({n}_t)

miscfiles_read_generic_certs({n}_t)
miscfiles_read_localization({n}_t)

ifdef(`init_nnp_daemon_domain',`
	init_nnp_daemon_domain({n}_t)
')
"""


def render_te(service: Service) -> str:
    """The base module's source, for both families of base policy."""
    name = service.name
    kinds = [kind for kind in KINDS if kind in service.kinds]
    parts = [HEAD.format(n=name)]
    parts += [f"\ntype {name}_{kind}_t;\n" + KINDS[kind][0].format(n=name) + "\n" for kind in kinds]
    parts.append(f"\ntype {name}_tmp_t;\nfiles_tmp_file({name}_tmp_t)\n\ntype {name}_port_t;\ncorenet_port({name}_port_t)\n")
    parts.append("\n########################################\n#\n# Rules\n#\n")
    parts.append(f"\nallow {name}_t self:process {{ getsched setpgid signal_perms }};\n")
    parts.append(f"allow {name}_t self:fifo_file rw_fifo_file_perms;\n")
    parts.append(f"allow {name}_t self:tcp_socket create_stream_socket_perms;\n")
    parts.append(f"allow {name}_t self:unix_stream_socket create_stream_socket_perms;\n")
    if service.unit.user in ("root", "0"):
        parts.append("# the unit starts as root: what it needs of root's powers, a rollout shows\n")
    parts += ["\n" + KINDS[kind][1].format(n=name) + "\n" for kind in kinds]
    parts.append(TAIL.format(n=name))
    return "".join(parts)


def render_fc(service: Service, subs: Mapping[str, str]) -> str:
    """Its file contexts."""
    return render_gen_fc(context_of(label, subs) for label in service.labels)


def render_profile(service: Service) -> str:
    """Its profile.yaml. Texts are JSON strings, which YAML reads as they are."""
    name, unit = service.name, service.unit.name
    program = service.program.rpartition("/")[2]
    lines = [
        f"# A first profile of {name}, written by `sepolicyd init --new` from {unit}.",
        f"name: {name}",
        f"description: {json.dumps(f'{name}, as {unit} starts it')}",
        f"units: [{json.dumps(unit)}]",
        "roles:",
        "  - name: main",
        f"    description: {json.dumps(f'{program} and what it starts')}",
        f"    domains: [{name}_t]",
        f"    units: [{json.dumps(unit)}]",
        f"    programs: [{json.dumps(program)}]",
        "answering:",
        "  - domain: init_t",
        "    classes: [dbus, dir, file, lnk_file, process, unix_stream_socket, fd]",
        "    why: systemd answers over D-Bus and reads the caller's /proc entry",
        "noise: [load_policy_t, setfiles_t, semanage_t]",
    ]
    if service.ports:
        lines.append("ports:")
        for index, number in enumerate(service.ports, 1):
            title = "public" if index == 1 else f"port {index}"
            lines.append(f"  - {{name: {title}, protocol: tcp, number: {number}, type: {name}_port_t}}")
    lines.append("paths:")
    for label in service.labels:
        pattern = context_of(label, {}).pattern
        what = json.dumps(label.what or "its own")
        lines.append(f"  - {{pattern: {json.dumps(pattern)}, type: {label.type}, description: {what}}}")
    lines += [
        f"code: [{name}_exec_t]",
        "exercises:",
        "  - {name: start, description: start the service}",
        "  - {name: use, description: use each thing that it offers}",
        "  - {name: reload, description: reload or restart it while it is used}",
        "  - {name: stop, description: stop it}",
        f"modules: [{name}.te, {name}.fc]",
    ]
    return "\n".join(lines) + "\n"
