"""Reports of other services through the real `analyze`, all in one run, each with the answer that its thread accepted."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.cli.conftest import Runner
from tests.paths import DATA

THREADS = DATA / "reports" / "threads"


@dataclass(frozen=True)
class Accepted:
    """What a thread accepted for one access. Where Debian's policy lacks a type, what is said without it."""

    access: str
    kind: str
    say: str
    never: str = ""


ACCEPTED = (
    Accepted("httpd_t transproxy_port_t tcp_socket", "boolean", "httpd_can_network_connect on"),
    Accepted("httpd_t soundd_port_t tcp_socket", "boolean", "httpd_can_network_connect on"),
    Accepted("httpd_t smtp_port_t tcp_socket", "boolean", "httpd_can_sendmail on"),
    Accepted("httpd_t unreserved_port_t tcp_socket", "port", "http_port_t", never="-m -t"),
    Accepted("httpd_t unconfined_service_t unix_stream_socket", "transition", "program label"),
    Accepted("zabbix_t tmp_t sock_file", "own-type", "zabbix_tmp_t"),
    Accepted("zabbix_agent_t modules_object_t file", "relabel", "as a library"),
    Accepted("container_t var_lib_t file", "relabel", "restorecon -R -v /var/lib/containers", never="restorecon -v /bin"),
    Accepted("container_t var_t file", "relabel", "fcontext -a -e /var/lib/containers", never="restorecon -v /lib"),
    Accepted("container_t user_tmp_t file", "application", ":Z"),
    Accepted("init_t admin_home_t file", "relabel", "bin_t"),
    Accepted("logrotate_t var_lib_t file", "relabel", "var_log_t"),
    Accepted("logrotate_t etc_runtime_t file", "relabel", "var_log_t"),
    Accepted("logrotate_t usr_t file", "relabel", "var_log_t"),
    Accepted("logrotate_t var_t file", "relabel", "semanage fcontext -a -t var_log_t '/var/opt/microsoft/omsconfig/omsconfig"),
    Accepted("sshd_t unreserved_port_t tcp_socket", "port", "semanage port -a -t ssh_port_t -p tcp 1707"),
    Accepted("sshd_t self vsock_socket", "allow", "vsock_socket"),
    Accepted("dovecot_auth_t postgresql_var_run_t sock_file", "allow boolean", "postgresql_var_run_t"),
    Accepted("smbd_t user_home_dir_t dir", "boolean", "samba_enable_home_dirs on"),
    Accepted("smbd_t self capability", "allow owner", "auditctl -w"),
    Accepted("cupsd_t samba_var_t dir", "allow", "samba_var_t"),
    Accepted("staff_ssh_agent_t usr_t file", "allow", "usr_t"),
)


def test_the_answers_of_the_threads(sepolicyd: Runner) -> None:
    ran = sepolicyd("analyze", "--all", "--json", *sorted(THREADS.glob("*.log")))
    document = json.loads(ran.out)
    assert ran.code == 0
    assert document["unparsed"] == []
    found = {f"{one['source']} {one['target']} {one['class']}": one for one in document["candidates"]}
    wrong = []
    for accepted in ACCEPTED:
        one = found[accepted.access]
        fixes = json.dumps([one["fix"], *one["alternatives"]])
        right = one["fix"]["kind"] in accepted.kind.split() and accepted.say in fixes
        if not right or (accepted.never and accepted.never in fixes):
            wrong.append((accepted, one["fix"]))
    assert wrong == []
