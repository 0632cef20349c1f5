"""Codes of problems that `init` reports for JupyterHub only."""

from __future__ import annotations

from sepolicyd.problems import ProblemCode


class JupyterHubCode(ProblemCode):
    """A problem that prevents or affects the confinement of a hub."""

    HOMES = ("I-homes", "Users' homes lie on a file system that needs a boolean of the base policy.", "nfs_selinux(8)")
    LOGIN = ("I-login", "The way of logging in needs a boolean of the base policy.", "pam(8), nsswitch.conf(5)")
    OPAQUE = ("I-opaque", "A call in the configuration may set anything; what it sets is not known.", "traitlets, Config")
    PROXY = ("I-proxy", "The proxy program was not found.", "JupyterHub's documentation, Proxy")
    ROOT = ("I-root", "The way of starting users' servers lets the hub act as root.", "JupyterHub's documentation, Spawners")
    SERVICE = ("I-service", "The hub starts a service, which runs in the hub's domain.", "JupyterHub's documentation, Services")
    SINGLEUSER = ("I-singleuser", "The program that runs users' code was not found.", "JupyterHub's documentation, Spawner.cmd")
    SPAWNER = ("I-spawner", "A class that starts users' servers is not known.", "JupyterHub's documentation, Spawners")
    TWO = ("I-two", "The machine has a second hub, and one module confines one.", "systemd.unit(5)")
