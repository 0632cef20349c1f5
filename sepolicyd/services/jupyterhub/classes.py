"""The spawners, authenticators and proxies of JupyterHub that are in use, and what kind each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple, TypeVar


class Spawner(str, Enum):
    """How users' servers are started."""

    LOCAL = "local process"
    SYSTEMD = "systemdspawner"
    SUDO = "sudospawner"
    SLURM = "batchspawner, Slurm"
    BATCH = "batchspawner"
    CONTAINER = "container"
    REMOTE = "another machine"
    UNKNOWN = "unknown"


class Login(str, Enum):
    """How users log in."""

    PAM = "PAM"
    WEB = "OAuth, OpenID Connect, SAML or CAS"
    LDAP = "LDAP"
    KERBEROS = "Kerberos"
    OWN = "the hub's own"
    UNKNOWN = "unknown"


class Proxy(str, Enum):
    """What forwards browsers to users' servers."""

    HTTP_PROXY = "configurable-http-proxy"
    TRAEFIK = "traefik"
    UNKNOWN = "unknown"


class Kinds(NamedTuple):
    """Names by which one kind is recognised."""

    modules: tuple[str, ...] = ()
    """First part of the class's dotted name."""
    names: tuple[str, ...] = ()
    """Names of classes without their module, and entry points (setuptools, jupyterhub.spawners and the like)."""
    words: tuple[str, ...] = ()
    """Parts of a class's name that give the kind where nothing above does."""


SPAWNERS: Mapping[Spawner, Kinds] = {
    Spawner.SLURM: Kinds((), ("SlurmSpawner", "UserEnvSlurmSpawner"), ("slurm",)),
    Spawner.SYSTEMD: Kinds(("systemdspawner",), ("systemd", "SystemdSpawner"), ("systemd",)),
    Spawner.SUDO: Kinds(("sudospawner",), ("sudo", "SudoSpawner"), ("sudo",)),
    Spawner.BATCH: Kinds(("batchspawner",), (), ("torque", "pbs", "condor", "gridengine", "lsf", "moab", "batch")),
    Spawner.CONTAINER: Kinds(
        ("dockerspawner", "podmanspawner", "swarmspawner"),
        ("docker", "docker-swarm", "docker-system-user"),
        ("docker", "podman", "swarm", "container", "singularity", "apptainer"),
    ),
    Spawner.REMOTE: Kinds(
        ("kubespawner", "sshspawner", "yarnspawner"), (), ("kube", "ssh", "yarn", "remote", "dataproc", "fargate")
    ),
    Spawner.LOCAL: Kinds(
        ("jupyterhub", "simplespawner"), ("default", "localprocess", "simple", "LocalProcessSpawner"), ("localprocess",)
    ),
}
LOGINS: Mapping[Login, Kinds] = {
    Login.WEB: Kinds(
        ("oauthenticator", "ltiauthenticator", "samlauthenticator", "jhub_cas_authenticator"),
        (
            *("auth0", "azuread", "bitbucket", "cilogon", "generic-oauth", "github", "gitlab", "globus", "google", "mediawiki"),
            *("okpy", "openshift", "GenericOAuthenticator"),
        ),
        ("oauth", "openid", "oidc", "saml", "cas", "github", "gitlab", "google", "azure", "cilogon", "globus", "keycloak"),
    ),
    Login.LDAP: Kinds(("ldapauthenticator",), ("ldap", "LDAPAuthenticator"), ("ldap",)),
    Login.KERBEROS: Kinds(("kerberosauthenticator",), ("kerberos", "local-kerberos"), ("kerberos", "krb")),
    Login.PAM: Kinds((), ("default", "pam", "PAMAuthenticator", "LocalAuthenticator"), ("pam",)),
    Login.OWN: Kinds(
        (
            *("firstuseauthenticator", "nativeauthenticator", "tmpauthenticator", "dummyauthenticator"),
            "jhub_remote_user_authenticator",
        ),
        ("dummy", "null", "shared-password", "firstuse", "native", "tmp", "DummyAuthenticator", "NullAuthenticator"),
        ("dummy", "firstuse", "native", "remoteuser", "hash", "jwt", "lti"),
    ),
}
PROXIES: Mapping[Proxy, Kinds] = {
    Proxy.TRAEFIK: Kinds(("jupyterhub_traefik_proxy",), (), ("traefik",)),
    Proxy.HTTP_PROXY: Kinds((), ("default", "configurable-http-proxy", "ConfigurableHTTPProxy"), ()),
}
Kind = TypeVar("Kind", Spawner, Login, Proxy)


def kind_of(lineage: Sequence[str], table: Mapping[Kind, Kinds], unset: Kind, unknown: Kind) -> Kind:
    """Return the kind of a class.

    :param lineage: its dotted name and those of its bases, nearest first; () where the setting is not made
    :param unset: the kind of JupyterHub's default
    """
    if not lineage:
        return unset
    for dotted in lineage:
        module, name = dotted.partition(".")[0], dotted.rpartition(".")[2]
        for kind, known in table.items():
            if name in known.names or ("." in dotted and module in known.modules):
                return kind
    for dotted in lineage:
        lower = dotted.rpartition(".")[2].lower()
        for kind, known in table.items():
            if any(word in lower for word in known.words):
                return kind
    return unknown


def is_guess(lineage: Sequence[str], table: Mapping[Kind, Kinds]) -> bool:
    """Tell whether the kind follows only from a part of the class's name."""
    certain = {name for known in table.values() for name in known.names}
    modules = {name for known in table.values() for name in known.modules}
    return not any(
        dotted.rpartition(".")[2] in certain or ("." in dotted and dotted.partition(".")[0] in modules) for dotted in lineage
    )
