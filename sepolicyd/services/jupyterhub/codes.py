"""Codes of problems that `init` reports for JupyterHub only."""

from __future__ import annotations

from sepolicyd.problems import ProblemCode


class JupyterHubCode(ProblemCode):
    """A problem that prevents or affects the confinement of a hub."""

    PROXY = ("I-proxy", "The proxy program was not found.", "JupyterHub's documentation, Proxy")
    SINGLEUSER = ("I-singleuser", "The program that runs users' code was not found.", "JupyterHub's documentation, Spawner.cmd")
