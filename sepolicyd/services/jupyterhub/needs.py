"""Requirements of the configuration and machine of a hub beyond the plain policy: booleans, and notes for the user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sepolicyd.problems import Problem, Severity
from sepolicyd.services.discovery import BooleanRequest
from sepolicyd.services.jupyterhub.classes import LOGINS, SPAWNERS, Login, Spawner, is_guess, kind_of
from sepolicyd.services.jupyterhub.config.settings import HubConfig, port_of
from sepolicyd.services.jupyterhub.config.values import ClassName
from sepolicyd.services.jupyterhub.host import HostFacts
from sepolicyd.services.unit_file import Unit

SPAWNER_CLASS, LOGIN_CLASS = "JupyterHub.spawner_class", "JupyterHub.authenticator_class"
MANY = 3
NETWORK_HOMES = {
    **dict.fromkeys(("nfs", "nfs4"), "use_nfs_home_dirs"),
    **dict.fromkeys(("cifs", "smb3", "smbfs"), "use_samba_home_dirs"),
    **dict.fromkeys(("fuse", "fuse.sshfs", "fuse.glusterfs", "glusterfs"), "use_fusefs_home_dirs"),
}
ROOT_SPAWNERS = {
    Spawner.SYSTEMD: (
        "{name} starts users' servers with systemd-run as root: a hub that has been broken into owns the machine",
        "without root: units jupyter-singleuser@.service that the hub may only start, docs/hubs.md",
    ),
    Spawner.CONTAINER: (
        "{name} needs the socket of a container engine, and write access to the engine of root means control of the machine",
        "use a rootless engine of the hub's user; users' servers run in container_t, outside of this policy",
    ),
}


def spawners_of(config: HubConfig) -> tuple[tuple[Spawner, str, tuple[str, ...]], ...]:
    """Return (kind, class, class with its bases) of each spawner; ProfilesSpawner offers several."""
    lineage = config.classes(SPAWNER_CLASS)
    profiles = config.objects.get("ProfilesSpawner.profiles")
    if any(name.rpartition(".")[2] in ("ProfilesSpawner", "WrapSpawner") for name in lineage) and isinstance(profiles, list):
        rows = [row[2] for row in profiles if isinstance(row, (list, tuple)) and len(row) > MANY - 1]
        lineages = [(row,) if isinstance(row, str) else _bases(row) for row in rows]
    else:
        lineages = [lineage]
    found = {line: kind_of(line, SPAWNERS, Spawner.LOCAL, Spawner.UNKNOWN) for line in lineages}
    return tuple((kind, line[0] if line else "LocalProcessSpawner", line) for line, kind in found.items())


def login_of(config: HubConfig) -> tuple[Login, tuple[str, ...]]:
    """Return the kind of login and its class with bases. MultiAuthenticator and the like count as unknown."""
    lineage = config.classes(LOGIN_CLASS)
    return kind_of(lineage, LOGINS, Login.PAM, Login.UNKNOWN), lineage


def _bases(value: object) -> tuple[str, ...]:
    return HubConfig(objects={"row": value}).classes("row")


def booleans_of(config: HubConfig, host: HostFacts, units: Sequence[str]) -> tuple[BooleanRequest, ...]:
    """Return the booleans of the module that the configuration and the machine ask for, each with the reason.

    :param units: names of the template units that start users' servers
    """
    wanted = [*_of_spawners(config, units), *_of_login(config, host), *_of_state(config), *_of_machine(config, host)]
    return tuple({name: BooleanRequest(name, why) for name, why in reversed(wanted)}.values())[::-1]


def _of_spawners(config: HubConfig, units: Sequence[str]) -> Iterator[tuple[str, str]]:
    for kind, name, lineage in spawners_of(config):
        if kind is Spawner.SYSTEMD:
            yield "jupyterhub_use_systemdspawner", f"spawner_class is {name}"
        if kind is Spawner.SUDO or (kind in (Spawner.SLURM, Spawner.BATCH) and _with_sudo(config, lineage)):
            yield "jupyterhub_use_sudospawner", f"spawner_class is {name}, which uses sudo"
        if kind is Spawner.SLURM:
            yield "jupyterhub_use_slurm", f"spawner_class is {name}"
    for name in units:
        yield "jupyterhub_use_user_units", f"{name} starts users' servers"


def _with_sudo(config: HubConfig, lineage: tuple[str, ...]) -> bool:
    """Tell whether a batch spawner submits with sudo. Its default is: sudo -E -u {username}."""
    classes = [*(name.rpartition(".")[2] for name in lineage), "BatchSpawnerBase"]
    own = config.objects.get(SPAWNER_CLASS)
    attributes = own.attributes if isinstance(own, ClassName) else {}
    texts = [config.text(*(f"{name}.{key}" for name in classes)) for key in ("exec_prefix", "batch_submit_cmd")]
    texts += [str(attributes.get(key, "")) for key in ("exec_prefix", "batch_submit_cmd")]
    prefixed = "exec_prefix" not in attributes and not any(f"{name}.exec_prefix" in config.values for name in classes)
    return prefixed or any("sudo" in text.split() for text in texts)


def _of_login(config: HubConfig, host: HostFacts) -> Iterator[tuple[str, str]]:
    kind, lineage = login_of(config)
    name = lineage[0] if lineage else "PAMAuthenticator"
    if kind is Login.WEB:
        yield "jupyterhub_connect_web", f"authenticator_class is {name}"
    if kind is Login.LDAP:
        yield "jupyterhub_connect_ldap", f"authenticator_class is {name}"
    creating = [key for key in config.values if key.endswith(".create_system_users") and config.values[key] is True]
    if creating or any("UserCreatingSpawner" in item for item in config.classes(SPAWNER_CLASS)):
        yield "jupyterhub_create_users", creating[0] if creating else "the spawner creates accounts"
    if host.pam_modules & {"pam_mkhomedir", "pam_oddjob_mkhomedir"}:
        yield "jupyterhub_create_homes", "PAM creates a home at the first login"
    if "pam_mkhomedir" in host.pam_modules and not host.helper_labelled:
        yield "jupyterhub_hub_write_homes", "mkhomedir_helper has no domain in this policy and runs in the hub's"


def _of_state(config: HubConfig) -> Iterator[tuple[str, str]]:
    database = config.text("JupyterHub.db_url").partition(":")[0]
    if database.startswith(("postgres", "mysql", "mariadb")):
        yield "jupyterhub_connect_db", f"db_url is a {database} server"
    hooks = [key for key in (*config.values, *config.objects, *config.computed) if key.endswith(".pre_spawn_hook")]
    if hooks:
        yield "jupyterhub_hub_write_homes", f"{hooks[0]} is set; only if it writes to users' homes"


def _of_machine(config: HubConfig, host: HostFacts) -> Iterator[tuple[str, str]]:
    for server, path in host.web_servers:
        if server in ("nginx", "Apache", "Caddy"):
            yield "jupyterhub_behind_httpd", f"{server} forwards to the hub ({path})"
    if host.devices:
        yield "jupyterhub_user_use_gpu", f"the machine has {host.devices[0]}"
    if host.exchange:
        yield "jupyterhub_user_write_courses", f"nbgrader hands out and in through {host.exchange}"
    if config.text("JupyterHub.bind_url").startswith("https://") and port_of(config.text("JupyterHub.bind_url"), 443) == 443:
        yield "jupyterhub_proxy_bind_http", "bind_url is an https address without a port"


def problems_of(config: HubConfig, host: HostFacts, unit: Unit | None) -> list[Problem]:
    """Return what a person must know of the configuration before its service is confined."""
    return [*_spawner_problems(config), *_login_problems(host), *_home_problems(host), *_service_problems(config, unit)]


def _spawner_problems(config: HubConfig) -> Iterator[Problem]:
    for kind, name, lineage in spawners_of(config):
        if kind in ROOT_SPAWNERS:
            what, hint = ROOT_SPAWNERS[kind]
            yield Problem(Severity.WARN, "I-root", what.format(name=name), hint)
        elif kind is Spawner.REMOTE:
            what = f"{name} starts users' servers on other machines: this policy confines the hub and the proxy here"
            yield Problem(Severity.NOTE, "I-spawner", what, "connections of the hub to them are learned")
        elif kind is Spawner.UNKNOWN:
            what = f"the spawner class {name} is not known: what it starts, and in which domain, must be seen in a lease"
            yield Problem(Severity.WARN, "I-spawner", what, "after a class has run: ps -eZ | grep jupyter")
        elif lineage and is_guess(lineage, SPAWNERS):
            yield Problem(Severity.NOTE, "I-spawner", f"by its name, {name} is taken for a {kind.value} spawner", "")
    if SPAWNER_CLASS in config.computed:
        what = "JupyterHub.spawner_class is computed, so how users' servers are started is not known"
        yield Problem(Severity.WARN, "I-computed", what, "set it to the name of a class")


def _login_problems(host: HostFacts) -> Iterator[Problem]:
    if "ldap" in host.name_services or host.pam_modules & {"pam_ldap"}:
        what = "names or logins come from LDAP without sssd, and the hub asks the LDAP server itself"
        yield Problem(Severity.WARN, "I-login", what, "setsebool -P authlogin_nsswitch_use_ldap on")
    if "pam_namespace" in host.pam_modules:
        what = "pam_namespace gives each session directories of its own, which needs rights to mount"
        yield Problem(Severity.WARN, "I-login", what, "leave it out of the hub's PAM service: PAMAuthenticator.service")


def _home_problems(host: HostFacts) -> Iterator[Problem]:
    for mount, kind in host.homes:
        boolean = NETWORK_HOMES.get(kind)
        if boolean:
            what = f"users' homes below {mount} are {kind}, whose files all have one type"
            yield Problem(Severity.WARN, "I-homes", what, f"setsebool -P {boolean} on")
        else:
            what = f"users' homes below {mount} are {kind}: whether it keeps labels decides what students' programs may do"
            yield Problem(Severity.WARN, "I-homes", what, f"look first: ls -Zd {mount}/*")


def _service_problems(config: HubConfig, unit: Unit | None) -> Iterator[Problem]:
    for entry in config.entries("JupyterHub.services"):
        if entry.get("command"):
            what = f"the hub starts the service {entry.get('name', '')!s}, which runs in the hub's domain with its rights"
            yield Problem(Severity.NOTE, "I-service", what, "a service with a unit of its own can have a domain of its own")
    if config.opaque:
        what = f"{', '.join(config.opaque[:MANY])} may set anything in the configuration, and was not followed"
        yield Problem(Severity.WARN, "I-opaque", what, "compare with: jupyterhub --show-config")
    capabilities = " ".join(unit.values.get("Service.AmbientCapabilities", ())) if unit else ""
    if unit and unit.user not in ("root", "0"):
        if "CAP_SETUID" in capabilities.upper():
            what = f"{unit.name} runs as {unit.user} with {capabilities}: without root, PAM cannot check other users' passwords"
            yield Problem(
                Severity.NOTE,
                "I-user",
                what,
                "unix_chkpwd checks only its caller's password; use sssd or another authenticator",
            )
        else:
            what = f"{unit.name} runs as {unit.user}, not as root: PAM logins of others and LocalProcessSpawner need root"
            yield Problem(Severity.WARN, "I-user", what, "with sudospawner, switch jupyterhub_use_sudospawner on")
