"""Discovery of a broker: files, listeners, bridges and plugins, through unit, drop-ins and included files."""

from __future__ import annotations

from pathlib import Path

import pytest

from sepolicyd.errors import InputError, RefusedError, UsageError
from sepolicyd.problems import stops
from sepolicyd.services.discovery import Found
from sepolicyd.services.mosquitto.service import discover
from tests.services.jupyterhub.machines import put
from tests.services.mosquitto.machines import RELEASES, put_broker, shipped

CONF = "/etc/mosquitto/mosquitto.conf"


def labels(found: Found) -> dict[str, str]:
    return {label.path + ("/" if label.tree else ""): label.type.removeprefix("mosquitto_") for label in found.labels}


def codes(found: Found) -> set[str]:
    return {problem.code for problem in found.problems}


def booleans(found: Found) -> set[str]:
    return {request.name.removeprefix("mosquitto_") for request in found.booleans}


@pytest.mark.parametrize("release", RELEASES)
def test_as_the_package_leaves_it(tmp_path: Path, release: str) -> None:
    put_broker(tmp_path, release=release)
    found = discover(tmp_path)
    expected = {
        "/etc/mosquitto/": "etc_t",
        "/usr/sbin/mosquitto": "exec_t",
        "/var/lib/mosquitto/": "var_lib_t",
        "/var/log/mosquitto/": "log_t",
    }
    if release == "debian12":  # in 13 the line of the pid file is a comment
        expected["/run/mosquitto/"] = "runtime_t"
    assert labels(found) == expected
    assert found.ports == {"mqtt": (1883,), "mqtt over TLS": (), "websockets": (), "bridge": ()}
    assert (found.unit_name, found.problems, found.booleans) == ("mosquitto.service", (), ())
    assert found.configuration == (CONF,)


def test_listeners_keys_plugins_and_a_bridge(tmp_path: Path) -> None:
    put_broker(tmp_path, shipped("traced.conf"))
    found = discover(tmp_path)
    assert found.ports == {"mqtt": (1883,), "mqtt over TLS": (8883,), "websockets": (9001,), "bridge": (2883,)}
    assert labels(found) == {
        "/etc/mosquitto/": "etc_t",
        "/etc/mosquitto/certs/server.key": "secret_t",
        "/etc/mosquitto/passwd": "secret_t",
        "/run/mosquitto/": "runtime_t",
        "/srv/mqttweb/": "content_t",
        "/usr/sbin/mosquitto": "exec_t",
        "/var/lib/mosquitto/": "var_lib_t",
        "/var/log/mosquitto/": "log_t",
    }
    assert booleans(found) == {"connect_brokers"}
    assert found.configuration == (CONF, "/etc/mosquitto/conf.d/local.conf")
    assert found.problems == ()


def test_files_outside_the_usual_directories(tmp_path: Path) -> None:
    local = """
    password_file /srv/mqtt/passwd
    acl_file /srv/mqtt/acl
    plugin /srv/mqtt/plugins/auth.so
    plugin_opt_config_file /srv/mqtt/users/users.json
    plugin_load sqlite /opt/mqtt/persist.so
    log_dest file /var/log/mqtt.log
    listener 8884
    keyfile keys/server.key
    capath /etc/ssl/certs
    """
    put_broker(tmp_path, local, drop_in="[Service]\nWorkingDirectory=/srv/mqtt\nStateDirectory=mqtt\n")
    found = labels(discover(tmp_path))
    assert (
        found.items()
        >= {
            "/srv/mqtt/passwd": "secret_t",
            "/srv/mqtt/acl": "etc_t",
            "/srv/mqtt/plugins/auth.so": "lib_t",
            "/srv/mqtt/users/": "var_lib_t",
            "/srv/mqtt/keys/server.key": "secret_t",
            "/var/log/mqtt.log": "log_t",
            "/var/lib/mqtt/": "var_lib_t",
        }.items()
    )
    # code below /opt has lib_t or usr_t by the base policy, and certificates of the system are shared
    assert not {"/opt/mqtt/persist.so", "/etc/ssl/certs/", "/var/log/"} & set(found)


def test_a_drop_in_may_name_another_configuration(tmp_path: Path) -> None:
    put_broker(tmp_path, drop_in="[Service]\nExecStart=\nExecStart=/usr/sbin/mosquitto -p 1885 -c /srv/site/broker.conf\n")
    put(tmp_path, "/srv/site/broker.conf", "include_dir parts\ninclude_dir /srv/site/parts\n")
    with pytest.raises(InputError, match="include_dir /parts"):
        discover(tmp_path)
    put(tmp_path, "/srv/site/broker.conf", "include_dir /srv/site/parts\npersistence true\npersistence_location /srv/site/db\n")
    put(tmp_path, "/srv/site/parts/B.conf", "listener 1886\ninclude_dir /never\n")
    put(tmp_path, "/srv/site/parts/a.conf", "certfile /srv/site/cert.pem\n")  # read after B: it belongs to that listener
    put(tmp_path, "/srv/site/parts/c.txt", "listener 9999\n")
    found = discover(tmp_path)
    assert found.ports == {"mqtt": (1885,), "mqtt over TLS": (1886,), "websockets": (), "bridge": ()}
    assert labels(found).items() >= {"/srv/site/": "etc_t", "/srv/site/db/": "var_lib_t"}.items()
    assert found.configuration == ("/srv/site/broker.conf", "/srv/site/parts/B.conf", "/srv/site/parts/a.conf")


@pytest.mark.parametrize(
    ("local", "ports"),
    [
        ("listener 1884 127.0.0.1", (1884,)),
        ("port 1884\nlistener 1885", (1884, 1885)),
        ("bind_address 127.0.0.1", (1883,)),
        ("listener 0 /run/mosquitto/s.sock", ()),
        ("listener 99999", ()),
        ("listener  1884  ::1\n\tlistener 1885\n#listener 1886", (1884, 1885)),
    ],
)
def test_which_listeners_are_open(tmp_path: Path, local: str, ports: tuple[int, ...]) -> None:
    put_broker(tmp_path, local)
    assert discover(tmp_path).ports["mqtt"] == ports


@pytest.mark.parametrize(
    ("address", "ports"),
    [
        ("cloud.example.org", (1883,)),
        ("cloud.example.org:8884 10.0.0.1:1885", (8884, 1885)),
        ("[2001:db8::1]:8884", (8884,)),
        ("2001:db8::1", (1883,)),
    ],
)
def test_which_ports_bridges_use(tmp_path: Path, address: str, ports: tuple[int, ...]) -> None:
    put_broker(tmp_path, f"listener 8883\nkeyfile /k\nconnection a\naddresses {address}")
    assert discover(tmp_path).ports["bridge"] == ports


@pytest.mark.parametrize(
    ("local", "wanted"),
    [
        ("connection c\naddress h:443", {"connect_brokers", "connect_web"}),
        ("listener 443\nprotocol websockets", {"bind_http"}),
        ("listener 883", {"bind_http"}),
        ("auth_plugin /usr/lib/auth.so\nauth_opt_backends mysql,jwt", {"connect_db"}),
        ("plugin /usr/lib/mosquitto-postgres.so", {"connect_db"}),
        ("listener 1024", set()),
    ],
)
def test_the_configuration_names_its_booleans(tmp_path: Path, local: str, wanted: set[str]) -> None:
    put_broker(tmp_path, local)
    assert booleans(discover(tmp_path)) == wanted


@pytest.mark.parametrize(
    ("local", "code", "stopped"),
    [
        ("persistence_location /var/lib/", "I-shared", True),
        ("plugin /home/admin/auth.so", "I-home", True),
        ("listener 8883\nkeyfile /etc/letsencrypt/live/h/privkey.pem", "I-key", False),
        ("listener 0 /tmp/mqtt.sock", "I-socket", False),
        ("plugin_opt_config_file /etc/mosquitto/users.json", "I-written", False),
        ("user root", "I-root", False),
    ],
)
def test_what_must_be_known_before(tmp_path: Path, local: str, code: str, stopped: bool) -> None:
    put_broker(tmp_path, local)
    found = discover(tmp_path)
    assert codes(found) == {code}
    assert bool(stops(found.problems)) is stopped


def test_links_are_followed_inside_the_root(tmp_path: Path) -> None:
    """certbot's live/ is links; a configuration that is a link must not be read from the machine on which init runs."""
    put_broker(tmp_path, "listener 8883\nkeyfile /etc/mosquitto/certs/server.key\nlistener 0 /var/run/mqtt/s.sock")
    certs = tmp_path / "etc/mosquitto/certs"
    certs.mkdir()
    (certs / "server.key").symlink_to("/etc/letsencrypt/live/h/privkey.pem")
    (tmp_path / "etc/mosquitto/conf.d/linked.conf").symlink_to("/srv/linked.conf")
    put(tmp_path, "/srv/linked.conf", "listener 1899\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "var/run").symlink_to("/run")
    found = discover(tmp_path)
    assert "I-key" in codes(found)
    assert "/etc/mosquitto/certs/server.key" not in labels(found)
    assert labels(found)["/run/mqtt/"] == "runtime_t"
    assert 1899 in found.ports["mqtt"]
    (tmp_path / "etc/mosquitto/conf.d/broken.conf").symlink_to("/srv/missing.conf")
    with pytest.raises(InputError, match=r"broken\.conf cannot be read"):
        discover(tmp_path)


@pytest.mark.parametrize(
    ("start", "code"),
    [
        ("/usr/bin/nice -n 5 /usr/sbin/mosquitto -c /etc/mosquitto/mosquitto.conf", "I-wrapper"),
        ("/usr/sbin/mosquitto -c /etc/mosquitto/other.conf", "I-config"),
        ("/usr/sbin/mosquitto -v", "I-config"),
    ],
)
def test_a_unit_that_starts_it_otherwise(tmp_path: Path, start: str, code: str) -> None:
    put_broker(tmp_path, drop_in=f"[Service]\nExecStart=\nExecStart={start}\n")
    found = discover(tmp_path)
    assert codes(found) == {code}
    assert labels(found)["/usr/sbin/mosquitto"] == "exec_t"
    assert found.ports["mqtt"] == (1883,)


def test_where_init_has_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="not installed"):
        discover(tmp_path)
    with pytest.raises(UsageError, match="no unit"):
        discover(tmp_path, "mqtt.service")
    put_broker(tmp_path, drop_in="[Service]\nExecStart=\nExecStart=/usr/bin/podman run eclipse-mosquitto\n")
    with pytest.raises(RefusedError, match="podman"):
        discover(tmp_path)
    put(tmp_path, "/run/.containerenv")
    with pytest.raises(RefusedError, match="is a container"):
        discover(tmp_path)


def test_without_a_unit_the_usual_places_are_taken(tmp_path: Path) -> None:
    put_broker(tmp_path, "listener 1890")
    (tmp_path / "usr/lib/systemd/system/mosquitto.service").unlink()
    found = discover(tmp_path)
    assert codes(found) == {"I-unit"}
    assert found.ports["mqtt"] == (1890,)


def test_program_and_unit_in_the_places_of_fedora(tmp_path: Path) -> None:
    """Since Fedora 42 /usr/sbin is a link to /usr/bin."""
    put(tmp_path, "/usr/bin/mosquitto", "\x7fELF", mode=0o755)
    (tmp_path / "usr/sbin").symlink_to("bin")
    put(tmp_path, "/usr/lib/systemd/system/mosquitto.service", shipped("debian13.service"))
    put(tmp_path, CONF, "# every line of it is a comment\n")
    found = discover(tmp_path)
    assert labels(found) == {"/etc/mosquitto/": "etc_t", "/usr/bin/mosquitto": "exec_t"}
    assert found.ports["mqtt"] == (1883,)
