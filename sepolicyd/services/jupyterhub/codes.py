"""Codes of what `init` finds that only a JupyterHub has."""

from __future__ import annotations

from sepolicyd.problems import ProblemCode


class JupyterHubCode(ProblemCode):
    """What stands against confining a hub, or must be known before."""

    PROXY = ("I-proxy", "The proxy program was not found.", "JupyterHub's documentation, Proxy")
    SINGLEUSER = ("I-singleuser", "The program that runs users' code was not found.", "JupyterHub's documentation, Spawner.cmd")
