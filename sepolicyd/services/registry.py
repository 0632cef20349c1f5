"""Registry of services with discovery code of their own. No other file of the engine names a service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Optional

from sepolicyd.problems import ProblemCode
from sepolicyd.services.codes import SetupCode
from sepolicyd.services.discovery import Discovery
from sepolicyd.services.jupyterhub.codes import JupyterHubCode
from sepolicyd.services.jupyterhub.service import discover as jupyterhub
from sepolicyd.services.mosquitto.codes import MosquittoCode
from sepolicyd.services.mosquitto.service import discover as mosquitto


class ServiceCode(NamedTuple):
    """The code of one service."""

    discover: Discovery
    codes: Optional[type[ProblemCode]] = None
    """Codes of problems that occur for this service only."""


SERVICES: Mapping[str, ServiceCode] = {
    "jupyterhub": ServiceCode(jupyterhub, JupyterHubCode),
    "mosquitto": ServiceCode(mosquitto, MosquittoCode),
}


def discovery_of(profile: str) -> Optional[Discovery]:
    """Return the discovery function for a profile name, None if the profile describes the service fully."""
    return SERVICES[profile].discover if profile in SERVICES else None


def setup_codes() -> tuple[type[ProblemCode], ...]:
    """Return the problem codes of `init`: the general ones, then those of each service."""
    return (SetupCode, *(service.codes for service in SERVICES.values() if service.codes))
