"""Discovery of a hub: each way of installing it, and each obstacle."""

from __future__ import annotations

from pathlib import Path

import pytest

from sepolicyd.errors import InputError, RefusedError, UsageError
from sepolicyd.module.base_module import contexts_of, render_gen_fc
from sepolicyd.problems import Severity
from sepolicyd.rollout.setup import labels as init_labels
from sepolicyd.services import rootfs, unit_file
from sepolicyd.services.discovery import Label
from sepolicyd.services.jupyterhub import discover, service
from sepolicyd.services.jupyterhub import labels as hub_labels
from sepolicyd.services.jupyterhub.config import settings as init_config
from sepolicyd.services.jupyterhub.config.machine import Machine
from tests.services.jupyterhub.machines import put, put_hub


def labels(root: Path) -> dict[str, str]:
    found = discover.find(root)
    return {label.path: label.type for label in (*hub_labels.labels_of(found), *hub_labels.code_labels(found))}


def codes(root: Path) -> set[str]:
    return {problem.code for problem in service.discover(root).problems}


def stops(root: Path) -> set[str]:
    return {problem.code for problem in service.discover(root).problems if problem.level is Severity.STOP}


def test_a_virtual_environment(tmp_path: Path) -> None:
    put_hub(tmp_path)
    found = discover.find(tmp_path)
    assert (found.prefix, found.version, found.unit_name) == ("/opt/jupyterhub", "5.2.1", "jupyterhub.service")
    assert labels(tmp_path) == {
        "/opt/jupyterhub/bin/jupyterhub": "jupyterhub_exec_t",
        "/opt/jupyterhub/bin/jupyterhub-singleuser": "jupyterhub_user_exec_t",
        "/opt/jupyterhub/bin/jupyter-labhub": "jupyterhub_user_exec_t",
        "/usr/local/lib/node_modules/configurable-http-proxy/bin/configurable-http-proxy": "jupyterhub_proxy_exec_t",
        "/etc/jupyterhub": "jupyterhub_etc_t",
        "/srv/jupyterhub": "jupyterhub_var_lib_t",
        "/srv/jupyterhub/jupyterhub_cookie_secret": "jupyterhub_secret_t",
    }
    assert found.ports == {"public": (8000,), "proxy API": (8001,), "hub API": (8081,)}
    assert not stops(tmp_path)


PAPER = """\
import os
keys = '/etc/jupyterhub/keys'
c = get_config()
c.JupyterHub.ip = ''
c.JupyterHub.port = 8443
c.JupyterHub.ssl_key = os.path.join(keys, 'hub.key')
c.JupyterHub.ssl_cert = keys + '/hub.crt'
c.JupyterHub.cookie_secret_file = '/srv/secret/cookie'
c.ConfigurableHTTPProxy.command = ['/opt/anaconda3/bin/configurable-http-proxy', '--redirect-port', '80']
c.Spawner.cmd = '/opt/anaconda3/bin/jupyterhub-singleuser'
"""


def test_anaconda_as_in_the_paper(tmp_path: Path) -> None:
    put_hub(tmp_path, "/opt/anaconda3", config=PAPER, state="/var/lib/jupyterhub", proxy=False)
    put(tmp_path, "/opt/anaconda3/lib/node_modules/chp/bin/configurable-http-proxy", "#!/usr/bin/env node\n", mode=0o755)
    link = tmp_path / "opt/anaconda3/bin/configurable-http-proxy"
    link.symlink_to("../lib/node_modules/chp/bin/configurable-http-proxy")
    found = labels(tmp_path)
    assert found["/opt/anaconda3/lib/node_modules/chp/bin/configurable-http-proxy"] == "jupyterhub_proxy_exec_t"
    assert found["/etc/jupyterhub/keys"] == "jupyterhub_tls_t"
    assert found["/etc/jupyterhub/keys/hub.crt"] == "jupyterhub_tls_t"
    assert found["/srv/secret/cookie"] == "jupyterhub_secret_t"
    assert "/var/lib/jupyterhub/jupyterhub_cookie_secret" not in found
    assert discover.find(tmp_path).ports["public"] == (8443,)


def test_from_a_root_shell_there_is_no_unit_and_it_says_so(tmp_path: Path) -> None:
    put_hub(tmp_path, "/opt/anaconda3", unit="")
    found = discover.find(tmp_path)
    assert found.hub == "/opt/anaconda3/bin/jupyterhub"
    (finding,) = [each for each in found.findings if each.code == "I-unit"]
    assert "unconfined_t" in finding.what


def test_pip_as_root_and_a_distribution_package(tmp_path: Path) -> None:
    put_hub(tmp_path / "pip", "/usr/local", python="/usr/bin/python3")
    put_hub(tmp_path / "package", "/usr", python="/usr/bin/python3", state="/var/lib/jupyterhub")
    assert labels(tmp_path / "pip")["/usr/local/bin/jupyterhub"] == "jupyterhub_exec_t"
    assert labels(tmp_path / "package")["/usr/bin/jupyterhub-singleuser"] == "jupyterhub_user_exec_t"
    assert discover.find(tmp_path / "pip").prefix == "/usr"


def test_an_unusual_prefix_gets_labels_for_its_code(tmp_path: Path) -> None:
    put_hub(tmp_path, "/srv/hub")
    found = labels(tmp_path)
    assert (found["/srv/hub/bin"], found["/srv/hub/lib"], found["/srv/hub/bin/jupyterhub"]) == (
        "bin_t",
        "lib_t",
        "jupyterhub_exec_t",
    )


def test_a_long_shebang_is_a_shells(tmp_path: Path) -> None:
    put_hub(tmp_path)
    head = "#!/bin/sh\n'''exec' /opt/very/long/bin/python3.11 \"$0\" \"$@\"\n' '''\n"
    put(tmp_path, "/opt/jupyterhub/bin/jupyterhub", head, mode=0o755)
    assert discover.find(tmp_path).prefix == "/opt/very/long"


@pytest.mark.parametrize(
    ("start", "code"),
    [
        ("/opt/jupyterhub/bin/python3 -m jupyterhub", "I-python"),
        ("/bin/bash -c '. /opt/jupyterhub/bin/activate && exec jupyterhub'", "I-wrapper"),
        ("/usr/local/bin/start-hub /opt/jupyterhub/bin/jupyterhub", "I-wrapper"),
    ],
)
def test_what_may_never_come_into_the_domain(tmp_path: Path, start: str, code: str) -> None:
    put_hub(tmp_path, exec_start=start)
    assert discover.find(tmp_path).hub == "/opt/jupyterhub/bin/jupyterhub"
    assert code in codes(tmp_path)
    assert (code in stops(tmp_path)) == (code == "I-python")


@pytest.mark.parametrize("runtime", ["docker", "podman"])
def test_a_container_is_refused(tmp_path: Path, runtime: str) -> None:
    put_hub(tmp_path, exec_start=f"/usr/bin/{runtime} run quay.io/jupyterhub/jupyterhub")
    with pytest.raises(RefusedError, match="container"):
        discover.find(tmp_path)


def test_inside_a_container_is_refused(tmp_path: Path) -> None:
    put_hub(tmp_path)
    put(tmp_path, "/run/.containerenv")
    with pytest.raises(RefusedError, match="this is a container"):
        discover.find(tmp_path)


def test_not_installed(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="not installed"):
        discover.find(tmp_path)
    put_hub(tmp_path)
    (tmp_path / "opt/jupyterhub/bin/jupyterhub").unlink()
    with pytest.raises(RefusedError, match="not installed there"):
        discover.find(tmp_path)
    with pytest.raises(UsageError, match=r"no unit other\.service"):
        discover.find(tmp_path, unit="other.service")
    with pytest.raises(UsageError, match="not the name"):
        discover.find(tmp_path, unit="../../etc/shadow")


def test_another_user_shared_state_home_and_computed_settings_are_told(tmp_path: Path) -> None:
    put_hub(tmp_path / "user", more="User=jupyter")
    assert "I-user" in codes(tmp_path / "user")
    put_hub(tmp_path / "shared", state="/")
    assert "I-shared" in stops(tmp_path / "shared")
    put_hub(tmp_path / "home", "/home/admin/hub")
    assert "I-home" in stops(tmp_path / "home")
    put_hub(tmp_path / "computed", config="c.JupyterHub.ssl_key = open('/x').read()\n")
    assert "I-computed" in codes(tmp_path / "computed")
    put_hub(tmp_path / "key", config="c.JupyterHub.ssl_key = '/etc/letsencrypt/live/x/privkey.pem'\n")
    assert "I-key" in codes(tmp_path / "key")


@pytest.mark.parametrize(
    ("config", "unit", "kept"),
    [
        ("", "jupyterhub.service", ("/srv/jupyterhub",)),
        (
            "c.JupyterHub.db_url = 'sqlite:///state/hub.sqlite'\n",
            "jupyterhub.service",
            ("/srv/jupyterhub", "/srv/jupyterhub/state"),
        ),
        (
            "c.JupyterHub.db_url = 'sqlite:////var/lib/hub/x.sqlite'\n",
            "jupyterhub.service",
            ("/srv/jupyterhub", "/var/lib/hub"),
        ),
        ("c.JupyterHub.db_url = 'sqlite:////var/lib/hub/x.sqlite'\n", "", ("/var/lib/hub",)),
        ("c.JupyterHub.db_url = 'postgresql://db/hub'\n", "jupyterhub.service", ("/srv/jupyterhub",)),
        ("c.JupyterHub.db_url = 'postgresql://db/hub'\n", "", ()),
        # nobody knows where a shell stood that started it: told as I-shared, for a database there could not be labelled
        ("", "", ("/",)),
    ],
)
def test_where_the_hub_keeps_its_state(tmp_path: Path, config: str, unit: str, kept: tuple[str, ...]) -> None:
    put_hub(tmp_path, config=config, unit=unit)
    found = discover.find(tmp_path)
    assert hub_labels.state_dirs(found) == kept
    trees = {label.path for label in hub_labels.labels_of(found) if label.type == "jupyterhub_var_lib_t"}
    assert trees == {folder for folder in kept if folder != "/"}
    assert ("I-shared" in stops(tmp_path)) == ("/" in kept)


def test_links_stay_in_the_root(tmp_path: Path) -> None:
    put_hub(tmp_path)
    (tmp_path / "loop").symlink_to("/loop")
    with pytest.raises(RefusedError, match="loop of symbolic links"):
        rootfs.resolve(tmp_path, "/loop")
    (tmp_path / "out").symlink_to("../../../../etc/passwd")
    assert rootfs.resolve(tmp_path, "/out") == "/etc/passwd"


def test_the_configuration_is_read_and_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    text = f"open({str(mark)!r}, 'w')\nname = 'x'\nc.A.b = f'/srv/{{name}}'\nc.A.n = 7\nc.A.f = foo()\nc.A.l = ['a', 'b']\n"
    config = init_config.parse(text)
    assert not mark.exists()
    assert config.values == {"A.b": "/srv/x", "A.n": 7, "A.l": ("a", "b")}
    assert config.computed == ("A.f",)
    prefixed = init_config.parse("import sys\nc.Spawner.cmd = [sys.prefix + '/bin/x']\n", machine=Machine(prefix="/opt/hub"))
    assert prefixed.command("Spawner.cmd") == ("/opt/hub/bin/x",)
    with pytest.raises(InputError, match="not valid Python"):
        init_config.parse("c.A.b = (\n")
    assert init_config.port_of("http://[::1]:9000/x", 1) == 9000
    assert init_config.port_of("http://x:port", 1) == 1


UNIT = """\
# comment
[Service]
ExecStart=/bin/false
ExecStart=
ExecStart=-@/opt/my\\ hub/bin/jupyterhub jupyterhub \\
# in between
    --port=9000 'a b' "c\\"d"
Environment=A=1 "B=2 3"
User=one
[Install]
WantedBy=x
"""


def test_a_unit_with_drop_ins(tmp_path: Path) -> None:
    put(tmp_path, "/usr/lib/systemd/system/a.service", UNIT)
    put(tmp_path, "/etc/systemd/system/a.service.d/10-user.conf", "[Service]\nUser=two\n")
    put(tmp_path, "/run/systemd/system/a.service.d/10-user.conf", "[Service]\nUser=three\n")
    unit = unit_file.read_unit("a.service", tmp_path)
    assert unit.argv == ("/opt/my hub/bin/jupyterhub", "--port=9000", "a b", 'c"d')
    assert unit.environment == {"A": "1", "B": "2 3"}
    assert unit.user == "two"


def test_paths_become_patterns_that_match_only_themselves() -> None:
    label = Label("/opt/a+b (1)/bin/jupyterhub", "x_t")
    assert init_labels.context_of(label, {}).pattern == r"/opt/a\+b (1)/bin/jupyterhub".replace("(", r"\(").replace(")", r"\)")
    subs = {"/usr/local/lib": "/usr/lib", "/usr/local": "/elsewhere"}
    assert init_labels.substituted("/usr/local/lib/x", subs) == "/usr/lib/x"
    assert init_labels.substituted("/usr/local/library", subs) == "/elsewhere/library"


def test_fc_is_written_as_it_is_read() -> None:
    text = "/a/b\t--\tgen_context(system_u:object_r:x_t,s0)\n/c(/.*)?\tgen_context(system_u:object_r:y_t,s0)\n"
    assert render_gen_fc(contexts_of(text)) == text
    assert [init_labels.label_of(context).path for context in contexts_of(text)] == ["/a/b", "/c"]


MOUNTS = """\
/dev/vda1 / ext4 rw,seclabel,relatime 0 0
nas:/srv /srv nfs4 rw,relatime 0 0
/dev/vdb /opt\\040x ext4 rw,seclabel 0 0
/dev/vdc /data ext4 rw,seclabel,context=system_u:object_r:nfs_t:s0 0 0
"""


def test_a_file_system_without_labels_is_told() -> None:
    wanted = [Label(path, "x_t") for path in ("/srv/jupyterhub", "/opt x/a", "/etc/x", "/data/x")]
    told = init_labels.mount_findings(wanted, MOUNTS)
    assert {finding.code for finding in told} == {"I-mount"}
    assert {finding.what.split()[0] for finding in told} == {"/srv/jupyterhub", "/data/x"}
    assert init_labels.mount_findings(wanted, "overlay / overlay rw 0 0\n") == []


def test_a_path_of_another_module_is_told() -> None:
    wanted = [Label("/srv/jupyterhub", "x_t", tree=True)]
    told = init_labels.owner_findings(wanted, lambda path, tclass: "httpd_sys_content_t", frozenset())
    assert [finding.level for finding in told] == [Severity.STOP]
    assert init_labels.owner_findings(wanted, lambda path, tclass: "var_t", frozenset()) == []


@pytest.mark.parametrize(
    ("config", "boolean"),
    [
        ("c.JupyterHub.authenticator_class = 'oauthenticator.GitHubOAuthenticator'", "jupyterhub_connect_web"),
        ("c.JupyterHub.authenticator_class = 'ldapauthenticator.LDAPAuthenticator'", "jupyterhub_connect_ldap"),
        ("c.JupyterHub.db_url = 'postgresql://hub@db/hub'", "jupyterhub_connect_db"),
        ("c.JupyterHub.spawner_class = 'systemdspawner.SystemdSpawner'", "jupyterhub_use_systemdspawner"),
        ("c.JupyterHub.spawner_class = 'sudospawner.SudoSpawner'", "jupyterhub_use_sudospawner"),
        ("c.LocalAuthenticator.create_system_users = True", "jupyterhub_create_users"),
        ("c.Spawner.pre_spawn_hook = hook", "jupyterhub_hub_write_homes"),
    ],
)
def test_the_configuration_names_its_booleans(tmp_path: Path, config: str, boolean: str) -> None:
    put_hub(tmp_path, config=config + "\n")
    assert [one.name for one in service.discover(tmp_path).booleans] == [boolean]
