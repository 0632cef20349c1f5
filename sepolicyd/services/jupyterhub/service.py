"""Discovery function for JupyterHub, as called by `init`."""

from __future__ import annotations

from pathlib import Path

from sepolicyd.services.discovery import Found
from sepolicyd.services.jupyterhub import discover as installations
from sepolicyd.services.jupyterhub import labels, needs

WEB_PORT_HINTS = {"public": "switch jupyterhub_proxy_bind_http on"}


def discover(root: Path, unit: str = "") -> Found:
    """Find the hub below a root; see :class:`sepolicyd.services.discovery.Discovery`."""
    found = installations.find(root, unit=unit)
    return Found(
        unit=found.unit,
        labels=(*labels.labels_of(found), *labels.code_labels(found)),
        ports=found.ports,
        web_port_hints=WEB_PORT_HINTS,
        configuration=found.config.files,
        booleans=needs.booleans_of(found.config, found.host, [unit.name for unit in found.user_units.values()]),
        problems=(*found.findings, *labels.problems_of(found), *needs.problems_of(found.config, found.host, found.unit)),
    )
