"""Findings of `init` on hubs of many kinds: spawners, logins, homes, devices, web servers in front, a second hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sepolicyd.services.discovery import Found
from sepolicyd.services.jupyterhub.service import discover
from tests.services.jupyterhub.machines import put, put_hub

BOOLEANS = "jupyterhub_"
USER_UNIT = "[Service]\nUser=%i\nExecStart=/opt/jupyterhub/bin/jupyterhub-singleuser\nWorkingDirectory=~\n"
NBGRADER = "opt/jupyterhub/lib/python3.11/site-packages/nbgrader-0.9.5.dist-info/METADATA"


@dataclass(frozen=True)
class Hub:
    """One machine and what must be found on it."""

    config: str = ""
    files: Sequence[tuple[str, str]] = ()
    unit: str = ""
    booleans: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    labels: dict[str, str] = field(default_factory=dict)


def named(*names: str) -> frozenset[str]:
    return frozenset(f"{BOOLEANS}{name}" for name in names)


SPAWNER = "c.JupyterHub.spawner_class = "
LOGIN = "c.JupyterHub.authenticator_class = "
HUBS = {
    "a plain hub": Hub(),
    "systemdspawner as root": Hub(SPAWNER + "'systemd'", booleans=named("use_systemdspawner"), codes=frozenset(("I-root",))),
    "systemdspawner, imported and subclassed": Hub(
        "from systemdspawner import SystemdSpawner\nclass Ours(SystemdSpawner):\n    pass\n" + SPAWNER + "Ours",
        booleans=named("use_systemdspawner"),
        codes=frozenset(("I-root",)),
    ),
    "units of the administrator": Hub(
        files=[("/etc/systemd/system/jupyter-singleuser@.service", USER_UNIT)],
        booleans=named("use_user_units"),
        labels={"/etc/systemd/system/jupyter-singleuser@.service": "jupyterhub_user_unit_file_t"},
    ),
    "sudospawner": Hub(
        SPAWNER + "'sudospawner.SudoSpawner'",
        unit="User=rhea",
        booleans=named("use_sudospawner"),
        codes=frozenset(("I-user",)),
    ),
    "capabilities of an own user": Hub(
        unit="User=rhea\nAmbientCapabilities=CAP_SETUID CAP_SETGID", codes=frozenset(("I-user",))
    ),
    "ldap through sssd, homes at first login": Hub(
        files=[
            ("/etc/nsswitch.conf", "passwd: files sss\ngroup: files [SUCCESS=merge] sss\n"),
            ("/etc/pam.d/login", "session include common-session\n"),
            ("/etc/pam.d/common-session", "session optional pam_oddjob_mkhomedir.so umask=0077\n"),
        ],
        booleans=named("create_homes"),
    ),
    "homes at first login, by a helper without a domain": Hub(
        files=[
            ("/etc/pam.d/login", "@include common-session\n"),
            ("/etc/pam.d/common-session", "session required pam_mkhomedir.so\n"),
        ],
        booleans=named("create_homes", "hub_write_homes"),
    ),
    "ldap without sssd": Hub(files=[("/etc/nsswitch.conf", "passwd: files ldap\n")], codes=frozenset(("I-login",))),
    "ldap in the hub": Hub(LOGIN + "'ldapauthenticator.LDAPAuthenticator'", booleans=named("connect_ldap")),
    "homes on nfs": Hub(files=[("/etc/fstab", "server:/export/home /home nfs4 defaults 0 0\n")], codes=frozenset(("I-homes",))),
    "homes by autofs": Hub(
        files=[
            ("/etc/auto.master", "# comment\n/home /etc/auto.home --timeout=60\n"),
            ("/etc/auto.home", "* -fstype=nfs4 server:/export/home/&\n"),
        ],
        codes=frozenset(("I-homes",)),
    ),
    "homes on a parallel file system": Hub(
        files=[("/etc/fstab", "mds@tcp:/lfs /home lustre defaults 0 0\n")], codes=frozenset(("I-homes",))
    ),
    "nbgrader": Hub(
        files=[
            (f"/{NBGRADER}", "Name: nbgrader\n"),
            ("/etc/jupyter/nbgrader_config.py", "c = get_config()\nc.Exchange.root = '/srv/nbgrader/exchange'\n"),
        ],
        booleans=named("user_write_courses"),
        labels={"/srv/nbgrader/exchange": "jupyterhub_course_t"},
    ),
    "slurm with sudo": Hub(
        "import batchspawner\n" + SPAWNER + "'batchspawner.SlurmSpawner'", booleans=named("use_slurm", "use_sudospawner")
    ),
    "slurm without sudo": Hub(
        "from batchspawner import SlurmSpawner\nclass My(SlurmSpawner):\n    exec_prefix = ''\n" + SPAWNER + "My",
        booleans=named("use_slurm"),
    ),
    "profiles of several spawners": Hub(
        SPAWNER
        + "'wrapspawner.ProfilesSpawner'\nc.ProfilesSpawner.profiles = [\n"
        + " ('here', 'local', 'jupyterhub.spawner.LocalProcessSpawner', {}),\n"
        + " ('cluster', 'slurm', 'batchspawner.SlurmSpawner', dict(req_memory='4G')),\n]",
        booleans=named("use_slurm", "use_sudospawner"),
    ),
    "profiles in rows of a list": Hub(
        SPAWNER + "'wrapspawner.ProfilesSpawner'\nc.ProfilesSpawner.profiles = [['x', 'y', 'sudospawner.SudoSpawner', {}]]",
        booleans=named("use_sudospawner"),
    ),
    "nginx in front": Hub(
        "c.JupyterHub.bind_url = 'http://127.0.0.1:8500'",
        files=[("/etc/nginx/conf.d/hub.conf", "location / {\n  proxy_pass http://127.0.0.1:8500;\n}\n")],
        booleans=named("behind_httpd"),
    ),
    "a web server that forwards to another port": Hub(
        files=[("/etc/nginx/conf.d/x.conf", "proxy_pass http://127.0.0.1:80001;\nproxy_pass http://127.0.0.1:3000;\n")]
    ),
    "oauth": Hub(
        "from oauthenticator.generic import LocalGenericOAuthenticator\n" + LOGIN + "LocalGenericOAuthenticator\n"
        "c.LocalGenericOAuthenticator.create_system_users = True",
        booleans=named("connect_web", "create_users"),
    ),
    "oauth by its short name": Hub(LOGIN + "'generic-oauth'", booleans=named("connect_web")),
    "postgresql and services": Hub(
        "import sys\nc.JupyterHub.db_url = 'postgresql+psycopg2://hub@db/hub'\nc.JupyterHub.services = [\n"
        " {'name': 'cull', 'command': [sys.executable, '-m', 'jupyterhub_idle_culler']}]",
        booleans=named("connect_db"),
        codes=frozenset(("I-service",)),
    ),
    "docker": Hub(SPAWNER + "'dockerspawner.DockerSpawner'", codes=frozenset(("I-root",))),
    "a class that nobody knows": Hub(SPAWNER + "'site.magic.Starter'", codes=frozenset(("I-spawner",))),
    "a class that is computed": Hub(SPAWNER + "choose()", codes=frozenset(("I-computed",))),
    "a configuration that another module makes": Hub("from site_hub import apply\napply(c)", codes=frozenset(("I-opaque",))),
    "a gpu": Hub(files=[("/dev/nvidia0", "")], booleans=named("user_use_gpu")),
}


def found_on(root: Path, hub: Hub) -> Found:
    put_hub(root, config=f"c = get_config()\n{hub.config}\n", more=hub.unit)
    for path, text in hub.files:
        put(root, path, text)
    return discover(root)


@pytest.mark.parametrize("kind", sorted(HUBS))
def test_a_hub(kind: str, tmp_path: Path) -> None:
    hub = HUBS[kind]
    found = found_on(tmp_path, hub)
    assert {request.name for request in found.booleans} == hub.booleans
    assert {problem.code for problem in found.problems} == hub.codes
    assert hub.labels.items() <= {label.path: label.type for label in found.labels}.items()


def test_each_boolean_is_one_of_the_module(profile_text: str) -> None:
    asked = {name for hub in HUBS.values() for name in hub.booleans}
    assert all(f"gen_tunable({name}," in profile_text for name in asked)


@pytest.fixture
def profile_text() -> str:
    return (Path(__file__).parents[3] / "policies/jupyterhub/jupyterhub.te").read_text(encoding="utf-8")


def test_a_service_that_the_hub_starts_listens_in_its_domain(tmp_path: Path) -> None:
    config = (
        "import sys\nc.JupyterHub.services = [\n"
        " {'name': 'a', 'url': 'http://127.0.0.1:10101', 'command': [sys.executable, 'a.py']},\n"
        " {'name': 'elsewhere', 'url': 'http://10.0.0.1:10102'}]"
    )
    assert found_on(tmp_path, Hub(config)).ports["hub API"] == (8081, 10101)


def test_a_configuration_in_json_that_the_unit_names(tmp_path: Path) -> None:
    text = '{"JupyterHub": {"hub_port": 8085, "spawner_class": "sudospawner.SudoSpawner"}}'
    put_hub(tmp_path, config=text, config_path="/etc/jupyterhub/jupyterhub_config.json")
    found = discover(tmp_path)
    assert found.ports["hub API"] == (8085,)
    assert {request.name for request in found.booleans} == named("use_sudospawner")


def test_a_second_hub_is_named(tmp_path: Path) -> None:
    put_hub(tmp_path)
    put(tmp_path, "/etc/systemd/system/hub-two.service", "[Service]\nExecStart=/opt/two/bin/jupyterhub -f /etc/two.py\n")
    problems = [problem for problem in discover(tmp_path).problems if problem.code == "I-two"]
    assert len(problems) == 1
    assert "hub-two.service" in problems[0].what


def test_an_alias_is_no_second_hub_and_a_link_without_target_stops_nothing(tmp_path: Path) -> None:
    put_hub(tmp_path)
    units = tmp_path / "etc/systemd/system"
    (units / "hub.service").symlink_to("/etc/systemd/system/jupyterhub.service")
    (units / "gone.service").symlink_to("/opt/gone/gone.service")
    (units / "gone@.service").symlink_to("/opt/gone/gone@.service")
    (units / "my-proxy.service").symlink_to("/opt/gone/my-proxy.service")
    config = "c.ConfigurableHTTPProxy.should_start = False\n"
    put(tmp_path, "/etc/jupyterhub/jupyterhub_config.py", config)
    assert not discover(tmp_path).problems


def test_the_littlest_hubs_layout(tmp_path: Path) -> None:
    """A hub that python starts, with a configuration made by a package beside it, YAML settings and traefik."""
    site = "/opt/tljh/hub/lib/python3.12/site-packages"
    put_hub(
        tmp_path,
        "/opt/tljh/hub",
        state="/opt/tljh/state",
        config_path=f"{site}/tljh/jupyterhub_config.py",
        exec_start="/opt/tljh/hub/bin/python3 -m jupyterhub",
        more="Environment=TLJH_INSTALL_PREFIX=/opt/tljh",
        proxy=False,
        config=(
            "import os\nfrom glob import glob\nfrom tljh.start import Starter\nfrom tljh import settings\n"
            "c.JupyterHub.spawner_class = Starter\nc.JupyterHub.hub_port = 15001\nc.JupyterHub.proxy_class = 'traefik_file'\n"
            "settings.apply(settings.load(), c)\n"
            "for name in sorted(glob(os.path.join(settings.PREFIX, 'config', 'jupyterhub_config.d', '*.py'))):\n"
            "    load_subconfig(name)\n"
        ),
    )
    put(tmp_path, f"{site}/tljh/__init__.py")
    put(
        tmp_path,
        f"{site}/tljh/start.py",
        "from systemdspawner import SystemdSpawner\nclass Starter(SystemdSpawner):\n    pass\n",
    )
    settings = (
        "import os\nimport yaml\nPREFIX = os.environ.get('TLJH_INSTALL_PREFIX', '/opt/tljh')\n"
        "FILE = os.path.join(PREFIX, 'config', 'config.yaml')\n"
        "def load():\n    if os.path.exists(FILE):\n        with open(FILE) as file:\n            return yaml.safe_load(file)\n"
        "def apply(values, c):\n    c.JupyterHub.authenticator_class = values['auth']['type']\n"
    )
    put(tmp_path, f"{site}/tljh/settings.py", settings)
    put(tmp_path, "/opt/tljh/config/config.yaml", "auth:\n  type: oauthenticator.github.GitHubOAuthenticator\n")
    put(tmp_path, "/opt/tljh/config/jupyterhub_config.d/port.py", "c.JupyterHub.hub_port = 15002\n")
    put(tmp_path, "/opt/tljh/hub/bin/traefik", "\x7fELF", mode=0o755)
    found = discover(tmp_path)
    assert {request.name for request in found.booleans} == named("use_systemdspawner", "connect_web")
    assert found.ports["hub API"] == (15002,)
    assert found.ports["proxy API"] == (8099,)
    assert {label.path: label.type for label in found.labels}["/opt/tljh/hub/bin/traefik"] == "jupyterhub_proxy_exec_t"
    stop = next(problem for problem in found.problems if problem.code == "I-python")
    assert "ExecStart=/opt/tljh/hub/bin/jupyterhub -f" in stop.hint
