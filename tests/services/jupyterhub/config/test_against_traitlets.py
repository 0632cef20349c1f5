"""Settings as evaluated, compared with those that traitlets' own loader gets by running the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath

import pytest
from traitlets.config.loader import Config, JSONFileConfigLoader, LazyConfigValue, PyFileConfigLoader

from sepolicyd.errors import InputError
from sepolicyd.services.jupyterhub.config.machine import Machine
from sepolicyd.services.jupyterhub.config.settings import read

# each is written the way public configurations are; KEYS are the settings that must be found, whatever else stays unknown
STYLES: Mapping[str, str] = {
    "constants and joins": """
import os
pjoin = os.path.join
runtime_dir = pjoin('/srv', 'jupyterhub')
c = get_config()
c.JupyterHub.cookie_secret_file = pjoin(runtime_dir, 'cookie_secret')
c.JupyterHub.db_url = 'sqlite:///' + os.path.join(runtime_dir, 'hub.sqlite')
c.JupyterHub.ssl_key = os.path.dirname(runtime_dir) + '/key.pem'
""",
    "formats": """
base = '/opt/%s' % 'hub'
port = 9000
c.JupyterHub.bind_url = 'http://{}:{}'.format('127.0.0.1', port)
c.JupyterHub.hub_bind_url = f'http://127.0.0.1:{port + 1}'
c.ConfigurableHTTPProxy.api_url = 'http://127.0.0.1:%d' % (port + 2)
c.Spawner.cmd = ['%s/bin/jupyterhub-singleuser' % base, '--debug']
c.JupyterHub.cookie_secret_file = "{root}/secret".format(root=base)
""",
    "environment": """
import os
c.JupyterHub.port = int(os.environ.get('HUB_PORT', '8123'))
c.JupyterHub.hub_port = int(os.getenv('HUB_API', 8181))
if 'DEV' in os.environ:
    c.JupyterHub.db_url = 'sqlite:////dev.sqlite'
else:
    c.JupyterHub.db_url = 'sqlite:////live.sqlite'
""",
    "pathlib": """
from pathlib import Path
HERE = Path('/etc') / 'jupyterhub'
STATE = Path('/var/lib').joinpath('hub')
c.JupyterHub.cookie_secret_file = str(STATE / 'cookie')
c.JupyterHub.ssl_key = (HERE / 'keys' / 'hub.key').as_posix()
c.JupyterHub.ssl_cert = str(HERE.parent / 'pki' / HERE.name)
""",
    "loops and dictionaries": """
settings = {'port': 8005, 'hub_port': 8085}
for key, value in settings.items():
    setattr(c.JupyterHub, key, value)
tls = dict(key='/etc/k', cert='/etc/c')
c.JupyterHub.ssl_key, c.JupyterHub.ssl_cert = tls['key'], tls.get('cert')
names = [n.lower() for n in ['A', 'B'] if n != 'B']
c.Authenticator.admin_users = set(names)
""",
    "functions": """
def database(name, host='db', port=5432):
    user = 'hub'
    return f'postgresql://{user}@{host}:{port}/{name}'

def configure(c, offset=0):
    if offset > 100:
        return
    c.JupyterHub.port = 8000 + offset

c.JupyterHub.db_url = database('hub', port=5433)
configure(c, offset=7)
configure(c, 1000)
""",
    "lists that grow": """
import sys
c.JupyterHub.services = []
c.JupyterHub.services.append({'name': 'a', 'command': ['x', '--y']})
c.JupyterHub.services += [{'name': 'b', 'url': 'http://127.0.0.1:10101'}]
args = ['--one']
args += ['--two']
args.extend(['--three'])
c.Spawner.args = args
c.Spawner.environment = {'A': '1', **{'B': '2'}}
""",
    "conditions": """
debug = False
tls = True
if debug and tls:
    c.JupyterHub.port = 1
elif not debug:
    c.JupyterHub.port = 443 if tls else 80
try:
    c.JupyterHub.hub_port = 8099
except NameError:
    c.JupyterHub.hub_port = 1
with_proxy = 'x' in ('x', 'y')
c.ConfigurableHTTPProxy.should_start = with_proxy is True
""",
    "annotations and sections": """
HUB: str = '/srv/hub'
hub = c.JupyterHub
hub.cookie_secret_file = HUB + '/cookie'
c['JupyterHub']['port'] = 8006
c.JupyterHub.base_url = '/a'.strip('/').join(['/', '/'])
c.JupyterHub.hub_connect_url = '/'.join(['http:', '', 'h:1'])
""",
    "text methods": """
c.JupyterHub.db_url = 'sqlite:////x/a.sqlite'
c.A.path = c.JupyterHub.db_url.split(':///')[1]
c.A.tail = 'a/b/c'.rsplit('/', 1)[-1]
c.A.piece = 'jupyter-hub'[0:7]
c.A.number = len('abc') * 3 - 1
c.A.flag = not 'x'.isdigit()
c.A.first = ('', 'b')[0] or 'default'
""",
    "copies and rows": """
import copy
rows = [['Small', 'a', 'batchspawner.SlurmSpawner', {'req_memory': '2G'}], ['Large', 'b', 'x.Y', {}]]
more = copy.deepcopy(rows)
for row in more:
    row[1] = row[1] + '-lab'
    row[3]['default_url'] = 'lab'
rows[-1][0] = 'Huge'
c.ProfilesSpawner.profiles = more + rows
""",
    "classes": """
class Base:
    port = 8300
    cmd = ['sbatch', '--parsable']
c.JupyterHub.port = Base.port
c.Spawner.cmd = Base.cmd
""",
}


def run_for_real(path: Path) -> dict[str, object]:
    config = PyFileConfigLoader(path.name, path=str(path.parent)).load_config()
    found: dict[str, object] = {}
    for section, values in config.items():
        if isinstance(values, Config):
            found.update({f"{section}.{name}": _plain(value) for name, value in values.items()})
    return found


def _plain(value: object) -> object:
    if isinstance(value, LazyConfigValue):
        return list(value._extend)
    return str(value) if isinstance(value, PurePath) else value


@pytest.mark.parametrize("style", sorted(STYLES))
def test_the_settings_are_those_of_a_run(style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HUB_PORT", "HUB_API", "DEV"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "jupyterhub_config.py"
    path.write_text(STYLES[style], encoding="utf-8")
    config = read(path, machine=Machine())
    assert config.computed == ()
    assert dict(config.objects) == run_for_real(path)


def test_a_configuration_in_json(tmp_path: Path) -> None:
    path = tmp_path / "jupyterhub_config.json"
    path.write_text(
        '{"JupyterHub": {"port": 8443, "proxy_class": "traefik_file", "services": [{"name": "x"}]},'
        ' "Spawner": {"args": ["-a"]}}'
    )
    config = read(path)
    loaded = JSONFileConfigLoader(path.name, path=str(path.parent)).load_config()
    assert dict(config.objects) == {f"{section}.{name}": value for section in loaded for name, value in loaded[section].items()}
    assert config.number("JupyterHub.port") == 8443
    for broken in ("[1]", "{", '{"JupyterHub": '):
        path.write_text(broken)
        with pytest.raises(InputError, match="not a configuration in JSON"):
            read(path)


def test_a_file_that_is_loaded_counts(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/10-port.py").write_text("c.JupyterHub.port = 8111\n")
    (tmp_path / "conf.d/20-db.py").write_text("c.JupyterHub.db_url = 'postgresql://x/y'\n")
    (tmp_path / "site_settings.py").write_text("STATE = '/srv/state'\ndef apply(c):\n    c.JupyterHub.hub_port = 8222\n")
    path = tmp_path / "jupyterhub_config.py"
    path.write_text(
        "import os, sys\nfrom glob import glob\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from site_settings import STATE, apply\n"
        "apply(c)\n"
        "c.JupyterHub.cookie_secret_file = STATE + '/cookie'\n"
        f"for name in sorted(glob(os.path.join({str(tmp_path)!r}, 'conf.d', '*.py'))):\n"
        "    load_subconfig(name)\n"
    )
    config = read(path, machine=Machine())
    assert dict(config.objects) == run_for_real(path)
    assert [Path(name).name for name in config.files] == [
        "jupyterhub_config.py",
        "site_settings.py",
        "10-port.py",
        "20-db.py",
    ]


UNKNOWN_STYLES: Mapping[str, str] = {
    "a call": "import requests\nc.JupyterHub.port = requests.get('http://x').json()['port']\n",
    "a secret": "c.JupyterHub.db_url = 'postgresql://hub:' + open('/nowhere').read() + '@db/hub'\n",
    "a format of what is unknown": "import socket\nc.JupyterHub.hub_bind_url = f'http://{socket.gethostname()}:8081'\n",
    "a unset setting": "c.JupyterHub.hub_bind_url = 'http://x:%s' % c.JupyterHub.hub_port\n",
    "a method of a setting": "c.JupyterHub.hub_bind_url = 'x' + str(c.JupyterHub.y)\n",
    "a huge text": "c.JupyterHub.db_url = '{:>99999999}'.format('x')\n",
    "a huge width": "c.JupyterHub.db_url = '%99999999d' % 1\n",
    "a power": "c.JupyterHub.port = 9 ** 9 ** 9\n",
    "a product": "c.JupyterHub.db_url = 'x' * 99999999\n",
}


@pytest.mark.parametrize("style", sorted(UNKNOWN_STYLES))
def test_what_only_a_run_knows_is_said_to_be_computed(style: str, tmp_path: Path) -> None:
    path = tmp_path / "jupyterhub_config.py"
    path.write_text(UNKNOWN_STYLES[style], encoding="utf-8")
    config = read(path, machine=Machine())
    assert len(config.computed) == 1
    assert not config.values


@pytest.mark.parametrize(
    "text",
    [
        "while True:\n    c.JupyterHub.port = 1\n",
        "def f(n):\n    return f(n + 1)\nc.JupyterHub.port = f(0)\n",
        "x = [1]\nfor i in range(900):\n    x = x + [1]\nc.JupyterHub.hub_port = 8082\n",
        "x = 'a'\n" + "x = x + x\n" * 60 + "c.JupyterHub.hub_port = 8082\n",
        "(" * 500 + "1" + ")" * 500,
        "x = {}\nx['x'] = x\nc.JupyterHub.port = str(x)\n",
        "c.JupyterHub.port = 1\n" * 60_000,
    ],
)
def test_hostile_text_ends_soon(text: str, tmp_path: Path) -> None:
    path = tmp_path / "jupyterhub_config.py"
    path.write_text(text, encoding="utf-8")
    try:
        read(path, machine=Machine())
    except Exception as error:  # noqa: BLE001 the type is what is asserted
        assert type(error).__name__ == "InputError"


def test_a_condition_that_is_not_known_makes_the_value_uncertain(tmp_path: Path) -> None:
    path = tmp_path / "jupyterhub_config.py"
    path.write_text(
        "import socket\nif socket.gethostname() == 'hub1':\n    c.JupyterHub.port = 8001\nelse:\n    c.JupyterHub.port = 8002\n"
        "c.JupyterHub.hub_port = 8081\n"
    )
    config = read(path, machine=Machine())
    assert config.values == {"JupyterHub.port": 8001, "JupyterHub.hub_port": 8081}
    assert config.uncertain == ("JupyterHub.port",)


def test_a_class_keeps_its_bases_and_opaque_calls_are_named(tmp_path: Path) -> None:
    path = tmp_path / "jupyterhub_config.py"
    path.write_text(
        "from batchspawner import SlurmSpawner as S\nfrom elsewhere import configure\n"
        "class Mine(S):\n    batch_submit_cmd = 'sudo -E -u {username} sbatch'\n"
        "c.JupyterHub.spawner_class = Mine\nconfigure(c)\n"
    )
    config = read(path, machine=Machine())
    assert config.classes("JupyterHub.spawner_class") == ("Mine", "batchspawner.SlurmSpawner")
    assert config.opaque == ("configure()",)
