"""The services that have discovery code of their own. No other file of the engine knows a service by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from sepolicyd.services.discovery import Discovery
from sepolicyd.services.jupyterhub.service import discover as jupyterhub

DISCOVERIES: Mapping[str, Discovery] = {"jupyterhub": jupyterhub}


def discovery_of(profile: str) -> Optional[Discovery]:
    """Return the discovery of the service with this profile name, None for a service that its profile describes fully."""
    return DISCOVERIES.get(profile)
